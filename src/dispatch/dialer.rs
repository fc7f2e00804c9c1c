//! Opens a connection to a logic instance and shakes hands on it (protocol §5).

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use prost::Message as _;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::limits::LiveLimits;
use crate::resolve::{ResolveError, Resolver, TcpConnectError, host_and_port};
use crate::wire::frame::{self, Opcode};
use crate::wire::pb;

/// No connection came about. The instance's side is at fault, or the network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

/// Dials logic services as one gateway id.
#[derive(Debug)]
pub(crate) struct TcpDialer {
    gate_id: String,
    limits: Rc<LiveLimits>,
    resolver: Resolver,
}

impl TcpDialer {
    pub(crate) const fn new(gate_id: String, limits: Rc<LiveLimits>, resolver: Resolver) -> Self {
        Self { gate_id, limits, resolver }
    }

    /// Connects, says who this gateway is, and asks for a first sign of life with a ping: the handshake itself is
    /// never answered. Of several addresses only the one that is returned hears a word: an instance must not meet the
    /// same gateway twice.
    ///
    /// # Errors
    /// [`DialError`]. Cancel safe: a connection that was not returned is closed.
    pub(crate) async fn dial_and_handshake(&self, address: &str) -> Result<TcpStream, DialError> {
        let limits = self.limits.now();
        let deadline = Instant::now() + limits.backend_dial;
        let (host, port) = host_and_port(address)?;
        let connected = self.resolver.connect(host, port, deadline).await;
        let stream = connected.map_err(|error| match error {
            TcpConnectError::Resolve(error) => DialError::Resolve(error),
            TcpConnectError::Io(error) => DialError::Io(error),
            TcpConnectError::Timeout => DialError::Timeout(limits.backend_dial),
        })?;
        stream.set_nodelay(true)?;
        // Unacknowledged bytes for as long as silence is suffered break the connection (row E18).
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&stream)
            .set_tcp_user_timeout(Some(limits.backend_ping * limits.backend_misses))?;
        self.shake_hands(stream, deadline).await
    }

    /// A stream on which this was not written whole is closed: it has half a frame (row E20).
    async fn shake_hands<S>(&self, mut stream: S, deadline: Instant) -> Result<S, DialError>
    where
        S: AsyncWrite + Unpin,
    {
        let handshake = pb::InnerHandshakeReq { service_id: self.gate_id.clone() };
        let frames =
            [frame::encode(Opcode::Binary, &handshake.encode_to_vec()), frame::encode(Opcode::Ping, &[])]
                .concat();
        match timeout_at(deadline, stream.write_all(&frames)).await {
            Ok(written) => written.map(|()| stream).map_err(DialError::Io),
            Err(_) => Err(DialError::Timeout(self.limits.now().backend_dial)),
        }
    }

    /// The instance at `address` gave no sign of life there: another of its addresses is tried first.
    pub(crate) fn avoid(&self, address: &str, there: SocketAddr) {
        if let Ok((host, _)) = host_and_port(address) {
            self.resolver.avoid(host, there);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::limits::Limits;
    use crate::resolve::testing::{both, silent_and_listening};

    const SILENCE: Duration = Duration::from_secs(6);

    fn dialer(deadline: Duration) -> TcpDialer {
        let limits = Limits {
            backend_dial: deadline,
            backend_ping: SILENCE / 3,
            backend_misses: 3,
            ..Limits::default()
        };
        TcpDialer::new("gate01".to_owned(), LiveLimits::new(limits), Resolver::new(|_: &str| Ok(both())))
    }

    fn hello() -> Vec<u8> {
        let handshake = pb::InnerHandshakeReq { service_id: "gate01".to_owned() }.encode_to_vec();
        [frame::encode(Opcode::Binary, &handshake), frame::encode(Opcode::Ping, &[])].concat()
    }

    #[tokio::test]
    async fn h14_an_instance_is_linked_over_its_second_address_when_the_first_is_silent() {
        let (_silent, second) = silent_and_listening();
        let second = TcpListener::from_std(second).unwrap();
        let address = format!("chat:{}", second.local_addr().unwrap().port());
        let stream = dialer(Duration::from_secs(3)).dial_and_handshake(&address).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), second.local_addr().unwrap());
        let (mut service, _) = second.accept().await.unwrap();
        let mut seen = vec![0; hello().len()];
        service.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, hello());
    }

    #[tokio::test]
    async fn e20_a_handshake_that_is_not_written_in_time_ends_the_connection() {
        let (mut service, stream) = tokio::io::duplex(10);
        let deadline = Instant::now() + Duration::from_millis(50);
        let cut = dialer(Duration::from_millis(50)).shake_hands(stream, deadline).await;
        assert!(matches!(cut, Err(DialError::Timeout(_))), "{cut:?}");
        let mut seen = Vec::new();
        let ended = tokio::time::timeout(SILENCE, service.read_to_end(&mut seen)).await;
        ended.expect("the connection is closed").unwrap();
        assert_eq!(seen, hello()[..10], "and then the end");
    }

    /// What reaches no peer is unacknowledged: pings find a peer that is silent, this one that cannot hear.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn e18_a_link_breaks_when_what_it_sends_is_not_acknowledged_for_as_long_as_silence_is_suffered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stream = dialer(Duration::from_secs(3)).dial_and_handshake(&address).await.unwrap();
        assert_eq!(socket2::SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(SILENCE));
        let (mut service, _) = listener.accept().await.unwrap();
        let mut seen = vec![0; hello().len()];
        service.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, hello());
    }

    #[tokio::test]
    async fn e8_a_dial_that_is_refused_or_hangs_ends_in_its_time() {
        let dialer = dialer(Duration::from_millis(50));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        assert!(matches!(dialer.dial_and_handshake(&closed).await, Err(DialError::Io(_))));
        // A backlog that is full takes no connection and refuses none.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(0).unwrap();
        let address = full.local_addr().unwrap();
        let _first = TcpStream::connect(address).await.unwrap();
        let hanging = dialer.dial_and_handshake(&address.to_string()).await;
        assert!(matches!(hanging, Err(DialError::Timeout(_))), "{hanging:?}");
    }
}
