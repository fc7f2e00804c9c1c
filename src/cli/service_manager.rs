//! What systemd, or another manager that speaks its protocol, is told of this process: lines of `KEY=value` in a datagram to the
//! Unix socket that `NOTIFY_SOCKET` names, as sd_notify(3) describes it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tracing::warn;

/// The variable in which the manager names its socket.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// What the process may take behind its hard stop until it is gone.
const END_MARGIN: Duration = Duration::from_secs(10);

/// Bytes of a status, for a person who asks how the service is.
const MAX_STATUS: usize = 512;

/// Whoever started this process, if they want to be told anything.
#[derive(Debug, Clone)]
pub(crate) struct ServiceManager(Option<Arc<UnixDatagram>>);

impl ServiceManager {
    /// That of the environment. One that cannot be reached is as good as none: the log says so, and the gateway serves.
    pub(crate) fn of_environment() -> Self {
        let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else {
            return Self(None);
        };
        match connect(&name) {
            Ok(socket) => Self(Some(Arc::new(socket))),
            Err(error) => {
                warn!(event = "service_manager", %error, "{VARIABLE} names {name:?}, and nobody can be told there");
                Self(None)
            }
        }
    }

    /// The listeners are open. Links to logic services need not be there: a manager that waited for them would take a gateway for
    /// broken, and start it again and again, while it is a login service that is down.
    pub(crate) fn ready(&self) {
        self.tell(&format!("READY=1\n{}", status("serving")));
    }

    /// The configuration is read again from now on; [`Self::reloaded`] follows.
    pub(crate) fn reloading(&self) {
        // By this time the manager tells this reload from one that it did not ask for.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}\n{}", now.as_micros(), status("reloading")));
    }

    /// How that went: with the reason why what was read is refused.
    pub(crate) fn reloaded(&self, refused: Option<&str>) {
        let text = refused
            .map_or("serving".to_owned(), |why| format!("serving; the last reload was refused: {why}"));
        self.tell(&format!("READY=1\n{}", status(&text)));
    }

    /// It drains, and is gone within this time and a margin; the manager must wait so long, whatever its unit says.
    pub(crate) fn stopping(&self, hard_stop: Duration) {
        let limit = (hard_stop + END_MARGIN).as_micros();
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={limit}\n{}", status("draining")));
    }

    fn tell(&self, lines: &str) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = socket.send(lines.as_bytes()) {
            warn!(event = "service_manager", %error, "it was not told: {}", lines.replace('\n', " "));
        }
    }
}

/// A socket that is written to without waiting.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address(name)?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A path, or on Linux `@` and a name that is no file.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::ffi::OsStrExt as _;

        if let Some(name) = name.as_bytes().strip_prefix(b"@") {
            return SocketAddr::from_abstract_name(name);
        }
    }
    SocketAddr::from_pathname(name)
}

/// On one line, and of a bounded length.
fn status(text: &str) -> String {
    let mut line = format!("STATUS={}", text.replace('\n', " "));
    line.truncate(line.floor_char_boundary(MAX_STATUS));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn a_refused_reload_is_told_on_one_line_of_bounded_length() {
        let (socket, manager) = UnixDatagram::pair().unwrap();
        let manager = ServiceManager(Some(Arc::new(manager)));
        manager.reloaded(Some("a\nb"));
        assert_eq!(told(&socket), "READY=1\nSTATUS=serving; the last reload was refused: a b");
        manager.reloaded(Some(&"ü".repeat(MAX_STATUS)));
        assert!(told(&socket).len() <= "READY=1\n".len() + MAX_STATUS);
        manager.stopping(Duration::from_secs(30));
        assert_eq!(told(&socket), "STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000\nSTATUS=draining");
    }

    #[test]
    fn nobody_and_a_manager_that_is_gone_are_no_hindrance() {
        ServiceManager(None).ready();
        let (socket, manager) = UnixDatagram::pair().unwrap();
        drop(socket);
        ServiceManager(Some(Arc::new(manager))).ready();
    }
}
