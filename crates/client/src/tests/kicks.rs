//! Whoever was told that the account signed in elsewhere is kicked, and does not come back.

use super::*;
use crate::resilient::*;
use rstest::rstest;

/// The channel of every client here.
const OWN: &str = "gate01_alice_1";

/// What follows the notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Code(CloseReason),
    /// The login stream ends, and on TCP the connection with it.
    Finish,
    Reset,
    /// The close is lost on the way.
    Nothing,
}

#[rstest]
#[case::kicked(Then::Code(CloseReason::Kicked))]
#[case::draining(Then::Code(CloseReason::Draining))]
#[case::slow_consumer(Then::Code(CloseReason::SlowConsumer))]
#[case::bye(Then::Code(CloseReason::Bye))]
#[case::finish(Then::Finish)]
#[case::reset(Then::Reset)]
#[case::nothing(Then::Nothing)]
#[tokio::test]
async fn h3_who_was_told_of_its_kick_is_kicked_however_the_connection_ends(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicOne, Kind::QuicMany)] kind: Kind,
    #[case] then: Then,
) {
    let mut pair = Pair::signed_in(kind, |_| {}).await;
    let request = pair.client.send_talk("bob", "no answer").await.unwrap();
    let mut uni = pair.push(&kick(OWN)).await;
    if let Some(uni) = &mut uni {
        uni.finish().unwrap();
        let _ = soon(uni.stopped()).await;
    }
    let Pair { client, mut pushes, mut login, quic } = pair;
    match (then, &quic) {
        (Then::Code(reason), Some((_, connection))) => {
            connection.close(VarInt::from(reason.code().unwrap()), b"");
        }
        (Then::Code(reason), None) => login.write(&frame::encode(Opcode::Close, &reason.payload())).await,
        // Its keys are gone with the endpoint: nothing is said to the client.
        (Then::Reset, Some((gate, _))) => {
            gate.endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap()
        }
        (Then::Reset, None) => {
            // With a request unread, the system ends the connection with a reset.
            drop(std::mem::replace(&mut login.io, Box::new(tokio::io::empty())));
        }
        (Then::Finish, _) => soon(login.io.shutdown()).await.unwrap(),
        (Then::Nothing, _) => {}
    }
    assert_eq!(soon(client.closed()).await, CloseReason::Kicked);
    assert_eq!(soon(request).await.unwrap_err(), RequestError::Closed(CloseReason::Kicked));
    assert_eq!(soon(pushes.recv()).await.unwrap().kick().unwrap().channel_id, OWN);
    assert_eq!(soon(pushes.recv()).await, None);
}

#[rstest]
#[tokio::test]
async fn the_kick_of_another_channel_is_not_its_own(#[values(Kind::Tcp, Kind::QuicMany)] kind: Kind) {
    let mut pair = Pair::signed_in(kind, |_| {}).await;
    let _uni = pair.push(&kick("gate01_alice_2")).await;
    assert_eq!(soon(pair.pushes.recv()).await.unwrap().kick().unwrap().channel_id, "gate01_alice_2");
    pair.close(CloseReason::Draining).await;
    assert_eq!(soon(pair.client.closed()).await, CloseReason::Draining);
}

#[tokio::test]
async fn h3_a_kick_that_overtakes_the_login_response_counts() {
    let mut pair = Pair::quic(Streams::Separate, |_| {}).await;
    let client = pair.client.clone();
    let login = tokio::spawn(async move { client.login("token").await });
    let mut uni = pair.push(&kick(OWN)).await.unwrap();
    uni.finish().unwrap();
    soon(uni.stopped()).await.unwrap();
    pair.login.sign_in().await;
    assert_eq!(soon(login).await.unwrap().unwrap().channel_id, OWN);
    assert_eq!(soon(pair.client.closed()).await, CloseReason::Kicked);
}

/// The notice lies behind more than is held for the consumer.
#[tokio::test]
async fn h3_a_kick_is_found_behind_a_consumer_that_does_not_read() {
    const BACKLOG: i64 = 400;
    let mut pair = Pair::signed_in(Kind::QuicMany, |_| {}).await;
    let mut uni = pair.push(&[]).await.unwrap();
    for id in 0..BACKLOG {
        uni.write_all(&push(id, &"x".repeat(400))).await.unwrap();
    }
    uni.write_all(&kick(OWN)).await.unwrap();
    uni.finish().unwrap();
    soon(uni.stopped()).await.unwrap();
    pair.close(CloseReason::SlowConsumer).await;
    assert_eq!(soon(pair.client.closed()).await, CloseReason::Kicked);
    for id in 0..BACKLOG {
        assert_eq!(soon(pair.pushes.recv()).await.unwrap().message().unwrap().message_id, id);
    }
    assert!(soon(pair.pushes.recv()).await.unwrap().kick().is_some());
    assert_eq!(soon(pair.pushes.recv()).await, None);
}

/// A gateway that closes lets what it wrote arrive first: its streams end before the code comes, by at most a second.
#[rstest]
#[tokio::test]
async fn h3_the_code_that_follows_the_end_of_the_streams_is_the_reason(
    #[values(CloseReason::Draining, CloseReason::Kicked)] reason: CloseReason,
    #[values(true, false)] reset: bool,
) {
    let pair = Pair::signed_in(Kind::QuicMany, |_| {}).await;
    let request = pair.client.send_talk("bob", "no answer").await.unwrap();
    let Pair { client, login: _login, quic, .. } = pair;
    let (_gate, connection) = quic.unwrap();
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (mut to, from) = soon(connection.accept_bi()).await.unwrap();
        if reset {
            to.reset(VarInt::from_u32(3000)).unwrap()
        } else {
            to.finish().unwrap()
        }
        streams.push((to, from));
    }
    // The whole second, and what a busy machine needs.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    connection.close(VarInt::from(reason.code().unwrap()), b"");
    assert_eq!(soon(request).await.unwrap_err(), RequestError::Closed(reason));
    assert_eq!(soon(client.closed()).await, reason);
}

/// When the close that a gateway sends behind its resets is lost, their code is what is known.
#[tokio::test]
async fn h3_the_code_of_a_reset_login_stream_is_the_reason_when_no_close_follows() {
    for reason in [CloseReason::Draining, CloseReason::Kicked, CloseReason::SlowConsumer] {
        let gate = QuicGate::new(b"x-im/1");
        let (connected, connection) =
            tokio::join!(Client::connect(gate.options(Streams::Single)), gate.accept());
        let (client, _pushes) = connected.unwrap();
        let (mut to, from) = {
            client.send_raw(ClientStream::Login, frame::encode(Opcode::Ping, &[])).await.unwrap();
            soon(connection.accept_bi()).await.unwrap()
        };
        to.reset(VarInt::from(reason.code().unwrap())).unwrap();
        assert_eq!(soon(client.closed()).await, reason);
        drop(from);
    }
}

/// The events to the end, and why the session is over.
async fn over(events: &mut Events) -> (bool, CloseReason) {
    let mut is_kicked = false;
    loop {
        match soon(events.recv()).await.expect("an end") {
            Event::Kicked => is_kicked = true,
            Event::Over(end) => match &*end {
                End::Closed(reason) => return (is_kicked, *reason),
                end => panic!("{end}"),
            },
            Event::Reconnecting { .. } => panic!("it comes back"),
            _ => {}
        }
    }
}

#[rstest]
#[case::finish(None)]
#[case::draining(Some(CloseReason::Draining))]
#[case::slow_consumer(Some(CloseReason::SlowConsumer))]
#[tokio::test]
async fn h3_a_session_that_was_told_of_its_kick_does_not_come_back(#[case] code: Option<CloseReason>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ConnectOptions::tcp(listener.local_addr().unwrap().to_string());
    let (_client, _pushes, mut events) =
        ResilientClient::start(ResilientOptions::new(options), "token".to_owned());
    let mut pipe = Pipe::new(soon(listener.accept()).await.unwrap().0);
    pipe.sign_in().await;
    pipe.write(&kick(OWN)).await;
    if let Some(reason) = code {
        pipe.write(&frame::encode(Opcode::Close, &reason.payload())).await;
    }
    drop(pipe);
    assert_eq!(over(&mut events).await, (true, CloseReason::Kicked));
}

/// It has shaken hands with another gateway, and the notice comes while it says goodbye to the old one.
#[tokio::test]
async fn h3_a_kick_in_the_middle_of_a_move_ends_the_session() {
    let (old, new) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let to = |listener: &TcpListener| ConnectOptions::tcp(listener.local_addr().unwrap().to_string());
    let options = ResilientOptions::new(to(&old)).or(to(&new));
    let (_client, _pushes, mut events) = ResilientClient::start(options, "token".to_owned());
    let mut pipe = Pipe::new(soon(old.accept()).await.unwrap().0);
    pipe.sign_in().await;
    pipe.write(&resilient::go_away(0, 3000)).await;
    let mut second = Pipe::new(soon(new.accept()).await.unwrap().0);
    assert_eq!(pipe.frame().await.unwrap().opcode, Opcode::Close);
    pipe.write(&kick(OWN)).await;
    drop(pipe);
    assert_eq!(over(&mut events).await, (true, CloseReason::Kicked));
    assert_eq!(second.frame().await, None, "no login there");
}
