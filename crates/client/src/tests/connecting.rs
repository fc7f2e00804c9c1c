//! How connections come about and end.

use super::*;
use gateway_net::resolve::testing::{Barrier, Silent, both, silent_and_listening};
use gateway_net::resolve::{ResolveError, Resolver};
use rstest::rstest;

#[rstest]
#[tokio::test]
async fn every_close_code_arrives_as_its_reason_and_fails_what_is_in_flight(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicMany)] kind: Kind,
) {
    for reason in CloseReason::ALL.into_iter().filter(|reason| reason.code().is_some()) {
        let mut pair = Pair::signed_in(kind, |_| {}).await;
        let pending = pair.client.send_talk("bob", "lost").await.unwrap();
        pair.close(reason).await;
        assert_eq!(soon(pending).await.unwrap_err(), RequestError::Closed(reason));
        assert_eq!(soon(pair.client.closed()).await, reason);
        let late = pair.client.send_talk("bob", "late").await;
        assert_eq!(late.unwrap_err(), RequestError::Closed(reason));
    }
}

/// A code of a later version: whoever may come back does, and whoever must not does not.
#[rstest]
#[tokio::test]
async fn codes_that_are_not_known_keep_what_their_range_says(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicMany)] kind: Kind,
) {
    for (code, reason) in [(3499, CloseReason::PeerClosed), (3999, CloseReason::ProtocolError)] {
        let mut pair = Pair::signed_in(kind, |_| {}).await;
        match &pair.quic {
            Some((_, connection)) => connection.close(VarInt::from_u32(code), b""),
            None => {
                let code = u16::try_from(code).unwrap().to_be_bytes();
                pair.login.write(&frame::encode(Opcode::Close, &code)).await;
            }
        }
        assert_eq!(soon(pair.client.closed()).await, reason);
    }
}

/// What comes behind a close frame, TLS's own farewell, a FIN or a reset, takes nothing away from it; nor does what comes
/// before it, the rest of a frame.
#[rstest]
#[tokio::test]
async fn h3_a_close_frame_is_the_reason_whatever_stands_around_it(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss)] kind: Kind,
    #[values(true, false)] resets: bool,
) {
    let mut pair = Pair::signed_in(kind, |_| {}).await;
    let pending = pair.client.send_talk("bob", "never read").await.unwrap();
    let push = push(1, &"x".repeat(3000));
    let (begin, rest) = push.split_at(1000);
    pair.login.write(begin).await;
    // It is held by the reader, or the rest is on its way: both are right.
    tokio::task::yield_now().await;
    pair.login.write(&[rest, &frame::encode(Opcode::Close, &CloseReason::Kicked.payload())].concat()).await;
    if !resets {
        assert_eq!(pair.login.request().await.0.command, command::CHAT_USER_TALK);
        soon(pair.login.io.shutdown()).await.unwrap();
    }
    let Pair { client, mut pushes, login, .. } = pair;
    // With the request unread, the system resets the connection.
    drop(login);
    assert_eq!(soon(client.closed()).await, CloseReason::Kicked);
    assert_eq!(soon(pending).await.unwrap_err(), RequestError::Closed(CloseReason::Kicked));
    assert_eq!(soon(pushes.recv()).await.unwrap().message().unwrap().message_id, 1);
}

#[tokio::test]
async fn a_gateway_that_vanishes_is_told_apart_from_one_that_hangs_up() {
    let pair = Pair::signed_in(Kind::Tcp, |_| {}).await;
    let Pair { client, login, .. } = pair;
    drop(login);
    assert_eq!(soon(client.closed()).await, CloseReason::PeerClosed);

    let pair = Pair::signed_in(Kind::QuicMany, |options| {
        options.idle = Duration::from_millis(500);
        options.keep_alive = None;
    })
    .await;
    assert_eq!(soon(pair.client.closed()).await, CloseReason::PeerLost);
}

#[rstest]
#[tokio::test]
async fn a7_what_is_not_this_protocol_ends_the_connection_3503(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicMany)] kind: Kind,
) {
    let mut pair = Pair::signed_in(kind, |_| {}).await;
    pair.login.write(&frame::encode(Opcode::Binary, b"HTTP/1.1 200 OK")).await;
    assert_eq!(soon(pair.client.closed()).await, CloseReason::ProtocolError);
    if matches!(kind, Kind::Tcp | Kind::Tls | Kind::Ws | Kind::Wss) {
        let close = pair.login.frame().await.unwrap();
        assert_eq!(CloseReason::from_payload(&close.payload), Some(CloseReason::ProtocolError));
    }
}

#[tokio::test]
async fn a_change_of_address_keeps_the_session() {
    let gate = QuicGate::new(b"x-im/1");
    let endpoint = quic_endpoint(gate.endpoint.local_addr().unwrap()).unwrap();
    let options = ConnectOptions { endpoint: Some(endpoint.clone()), ..gate.options(Streams::Single) };
    let (connected, connection) = tokio::join!(Client::connect(options), gate.accept());
    let (client, _pushes) = connected.unwrap();
    let before = connection.remote_address();
    endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let (login, mut pipe) = tokio::join!(client.login("token"), async {
        let mut pipe = accept_pipe(&connection).await;
        pipe.sign_in().await;
        pipe
    });
    login.unwrap();
    assert_ne!(connection.remote_address(), before);
    let (pong, ()) = tokio::join!(client.ping(Heartbeat::Frame), async {
        assert_eq!(pipe.frame().await.unwrap().opcode, Opcode::Ping);
        pipe.write(&frame::encode(Opcode::Pong, &[])).await;
    });
    pong.unwrap();
}

#[rstest]
#[tokio::test]
async fn dropping_the_last_handle_closes_the_connection(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicOne, Kind::QuicMany)] kind: Kind,
) {
    let pair = Pair::signed_in(kind, |_| {}).await;
    let Pair { client, mut pushes, mut login, quic } = pair;
    let pending = client.send_talk("bob", "never").await.unwrap();
    drop(client);
    match quic {
        Some((_, connection)) => {
            let error = soon(connection.closed()).await;
            assert!(
                matches!(error, quinn::ConnectionError::ApplicationClosed(close) if close.reason == "bye")
            );
        }
        None => while login.frame().await.is_some() {},
    }
    assert_eq!(soon(pending).await.unwrap_err(), RequestError::Closed(CloseReason::Bye));
    assert_eq!(soon(pushes.recv()).await, None);
}

#[tokio::test]
async fn what_keeps_a_connection_from_coming_about_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let refused = Client::connect(ConnectOptions::tcp(free)).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Tcp { .. }), "{refused}");

    let gate = QuicGate::new(b"x-im/1");
    let _accepting = tokio_util::task::AbortOnDropHandle::new(tokio::spawn({
        let endpoint = gate.endpoint.clone();
        async move { while endpoint.accept().await.unwrap().await.is_err() {} }
    }));
    let other = QuicGate::new(b"x-im/1");
    let wrong = ConnectOptions { ca: Some(other.ca.clone()), ..gate.options(Streams::Single) };
    let wrong = Client::connect(wrong).await.unwrap_err();
    assert!(matches!(wrong, ConnectError::Certificate { .. }), "{wrong:?}");
    assert!(wrong.to_string().contains("--ca"), "{wrong}");
    let named =
        ConnectOptions { server_name: Some("example.org".to_owned()), ..gate.options(Streams::Single) };
    let named = Client::connect(named).await.unwrap_err();
    assert!(matches!(named, ConnectError::Certificate { .. }), "{named:?}");
    let without = ConnectOptions { ca: None, ..gate.options(Streams::Single) };
    assert!(matches!(Client::connect(without).await.unwrap_err(), ConnectError::NoCa));

    let strange = QuicGate::new(b"h3");
    let (error, _) = tokio::join!(Client::connect(strange.options(Streams::Single)), async {
        strange.endpoint.accept().await.unwrap().await
    });
    let error = error.unwrap_err();
    assert!(matches!(error, ConnectError::NotAGateway { .. }), "{error:?}");

    let (error, ()) = tokio::join!(Client::connect(other.options(Streams::Single)), async {
        other.endpoint.accept().await.unwrap().refuse();
    });
    assert!(matches!(error.unwrap_err(), ConnectError::Refused { .. }));

    let silent = ConnectOptions {
        server: std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string(),
        connect_timeout: Duration::from_millis(100),
        ..gate.options(Streams::Single)
    };
    let silent = Client::connect(silent).await.unwrap_err();
    assert!(matches!(silent, ConnectError::TimedOut { transport: Transport::Quic, .. }));
}

#[tokio::test]
async fn what_keeps_a_tls_connection_from_coming_about_is_named() {
    let gate = TlsGate::new(b"x-im/1").await;
    let other = TlsGate::new(b"x-im/1").await;
    let wrong = ConnectOptions { ca: Some(other.ca.clone()), ..gate.options() };
    let (wrong, _) = tokio::join!(Client::connect(wrong), gate.accept());
    let wrong = wrong.unwrap_err();
    assert!(matches!(wrong, ConnectError::Certificate { .. }), "{wrong:?}");
    let named = ConnectOptions { server_name: Some("example.org".to_owned()), ..gate.options() };
    let (named, _) = tokio::join!(Client::connect(named), gate.accept());
    assert!(matches!(named, Err(ConnectError::Certificate { .. })), "{named:?}");
    let without = ConnectOptions { ca: None, ..gate.options() };
    assert!(matches!(Client::connect(without).await.unwrap_err(), ConnectError::NoCa));

    let strange = TlsGate::new(b"h2").await;
    let (error, _) = tokio::join!(Client::connect(strange.options()), strange.accept());
    assert!(matches!(error, Err(ConnectError::NotAGateway { .. })), "{error:?}");

    // A plain port answers with no TLS; a silent one not at all.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ConnectOptions { server: plain.local_addr().unwrap().to_string(), ..gate.options() };
    let (error, ()) = tokio::join!(Client::connect(options.clone()), async {
        let (mut socket, _) = plain.accept().await.unwrap();
        socket.write_all(&frame::encode(Opcode::Close, &CloseReason::ProtocolError.payload())).await.unwrap();
    });
    let error = error.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }) && error.to_string().contains("--tls-port"), "{error}");
    let silent = ConnectOptions { connect_timeout: Duration::from_millis(100), ..options };
    let silent = Client::connect(silent).await.unwrap_err();
    assert!(matches!(silent, ConnectError::TimedOut { transport: Transport::Tls, .. }), "{silent}");
}

#[tokio::test]
async fn the_kim_dialect_has_its_own_magics() {
    let mut pair = Pair::tcp(|options| options.dialect = Dialect::Kim).await;
    let _pending = pair.client.send_login(&pb::LoginReq::default()).await.unwrap();
    let frame = pair.login.frame().await.unwrap();
    assert_eq!(frame.payload[..4], Dialect::Kim.logic_magic());
}

#[test]
fn everything_runs_on_any_runtime() {
    fn send<T: Send + Sync>() {}
    send::<Client>();
    send::<Pushes>();
    send::<crate::PendingAnswer>();
}

/// A name of two addresses: the first takes packets and says nothing, the second is a gate.
struct TwoAddresses {
    _silent: (Silent, std::net::UdpSocket),
    tcp: TcpListener,
    quic: quinn::Endpoint,
    acceptor: tokio_rustls::TlsAcceptor,
    ca: TrustedCa,
}

impl TwoAddresses {
    fn new() -> Self {
        loop {
            let (silent, listener) = silent_and_listening();
            let (first, second) = (silent.listener.local_addr().unwrap(), listener.local_addr().unwrap());
            let (tls, ca) = server_tls(b"x-im/1");
            let crypto = QuicServerConfig::try_from(tls.clone()).unwrap();
            let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
            // The ports of TCP and UDP are not taken together.
            let Ok(mute) = std::net::UdpSocket::bind(first) else { continue };
            let Ok(quic) = quinn::Endpoint::server(config, second) else { continue };
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
            let tcp = TcpListener::from_std(listener).unwrap();
            return Self { _silent: (silent, mute), tcp, quic, acceptor, ca };
        }
    }

    fn options(&self, transport: Transport) -> ConnectOptions {
        let server = format!("gate.example.org:{}", self.tcp.local_addr().unwrap().port());
        ConnectOptions {
            transport,
            server_name: Some("127.0.0.1".to_owned()),
            resolver: Resolver::new(|_: &str| Ok(both())),
            ..ConnectOptions::quic(server, self.ca.clone())
        }
    }

    /// The gate's end of a handshake.
    async fn accept(&self, transport: Transport) {
        if transport == Transport::Quic {
            self.quic.accept().await.unwrap().await.unwrap();
            return;
        }
        let (socket, _) = self.tcp.accept().await.unwrap();
        match transport {
            Transport::Tls => drop(self.acceptor.accept(socket).await.unwrap()),
            Transport::Ws => drop(web::accept(socket).await),
            _ => {}
        }
    }
}

#[rstest]
#[tokio::test]
async fn h14_a_client_connects_over_the_second_address_when_the_first_is_silent(
    #[values(Transport::Quic, Transport::Tcp, Transport::Tls, Transport::Ws)] transport: Transport,
) {
    let gate = TwoAddresses::new();
    let options = gate.options(transport);
    let (half, began) = (options.connect_timeout / 2, std::time::Instant::now());
    let (connected, ()) =
        soon(async { tokio::join!(Client::connect(options), gate.accept(transport)) }).await;
    connected.unwrap();
    let took = began.elapsed();
    assert!(took < half, "not even a fair share of the time: {took:?}");
}

#[tokio::test]
async fn h14_of_several_addresses_the_error_of_the_one_that_answered_is_told() {
    let gate = TwoAddresses::new();
    let other = TwoAddresses::new();
    let connect_timeout = Duration::from_secs(1);
    let options = ConnectOptions {
        ca: Some(other.ca.clone()),
        connect_timeout,
        // The one that answers first, so that silence comes last.
        resolver: Resolver::new(|_: &str| Ok(both().into_iter().rev().collect())),
        ..gate.options(Transport::Quic)
    };
    let (error, _) = tokio::join!(Client::connect(options), async {
        gate.quic.accept().await.unwrap().await.unwrap_err()
    });
    let error = error.unwrap_err();
    assert!(matches!(error, ConnectError::Certificate { .. }), "{error:?}");
}

#[test]
fn h14_a_resolver_that_hangs_is_told_in_time_and_holds_no_runtime() {
    let (_never, barrier) = Barrier::new();
    let resolver = Resolver::new(move |_: &str| {
        barrier.pass();
        Ok(Vec::new())
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connect_timeout = Duration::from_millis(50);
    let options =
        ConnectOptions { resolver, connect_timeout, ..ConnectOptions::tcp("gate.example.org:1".to_owned()) };
    let error = runtime.block_on(Client::connect(options)).unwrap_err();
    assert!(matches!(error, ConnectError::Resolve(ResolveError::Late { .. })), "{error:?}");
    // Does not return while something blocks in it.
    drop(runtime);
}
