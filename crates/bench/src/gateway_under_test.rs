//! The gateway that is measured: this program as `serve`, with one worker, and a logic service behind it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bench::{ANY, BenchRun, free_address};
use crate::error::{BenchError, Trying as _};
use crate::process::{Process, RoleProcess};
use crate::role::control::Listening;
use crate::role::logic::{self, LogicService};

/// The key of tokens.
pub(crate) const SECRET: &str = "a secret of the bench, 32 bytes and more";

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(20);

/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(20);

/// How long its monitor may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// See the module. It ends with its handle.
pub(crate) struct GatewayUnderTest {
    process: Process,
    _logic: RoleProcess,
    /// TCP and QUIC.
    pub(crate) clients: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) websocket: SocketAddr,
}

impl GatewayUnderTest {
    /// Starts it and waits until it is ready. Pushes of its service have a body of so many bytes.
    pub(crate) fn start(bench: &BenchRun<'_>, push_body: usize) -> Result<Self, BenchError> {
        Self::start_admitting(bench, push_body, 0)
    }

    /// The same with a bound on new connections a second, 0 for none.
    pub(crate) fn start_admitting(
        bench: &BenchRun<'_>,
        push_body: usize,
        admitted: u32,
    ) -> Result<Self, BenchError> {
        let place = bench.scratch();
        make_certificates(bench)?;
        let service = LogicService { listen: ANY, push_body };
        let (logic, Listening { address }) = bench.role(logic::NAME, &service, bench.load_core())?;
        let [clients, tls, websocket, monitor] =
            [free_address()?, free_address()?, free_address()?, free_address()?];
        let route = r#"{"zones":[{"id":"zone_a","weight":1}]}"#;
        let write = |name: &str, text: &str| {
            fs::write(place.join(name), text).doing(|| format!("cannot write {name}"))
        };
        write("route.json", route)?;
        write("gateway.toml", &config([clients, tls, websocket, monitor], address, admitted))?;
        let mut command = Command::new(&bench.settings.program);
        command
            .args(["serve", "--config", "gateway.toml"])
            .current_dir(place)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let process = Process::start("gateway", command, bench.server_core(), place)?;
        let mut gateway = Self { process, _logic: logic, clients, tls, websocket };
        gateway.await_ready(monitor)?;
        Ok(gateway)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    fn await_ready(&mut self, monitor: SocketAddr) -> Result<(), BenchError> {
        let by = Instant::now() + READY;
        while !is_ready(monitor) {
            self.process.must_run()?;
            if Instant::now() >= by {
                return Err(self.process.blame("was not ready in time"));
            }
            sleep(LOOK);
        }
        Ok(())
    }
}

/// Whether its monitor says so.
fn is_ready(monitor: SocketAddr) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut socket = TcpStream::connect_timeout(&monitor, ANSWER)?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.write_all(b"GET /ready HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut head = vec![0; 64];
        let read = socket.read(&mut head)?;
        head.truncate(read);
        Ok(head)
    };
    ask().is_ok_and(|head| head.starts_with(b"HTTP/1.1 200"))
}

fn make_certificates(bench: &BenchRun<'_>) -> Result<(), BenchError> {
    let mut command = Command::new(&bench.settings.program);
    command.args(["certs", "--dir", "certs"]).current_dir(bench.scratch()).stdin(Stdio::null());
    let made = command.output().doing(|| "cannot make certificates".to_owned())?;
    if made.status.success() {
        return Ok(());
    }
    Err(BenchError::failed(format!("no certificates: {}", String::from_utf8_lossy(&made.stderr))))
}

/// One worker. Of the limits only those are off that bound what one client or one address may ask for: a bench asks for
/// more than any person.
fn config([clients, tls, websocket, monitor]: [SocketAddr; 4], logic: SocketAddr, admitted: u32) -> String {
    let mut text = format!(
        "[gateway]\nid = \"bench\"\nworkers = 1\n\
         [quic]\nlisten = \"{clients}\"\nkey_file = \"certs/quic.keys\"\n\
         [tcp]\nlisten = \"{clients}\"\ntls_listen = \"{tls}\"\n\
         [websocket]\nlisten = \"{websocket}\"\n\
         [tls]\ncert = \"certs/server.pem\"\nkey = \"certs/server.key\"\n\
         [auth]\nsecret = \"{SECRET}\"\n[route]\nfile = \"route.json\"\n\
         [monitor]\nlisten = \"{monitor}\"\n\
         [limits]\nframes_per_second = 0\nbytes_per_second = 0\nconnections_per_second = {admitted}\n\
         address_connections_per_second = 0\naddress_connections_share = 100\naddress_handshakes_share = 100\n\
         account_logins_per_second = 0\nretry_from_rate = 0\n"
    );
    for (service, id) in [("login", "login01"), ("chat", "chat01")] {
        text += &format!(
            "[[discovery.instances]]\nservice = \"{service}\"\nid = \"{id}\"\naddress = \"{logic}\"\n\
             zone = \"zone_a\"\n"
        );
    }
    text
}
