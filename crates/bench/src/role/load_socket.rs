//! The socket of a client of the load: plain, or TLS over it. Blocking while it opens, and then not.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream as BlockingStream};
use std::sync::Arc;
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{BenchError, Trying as _};

/// How long one answer may take while it opens.
const LOGIN: Duration = Duration::from_secs(20);

/// Clients of one source address: each has some 28,000 ports to the same server, of which those that were closed are taken
/// for a minute.
const PER_SOURCE: usize = 4000;

/// Of a client that stalls: its receive buffer, and the size of its segments, by which the other end measures its send
/// buffer. Over loopback those of the system hide megabytes that nobody reads.
const STALLED_BUFFER: usize = 4096;
const STALLED_SEGMENT: u32 = 1400;

/// A socket that blocks, until it is open.
pub(crate) struct OpeningSocket {
    tcp: BlockingStream,
    tls: Option<Box<ClientConnection>>,
}

impl OpeningSocket {
    /// Connects client `number`, with deadlines for what follows, and shakes hands if there is a configuration for it. One that is
    /// to stall takes little before the other end notices.
    pub(crate) fn connect(
        target: SocketAddr,
        number: usize,
        is_stalled: bool,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Result<Self, BenchError> {
        let mut tcp = connect(target, number, is_stalled).doing(|| format!("cannot connect to {target}"))?;
        let Some(config) = tls else { return Ok(Self { tcp, tls: None }) };
        let name = ServerName::try_from("localhost").expect("it is a name");
        let session = ClientConnection::new(Arc::clone(config), name);
        let mut session = session.map_err(|error| BenchError::failed(format!("TLS: {error}")))?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp).doing(|| format!("no TLS with {target}"))?;
        }
        Ok(Self { tcp, tls: Some(Box::new(session)) })
    }

    /// Writes everything.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        write(&mut self.tcp, self.tls.as_deref_mut(), bytes)
    }

    /// Reads some bytes.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read(&mut self.tcp, self.tls.as_deref_mut(), buffer)
    }

    /// It blocks no more.
    pub(crate) fn opened(self) -> Result<LoadSocket, BenchError> {
        self.tcp.set_nonblocking(true).doing(|| "cannot make a socket nonblocking".to_owned())?;
        Ok(LoadSocket { tcp: TcpStream::from_std(self.tcp), tls: self.tls })
    }
}

fn connect(target: SocketAddr, number: usize, is_stalled: bool) -> io::Result<BlockingStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if is_stalled {
        socket.set_recv_buffer_size(STALLED_BUFFER)?;
        socket.set_tcp_mss(STALLED_SEGMENT)?;
    }
    if let SocketAddr::V4(address) = target
        && *address.ip() == Ipv4Addr::LOCALHOST
    {
        let source = Ipv4Addr::new(127, 0, 0, 2 + (number / PER_SOURCE) as u8);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect_timeout(&target.into(), LOGIN)?;
    let tcp = BlockingStream::from(socket);
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(LOGIN))?;
    Ok(tcp)
}

/// A socket that does not block.
pub(crate) struct LoadSocket {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl LoadSocket {
    /// Events of what can be read come with this token.
    pub(crate) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.tcp.register(registry, token, Interest::READABLE)
    }

    /// Writes everything: messages are far smaller than the buffer of a socket.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        write(&mut self.tcp, self.tls.as_deref_mut(), bytes)
    }

    /// Whether a read that filled less than its buffer may have left something: TLS reads records, not what was asked for.
    pub(crate) const fn holds_more(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads some bytes. Fewer than there is room for, without TLS: there are no more, and an event will tell of the next.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read(&mut self.tcp, self.tls.as_deref_mut(), buffer)
    }
}

fn write(socket: &mut impl Write, tls: Option<&mut ClientConnection>, bytes: &[u8]) -> io::Result<()> {
    let Some(tls) = tls else { return socket.write_all(bytes) };
    tls.writer().write_all(bytes)?;
    while tls.wants_write() {
        tls.write_tls(socket)?;
    }
    Ok(())
}

/// Over TLS records are read until some hold data, or the socket has no more.
fn read(socket: &mut impl Read, tls: Option<&mut ClientConnection>, buffer: &mut [u8]) -> io::Result<usize> {
    let Some(tls) = tls else { return socket.read(buffer) };
    loop {
        match tls.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
        if tls.read_tls(socket)? == 0 {
            return Ok(0);
        }
        tls.process_new_packets().map_err(io::Error::other)?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_client_that_stalls_takes_little_before_the_other_end_has_to_wait() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _client = OpeningSocket::connect(listener.local_addr().unwrap(), 0, true, None).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        // Blocking, so that what the client's end takes is waited for.
        server.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut taken = 0;
        while let Ok(wrote) = server.write(&[0; 4096]) {
            taken += wrote;
            assert!(taken < 160 * 1024, "it takes everything");
        }
    }
}
