//! Binds the listening sockets, one of each address for every worker; dual-stack where the machine allows it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tracing::warn;

use super::start_error::StartError;
use crate::limits::LISTEN_BACKLOG;

/// Asked for both directions of a UDP socket; the kernel grants what it allows. Its default holds fewer than 200
/// small datagrams.
const UDP_BUFFER: usize = 4 * 1024 * 1024;

/// How often another free port is asked for when a stranger took the one that was to be shared.
const FREE_PORT_TRIES: usize = 8;

/// Shares a port with the sockets of other workers, or has it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortSharing {
    Alone,
    Shared,
}

/// A socket that waits for clients.
pub(super) trait ListeningSocket: Sized {
    /// Binds, and listens where there is such a thing.
    fn bind(address: SocketAddr, sharing: PortSharing) -> io::Result<Self>;

    /// Where it is bound.
    fn address(&self) -> io::Result<SocketAddr>;
}

impl ListeningSocket for TcpListener {
    fn bind(address: SocketAddr, sharing: PortSharing) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restarted gateway does not wait for its former connections' TIME_WAIT.
        socket.set_reuse_address(true)?;
        prepare(&socket, address, sharing)?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        Ok(socket.into())
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl ListeningSocket for UdpSocket {
    fn bind(address: SocketAddr, sharing: PortSharing) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        prepare(&socket, address, sharing)?;
        // More is better, and less is no reason not to start: see [`warn_of_small_buffers`].
        let _granted = socket.set_recv_buffer_size(UDP_BUFFER);
        let _granted = socket.set_send_buffer_size(UDP_BUFFER);
        socket.bind(&address.into())?;
        Ok(socket.into())
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

fn prepare(socket: &Socket, address: SocketAddr, sharing: PortSharing) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    match sharing {
        PortSharing::Alone => Ok(()),
        PortSharing::Shared => share_port(socket),
    }
}

#[cfg(unix)]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(unix))]
fn share_port(_socket: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The sockets of every address of a setting: for each address its group, for each worker one of the group, in the
/// order of the workers.
#[derive(Debug)]
pub(super) struct SocketGroups<S>(Vec<Vec<S>>);

impl<S: ListeningSocket> SocketGroups<S> {
    /// Binds every address once for each worker.
    pub(super) fn bind(
        setting: &'static str,
        addresses: &[SocketAddr],
        workers: usize,
    ) -> Result<Self, StartError> {
        Self::bind_with(setting, addresses, workers, |_| Ok(()))
    }

    /// The same; `join` sees the first socket of every group before the others are bound.
    fn bind_with(
        setting: &'static str,
        addresses: &[SocketAddr],
        workers: usize,
        join: impl Fn(&S) -> io::Result<()>,
    ) -> Result<Self, StartError> {
        let bind = |address: &SocketAddr| group(setting, *address, workers, &join);
        addresses.iter().map(bind).collect::<Result<_, _>>().map(Self)
    }

    /// Where the groups are bound.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|group| group.first()?.address().ok()).collect()
    }

    /// The sockets of the next worker, one of each group.
    pub(super) fn next_worker(&mut self) -> Vec<S> {
        self.0.iter_mut().filter(|group| !group.is_empty()).map(|group| group.remove(0)).collect()
    }
}

impl SocketGroups<UdpSocket> {
    /// A second handle to every socket that is not alone on its port. One that cannot be had is no reason not to
    /// start: it is missed only when a worker fails.
    pub(super) fn handles(&self) -> Vec<UdpSocket> {
        let shared = self.0.iter().filter(|group| group.len() > 1);
        shared.flatten().filter_map(|socket| socket.try_clone().ok()).collect()
    }
}

/// One warning for all UDP sockets that got smaller buffers than they asked for: bursts of packets are lost then, and
/// nothing else tells of it.
pub(super) fn warn_of_small_buffers(sockets: &SocketGroups<UdpSocket>) {
    let Some(socket) = sockets.0.iter().flatten().next() else { return };
    let socket = SockRef::from(socket);
    let granted =
        [("net.core.rmem_max", socket.recv_buffer_size()), ("net.core.wmem_max", socket.send_buffer_size())];
    let granted = granted.map(|(sysctl, size)| (sysctl, size.map(usable)));
    if let Some(advice) = buffer_advice(granted) {
        warn!(event = "udp_buffers", "{advice}");
    }
}

/// Linux reports twice what it granted, as it needs as much again for its own books.
const fn usable(size: usize) -> usize {
    if cfg!(target_os = "linux") { size / 2 } else { size }
}

/// What to set, if less was granted than asked for.
fn buffer_advice(granted: [(&str, io::Result<usize>); 2]) -> Option<String> {
    let known = granted.into_iter().filter_map(|(sysctl, size)| Some((sysctl, size.ok()?)));
    let small: Vec<_> = known.filter(|(_, size)| *size < UDP_BUFFER).collect();
    let smallest = small.iter().map(|(_, size)| *size).min()?;
    let settings: Vec<_> = small.iter().map(|(sysctl, _)| format!("{sysctl}={UDP_BUFFER}")).collect();
    Some(format!(
        "quic.listen: the system grants {smallest} bytes of the {UDP_BUFFER} asked for as UDP buffers, and bursts of \
         packets are lost; set `sysctl -w {}`",
        settings.join(" ")
    ))
}

/// UDP sockets, and how many workers share them.
pub(super) type UdpGroups = (SocketGroups<UdpSocket>, usize);

/// Binds the UDP addresses for as many workers as the kernel can steer packets to: all, or the first alone.
pub(super) fn bind_udp(
    setting: &'static str,
    addresses: &[SocketAddr],
    workers: usize,
    steer: impl Fn(&UdpSocket, usize) -> io::Result<()>,
) -> Result<UdpGroups, StartError> {
    if workers > 1 {
        match SocketGroups::bind_with(setting, addresses, workers, |first| {
            steer(first, workers).map_err(|error| io::Error::other(NoSteering(error)))
        }) {
            Err(StartError::Bind { error, .. })
                if error.get_ref().is_some_and(|cause| cause.is::<NoSteering>()) =>
            {
                warn!(
                    event = "no_steering", setting, %error,
                    "QUIC is served by the first worker alone; TCP and TLS by all of them"
                );
            }
            bound => return bound.map(|groups| (groups, workers)),
        }
    }
    SocketGroups::bind(setting, addresses, 1).map(|groups| (groups, 1))
}

/// The kernel cannot hand packets to the worker they belong to.
#[derive(Debug, thiserror::Error)]
#[error("packets cannot be steered to workers here: {0}")]
struct NoSteering(io::Error);

/// One address for every worker. It is first bound alone: SO_REUSEPORT would let a second gateway of the same user join in
/// silently and take half of the clients.
fn group<S: ListeningSocket>(
    setting: &'static str,
    asked: SocketAddr,
    workers: usize,
    join: &impl Fn(&S) -> io::Result<()>,
) -> Result<Vec<S>, StartError> {
    let mut tries = if asked.port() == 0 { FREE_PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let alone: S = bind_alone(setting, asked)?;
        if workers == 1 {
            return Ok(vec![alone]);
        }
        let failed = |address, error| StartError::Bind { setting, address, error };
        let address = alone.address().map_err(|error| failed(asked, error))?;
        drop(alone);
        match share(address, workers, join) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            shared => return shared.map_err(|error| failed(address, error)),
        }
    }
}

fn share<S: ListeningSocket>(
    address: SocketAddr,
    workers: usize,
    join: &impl Fn(&S) -> io::Result<()>,
) -> io::Result<Vec<S>> {
    let first = S::bind(address, PortSharing::Shared)?;
    join(&first)?;
    let mut group = vec![first];
    for _ in 1..workers {
        group.push(S::bind(address, PortSharing::Shared)?);
    }
    Ok(group)
}

fn bind_alone<S: ListeningSocket>(setting: &'static str, address: SocketAddr) -> Result<S, StartError> {
    let error = match S::bind(address, PortSharing::Alone) {
        Ok(socket) => return Ok(socket),
        Err(error) => error,
    };
    let no_ipv6 = error.kind() == io::ErrorKind::Unsupported
        || error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
        || error.raw_os_error() == Some(nix::errno::Errno::EADDRNOTAVAIL as i32);
    if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6 {
        let fallback = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        warn!(event = "no_ipv6", setting, %fallback, "IPv6 is off here; listening on IPv4 only");
        if let Ok(socket) = S::bind(fallback, PortSharing::Alone) {
            return Ok(socket);
        }
    }
    Err(StartError::Bind { setting, address, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::time::Duration;

    #[test]
    fn buffers_smaller_than_asked_for_are_one_warning_that_names_what_to_set() {
        let asked = || Ok(UDP_BUFFER);
        let (receive, send) = ("net.core.rmem_max", "net.core.wmem_max");
        assert_eq!(buffer_advice([(receive, asked()), (send, asked())]), None);
        let unknown = || Err(io::ErrorKind::Unsupported.into());
        assert_eq!(buffer_advice([(receive, unknown()), (send, asked())]), None);
        let advice = buffer_advice([(receive, Ok(212_992)), (send, asked())]).unwrap();
        assert!(advice.contains("grants 212992 bytes of the 4194304 asked for"), "{advice}");
        assert!(advice.ends_with("set `sysctl -w net.core.rmem_max=4194304`"), "{advice}");
        let advice = buffer_advice([(receive, Ok(212_992)), (send, Ok(100_000))]).unwrap();
        assert!(advice.contains("grants 100000 bytes"), "{advice}");
        assert!(advice.contains("rmem_max=4194304 net.core.wmem_max=4194304`"), "{advice}");
    }

    fn anywhere() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// While a worker is busy, or somebody floods it with connections, the kernel keeps those that are complete. It holds no
    /// more than `net.core.somaxconn`, which is 4,096 unless somebody made it smaller.
    #[test]
    fn d3_a_listener_holds_a_thousand_connections_that_nobody_has_accepted() {
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
        let most = most.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(128);
        let listener = <TcpListener as ListeningSocket>::bind(anywhere(), PortSharing::Alone).unwrap();
        let address = listener.local_addr().unwrap();
        for n in 0..most.min(1024) {
            // It goes at once, and stays in the queue all the same.
            let connected = TcpStream::connect_timeout(&address, Duration::from_secs(5));
            assert!(connected.is_ok(), "number {n}: {connected:?}");
        }
        for _ in 0..most.min(1024) {
            listener.accept().unwrap();
        }
    }

    #[test]
    fn every_worker_gets_a_socket_of_every_address() {
        let mut groups =
            SocketGroups::<TcpListener>::bind("tcp.listen", &[anywhere(), anywhere()], 3).unwrap();
        let bound = groups.addresses();
        assert_ne!(bound[0], bound[1]);
        for _ in 0..3 {
            let of_worker: Vec<_> = groups.next_worker().iter().map(|s| s.local_addr().unwrap()).collect();
            assert_eq!(of_worker, bound);
        }
        assert!(groups.next_worker().is_empty());
    }

    #[test]
    fn a_second_gateway_is_refused_however_many_workers_either_has() {
        for (first, second) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            let (udp, _) = bind_udp("quic.listen", &[anywhere()], first, |_, _| Ok(())).unwrap();
            let taken = udp.addresses();
            let error = bind_udp("quic.listen", &taken, second, |_, _| Ok(())).unwrap_err();
            assert!(error.to_string().contains("in use by another process"), "{first} and {second}: {error}");
            let tcp = SocketGroups::<TcpListener>::bind("tcp.listen", &[anywhere()], first).unwrap();
            let error =
                SocketGroups::<TcpListener>::bind("tcp.listen", &tcp.addresses(), second).unwrap_err();
            assert!(error.to_string().contains("in use by another process"), "{first} and {second}: {error}");
        }
    }

    #[test]
    fn without_steering_quic_belongs_to_the_first_worker_alone() {
        let cannot = |_: &UdpSocket, _| Err(io::ErrorKind::PermissionDenied.into());
        let (mut groups, workers) = bind_udp("quic.listen", &[anywhere(), anywhere()], 4, cannot).unwrap();
        assert_eq!(workers, 1);
        assert_eq!((groups.next_worker().len(), groups.next_worker().len()), (2, 0));
    }

    #[test]
    fn one_worker_never_asks_for_steering_and_never_shares_its_port() {
        let (mut groups, workers) =
            bind_udp("quic.listen", &[anywhere()], 1, |_, _| panic!("asked for steering")).unwrap();
        assert_eq!(workers, 1);
        let socket = groups.next_worker().remove(0);
        assert!(!SockRef::from(&socket).reuse_port().unwrap());
    }
}
