//! Binds the listening sockets, dual-stack where the machine allows it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

use super::StartError;

/// Pending connections of a TCP listener (row D3).
const BACKLOG: i32 = 1024;

/// Asked for both directions of a UDP socket; the kernel grants what it allows. Its default holds fewer than 200
/// small datagrams.
const UDP_BUFFER: usize = 4 * 1024 * 1024;

/// Binds every address of a setting.
pub(super) fn bind_all<T>(
    setting: &'static str,
    addresses: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, StartError> {
    addresses.iter().map(|address| bind_one(setting, *address, &bind)).collect()
}

fn bind_one<T>(
    setting: &'static str,
    address: SocketAddr,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<T, StartError> {
    let refused = match bind(address) {
        Ok(socket) => return Ok(socket),
        Err(error) => error,
    };
    let no_ipv6 = refused.kind() == io::ErrorKind::Unsupported
        || refused.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
        || refused.raw_os_error() == Some(nix::errno::Errno::EADDRNOTAVAIL as i32);
    if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6 {
        let fallback = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        warn!(event = "no_ipv6", setting, %fallback, "IPv6 is off here; listening on IPv4 only");
        if let Ok(socket) = bind(fallback) {
            return Ok(socket);
        }
    }
    let reason = match refused.kind() {
        io::ErrorKind::AddrInUse => {
            "the address is in use by another process; stop it, or choose another port".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports below 1024 need privileges, choose a higher one".to_owned()
        }
        _ => refused.to_string(),
    };
    Err(StartError::Bind { setting, address, reason })
}

/// A TCP listener.
pub(super) fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted gateway does not wait for its former connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    dual_stack(&socket, address)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A UDP socket with large buffers.
pub(super) fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    dual_stack(&socket, address)?;
    // More is better, and less is no reason not to start.
    let _granted = socket.set_recv_buffer_size(UDP_BUFFER);
    let _granted = socket.set_send_buffer_size(UDP_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn dual_stack(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_only_v6(!address.ip().is_unspecified()) } else { Ok(()) }
}
