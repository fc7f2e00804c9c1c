//! Which transport gets through, and what is remembered of it (row C22).

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{TcpListener as StdListener, UdpSocket};
use std::sync::Mutex;
use std::time::Instant as Clock;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::{Auto, Plain, TransportCache};
use rstest::rstest;

/// The promise: connected within it where UDP is blocked.
const PROMISED: Duration = Duration::from_secs(1);

/// A port of this machine where nothing answers over UDP, and whoever may believe the certificate of its neighbours.
struct Street {
    /// Bound, and never read by who should answer.
    udp: Option<UdpSocket>,
    /// Plain TCP at the same port.
    tcp: StdListener,
    identity: (rustls::ServerConfig, TrustedCa),
    /// Nobody speaks WebSocket here.
    no_web: (u16, tokio::net::TcpSocket),
}

impl Street {
    fn new() -> Self {
        let (udp, tcp) = (0..16)
            .find_map(|_| {
                let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
                let tcp = StdListener::bind(udp.local_addr().unwrap()).ok()?;
                Some((udp, tcp))
            })
            .expect("a port that is free for both");
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        Self { udp: Some(udp), tcp, identity: server_tls(b"x-im/1"), no_web: closed_port() }
    }

    fn port(&self) -> u16 {
        self.tcp.local_addr().unwrap().port()
    }

    /// Takes every TLS handshake. Dropped, it is closed.
    async fn tls(&self) -> (u16, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(self.identity.0.clone()));
        let task = tokio::spawn(async move {
            let mut accepted = Vec::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                accepted.push(acceptor.accept(socket).await);
            }
        });
        (port, AbortOnDropHandle::new(task))
    }

    /// Takes every upgrade over TLS. Dropped, it is closed.
    async fn web(&self) -> (u16, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tls = self.identity.0.clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let task = tokio::spawn(async move {
            let mut accepted = Vec::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(socket).await {
                    accepted.push(web::accept(stream).await);
                }
            }
        });
        (port, AbortOnDropHandle::new(task))
    }

    /// From now on QUIC answers; what comes back tells of every connection that has ended. Packets of an attempt that
    /// was given up before may still arrive, so not everyone who comes gets through.
    fn quic(&mut self) -> (mpsc::Receiver<()>, AbortOnDropHandle<()>) {
        self.udp = None;
        let gate = QuicGate::at(self.identity.clone(), self.port());
        let (ended, ends) = mpsc::channel(16);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Some(incoming) = gate.endpoint.accept().await {
                let ended = ended.clone();
                connections.spawn(async move {
                    if let Ok(connection) = incoming.await {
                        connection.closed().await;
                    }
                    let _ = ended.send(()).await;
                });
            }
        });
        (ends, AbortOnDropHandle::new(task))
    }

    fn auto(&self, tls_port: u16) -> Auto {
        let auto = Auto::new(format!("127.0.0.1:{}", self.port()), self.identity.1.clone());
        Auto { tls_port, wss_port: self.no_web.0, ..auto }
    }

    /// Who was heard over UDP since the last look. Every attempt has a socket of its own.
    fn heard(&self) -> BTreeSet<SocketAddr> {
        let udp = self.udp.as_ref().unwrap();
        std::iter::from_fn(|| Some(udp.recv_from(&mut [0; 2048]).ok()?.1)).collect()
    }

    /// Returns `true` if a plain connection was made since the last look.
    fn plain(&self) -> bool {
        match self.tcp.accept() {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    }
}

/// A port where nothing listens over TCP. It stays so while the socket lives, which takes no connections.
fn closed_port() -> (u16, tokio::net::TcpSocket) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap().port(), socket)
}

#[rstest]
#[tokio::test]
async fn c22_with_udp_blocked_tls_is_there_within_a_second_and_first_the_next_time(
    #[values(true, false)] silent: bool,
) {
    let mut street = Street::new();
    let (port, _tls) = street.tls().await;
    let auto = street.auto(port);
    let udp = street.udp.take().unwrap();
    // Dropped, the system says that the port is closed; kept, nobody says anything.
    street.udp = silent.then_some(udp);
    let begun = Clock::now();
    let connected = soon(auto.connect()).await.unwrap();
    assert!(begun.elapsed() < PROMISED, "{:?}", begun.elapsed());
    assert_eq!(connected.client.transport(), Transport::Tls);
    assert_eq!(auto.memory.remembered(&auto.options.server), Some(Transport::Tls));
    if silent {
        let heard = street.heard();
        assert_eq!(heard.len(), 1, "QUIC was tried once");
        let connected = soon(auto.clone().connect()).await.unwrap();
        assert_eq!(connected.client.transport(), Transport::Tls);
        // The first attempt may still say goodbye.
        assert!(street.heard().is_subset(&heard), "QUIC was tried again");
    }
    assert!(!street.plain());
}

#[tokio::test]
async fn quic_wins_where_it_works_and_tls_is_not_even_tried() {
    let mut street = Street::new();
    let _gate = street.quic();
    let tls = StdListener::bind("127.0.0.1:0").unwrap();
    tls.set_nonblocking(true).unwrap();
    let auto = street.auto(tls.local_addr().unwrap().port());
    let connected = soon(auto.connect()).await.unwrap();
    assert_eq!(connected.client.transport(), Transport::Quic);
    assert!(connected.failed.is_empty());
    assert_eq!(auto.memory.remembered(&auto.options.server), None);
    assert_eq!(tls.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(!street.plain());
}

#[tokio::test]
async fn c22_ten_minutes_later_quic_is_tried_in_the_background_and_used_the_next_time() {
    let now = Arc::new(Mutex::new(Instant::now()));
    let clock = Arc::clone(&now);
    let mut street = Street::new();
    let (port, _tls) = street.tls().await;
    let memory = TransportCache::with_clock(move || *clock.lock().unwrap());
    let auto = Auto { memory, ..street.auto(port) };
    soon(auto.connect()).await.unwrap();

    let (mut ended, _gate) = street.quic();
    let connected = soon(auto.connect()).await.unwrap();
    assert_eq!(connected.client.transport(), Transport::Tls, "it is remembered");
    *now.lock().unwrap() += Duration::from_secs(600);
    let connected = soon(auto.connect()).await.unwrap();
    assert_eq!(connected.client.transport(), Transport::Tls, "nobody waits for QUIC");
    // The memory is updated in the turn in which the probe says goodbye.
    while auto.memory.remembered(&auto.options.server).is_some() {
        soon(ended.recv()).await.unwrap();
    }
    let connected = soon(auto.connect()).await.unwrap();
    assert_eq!(connected.client.transport(), Transport::Quic);
}

#[tokio::test]
async fn where_the_remembered_tls_is_gone_quic_is_tried_at_once() {
    let mut street = Street::new();
    let (port, tls) = street.tls().await;
    let auto = street.auto(port);
    soon(auto.connect()).await.unwrap();
    drop(tls);
    tokio::task::yield_now().await;
    let _gate = street.quic();
    let connected = soon(auto.connect()).await.unwrap();
    assert_eq!(connected.client.transport(), Transport::Quic);
    assert!(matches!(&connected.failed[..], [(Transport::Tls, ConnectError::Tcp { .. })]), "{connected:?}");
    assert_eq!(auto.memory.remembered(&auto.options.server), None);
}

/// A network that lets the web through and nothing else.
#[tokio::test]
async fn c22_where_only_the_web_gets_through_wss_is_there_within_a_second_and_first_the_next_time() {
    let now = Arc::new(Mutex::new(Instant::now()));
    let clock = Arc::clone(&now);
    let street = Street::new();
    let (port, _closed) = closed_port();
    let (wss_port, _web) = street.web().await;
    let memory = TransportCache::with_clock(move || *clock.lock().unwrap());
    let auto = Auto { wss_port, memory, ..street.auto(port) };
    let begun = Clock::now();
    let connected = soon(auto.connect()).await.unwrap();
    assert!(begun.elapsed() < PROMISED, "{:?}", begun.elapsed());
    assert_eq!(connected.client.transport(), Transport::Wss);
    assert!(matches!(&connected.failed[..], [(Transport::Tls, ConnectError::Tcp { .. })]), "{connected:?}");
    assert_eq!(auto.memory.remembered(&auto.options.server), Some(Transport::Wss));

    let connected = soon(auto.connect()).await.unwrap();
    assert_eq!(connected.client.transport(), Transport::Wss);
    assert!(connected.failed.is_empty(), "others were tried: {connected:?}");

    // TLS works by now: it is found in the background, and used the next time.
    let (tls_port, _tls) = street.tls().await;
    let auto = Auto { tls_port, ..auto };
    *now.lock().unwrap() += Duration::from_secs(600);
    let connected = soon(auto.connect()).await.unwrap();
    assert_eq!(connected.client.transport(), Transport::Wss, "nobody waits for TLS");
    soon(async {
        while auto.memory.remembered(&auto.options.server) == Some(Transport::Wss) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let connected = soon(auto.connect()).await.unwrap();
    assert_eq!(connected.client.transport(), Transport::Tls);
    assert!(!street.plain());
}

#[tokio::test]
async fn c22_plain_tcp_comes_last_on_this_machine_and_is_not_remembered() {
    let street = Street::new();
    let (port, _closed) = closed_port();
    let auto = street.auto(port);
    let begun = Clock::now();
    let connected = soon(auto.connect()).await.unwrap();
    // Not only when the half of the time that QUIC and TLS have is over.
    assert!(begun.elapsed() < auto.options.connect_timeout * 2 / 5, "{:?}", begun.elapsed());
    assert_eq!(connected.client.transport(), Transport::Tcp);
    let failed: Vec<Transport> = connected.failed.iter().map(|(transport, _)| *transport).collect();
    assert_eq!(failed, [Transport::Quic, Transport::Tls, Transport::Wss]);
    assert!(!street.heard().is_empty() && street.plain());
    assert_eq!(auto.memory.remembered(&auto.options.server), None);
}

/// This system takes 0.0.0.0 for itself, and it is no loopback address.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn c22_plain_tcp_to_another_machine_needs_a_word() {
    let street = Street::new();
    let (port, _closed) = closed_port();
    let mut auto = street.auto(port);
    auto.options.server = format!("0.0.0.0:{}", street.port());
    auto.options.connect_timeout = Duration::from_millis(500);
    let error = soon(auto.connect()).await.unwrap_err();
    let ConnectError::NoTransport(tried) = &error else { panic!("{error:?}") };
    assert_eq!(tried.plain, Plain::NotAllowed);
    let transports: Vec<Transport> = tried.tried.iter().map(|(transport, _)| *transport).collect();
    assert_eq!(transports, [Transport::Quic, Transport::Tls, Transport::Wss]);
    assert!(error.to_string().contains("--allow-plain"), "{error}");
    assert!(!street.plain());

    auto.allow_plain = true;
    // QUIC and TLS have all of it, and plain TCP as much again.
    auto.options.connect_timeout = Duration::from_secs(1);
    let connected = soon(auto.connect()).await.unwrap();
    assert_eq!(connected.client.transport(), Transport::Tcp);
    assert!(street.plain());
}

/// The server's certificate is another one's: over TLS, over QUIC, over both.
#[rstest]
#[tokio::test]
async fn c22_a_certificate_that_is_not_believed_never_leads_to_plain_tcp(
    #[values((true, false), (false, true), (true, true))] (over_quic, over_tls): (bool, bool),
) {
    let mut street = Street::new();
    let (tls_port, _tls, _closed) = if over_tls {
        let (port, tls) = street.tls().await;
        (port, Some(tls), None)
    } else {
        let (port, closed) = closed_port();
        (port, None, Some(closed))
    };
    let _gate = over_quic.then(|| street.quic());
    let mut auto = street.auto(tls_port);
    auto.options.ca = Some(server_tls(b"x-im/1").1);
    auto.allow_plain = true;
    auto.options.connect_timeout = Duration::from_secs(1);
    let error = soon(auto.connect()).await.unwrap_err();
    let ConnectError::NoTransport(tried) = &error else { panic!("{error:?}") };
    assert_eq!(tried.plain, Plain::Withheld);
    let forged = |which: usize| matches!(tried.tried[which].1, ConnectError::Certificate { .. });
    assert_eq!((forged(0), forged(1)), (over_quic, over_tls), "{error}");
    assert!(error.to_string().contains("pretends to be the gateway"), "{error}");
    assert!(!street.plain(), "the token must not travel in clear now");
}

#[tokio::test]
async fn a_name_that_is_none_is_said_once() {
    let auto = Auto::new("nothing.invalid:8000", server_tls(b"x-im/1").1);
    let error = soon(auto.connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Resolve { .. } | ConnectError::TimedOut { .. }), "{error:?}");
}
