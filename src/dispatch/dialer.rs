//! Opens a connection to a logic instance and shakes hands on it (protocol §5).

use std::io;
use std::time::Duration;

use prost::Message as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wire::frame::{self, Opcode};
use crate::wire::pb;

/// No connection came about. The instance's side is at fault, or the network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

/// Dials logic services as one gateway id.
#[derive(Debug)]
pub(crate) struct TcpDialer {
    gate_id: String,
    deadline: Duration,
    /// Unacknowledged bytes for this long break the connection (row E18).
    user_timeout: Duration,
}

impl TcpDialer {
    pub(crate) const fn new(gate_id: String, deadline: Duration, user_timeout: Duration) -> Self {
        Self { gate_id, deadline, user_timeout }
    }

    /// Connects, says who this gateway is, and asks for a first sign of life with a ping: the handshake itself is
    /// never answered.
    ///
    /// # Errors
    /// [`DialError`]. Cancel safe: a connection that was not returned is closed.
    pub(crate) async fn dial_and_handshake(&self, address: &str) -> Result<TcpStream, DialError> {
        let dial = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            #[cfg(target_os = "linux")]
            socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(self.user_timeout))?;
            let handshake = pb::InnerHandshakeReq { service_id: self.gate_id.clone() };
            stream.write_all(&frame::encode(Opcode::Binary, &handshake.encode_to_vec())).await?;
            stream.write_all(&frame::encode(Opcode::Ping, &[])).await?;
            Ok(stream)
        };
        timeout(self.deadline, dial).await.map_err(|_| DialError::Timeout(self.deadline))?
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// What reaches no peer is unacknowledged: pings find a peer that is silent, this one that cannot hear.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn e18_a_link_breaks_when_what_it_sends_is_not_acknowledged_for_as_long_as_silence_is_suffered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silence = Duration::from_secs(6);
        let dialer = TcpDialer::new("gate01".to_owned(), Duration::from_secs(3), silence);
        let address = listener.local_addr().unwrap().to_string();
        let stream = dialer.dial_and_handshake(&address).await.unwrap();
        assert_eq!(socket2::SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(silence));
        let (mut service, _) = listener.accept().await.unwrap();
        let handshake = pb::InnerHandshakeReq { service_id: "gate01".to_owned() }.encode_to_vec();
        let expected = [frame::encode(Opcode::Binary, &handshake), frame::encode(Opcode::Ping, &[])].concat();
        let mut seen = vec![0; expected.len()];
        service.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, expected);
    }

    #[tokio::test]
    async fn e8_a_dial_that_is_refused_or_hangs_ends_in_its_time() {
        let dialer = TcpDialer::new("gate01".to_owned(), Duration::from_millis(50), Duration::from_secs(6));
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
