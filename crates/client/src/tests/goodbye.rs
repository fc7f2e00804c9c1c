//! The client's own goodbye over a slow road: what was sent before it arrives, and so does the goodbye.

use super::relay::Relay;
use super::*;
use rstest::rstest;
use tokio::time::Instant;

/// A client behind a road of this rate, bytes per second, that has signed in; and the gateway's end.
async fn behind(rate: u32, streams: Streams) -> (Pair, Relay) {
    let gate = QuicGate::new(b"x-im/1");
    let relay = Relay::new(gate.endpoint.local_addr().unwrap(), rate).await;
    let options = ConnectOptions { server: relay.address.to_string(), ..gate.options(streams) };
    let (connected, connection) = tokio::join!(Client::connect(options), gate.accept());
    let (client, pushes) = connected.unwrap();
    let (login, pipe) = tokio::join!(client.login("token"), async {
        let mut pipe = accept_pipe(&connection).await;
        pipe.sign_in().await;
        pipe
    });
    login.unwrap();
    (Pair { client, pushes, login: pipe, quic: Some((gate, connection)) }, relay)
}

async fn closed_with_bye(connection: &quinn::Connection) {
    match soon(connection.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => assert_eq!(close.reason, "bye"),
        error => panic!("{error}"),
    }
}

/// Nothing comes back any more, so nothing that waits for it may hold the goodbye.
#[rstest]
#[tokio::test]
async fn h3_a_goodbye_leaves_although_the_congestion_window_is_full(
    #[values(Streams::Single, Streams::Separate)] streams: Streams,
    #[values(true, false)] closes: bool,
) {
    let (mut pair, relay) = behind(10_000_000, streams).await;
    let kind = if streams == Streams::Single { Kind::QuicOne } else { Kind::QuicMany };
    let large = pair.client.send(command::CHAT_USER_TALK, "bob", vec![b'x'; 1 << 20]).await.unwrap();
    let mut own = pair.messages(kind).await;
    relay.mute();
    let pipe = own.as_mut().unwrap_or(&mut pair.login);
    // Acknowledgements no longer get through: what is sent is one window.
    let mut chunk = [0; 4096];
    for _ in 0..3 {
        soon(pipe.io.read_exact(&mut chunk)).await.unwrap();
    }
    let client = pair.client.clone();
    let (Pair { client: last, quic, .. }, began) = (pair, Instant::now());
    drop(last);
    let closing = tokio::spawn(async move { if closes { Some(client.close().await) } else { None } });
    closed_with_bye(&quic.unwrap().1).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(soon(closing).await.unwrap(), closes.then_some(CloseReason::Bye));
    drop(large);
}

#[rstest]
#[tokio::test]
async fn h3_a_goodbye_behind_more_than_the_road_takes_arrives_within_its_second_and_a_round_trip(
    #[values(Streams::Single, Streams::Separate)] streams: Streams,
) {
    let (pair, _relay) = behind(100_000, streams).await;
    let _large = pair.client.send(command::CHAT_USER_TALK, "bob", vec![b'x'; 1 << 20]).await.unwrap();
    let began = Instant::now();
    let (reason, ()) = tokio::join!(pair.client.close(), closed_with_bye(pair.connection()));
    // A second for what is queued here, and two thirds for what is queued on the road.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(reason, CloseReason::Bye);
}

#[rstest]
#[tokio::test]
async fn h3_what_was_sent_before_the_goodbye_arrives(
    #[values(Streams::Single, Streams::Separate)] streams: Streams,
) {
    const COUNT: usize = 50;
    let (mut pair, _relay) = behind(1_000_000, streams).await;
    let kind = if streams == Streams::Single { Kind::QuicOne } else { Kind::QuicMany };
    let mut pending = Vec::new();
    for _ in 0..COUNT {
        pending.push(pair.client.send_talk("bob", &"x".repeat(3000)).await.unwrap());
    }
    let client = pair.client.clone();
    let closing = tokio::spawn(async move { client.close().await });
    let mut own = pair.messages(kind).await;
    let pipe = own.as_mut().unwrap_or(&mut pair.login);
    for _ in 0..COUNT {
        assert_eq!(pipe.request().await.0.command, command::CHAT_USER_TALK);
    }
    let bye = pair.login.frame().await.expect("a close frame behind everything");
    assert_eq!(
        (bye.opcode, CloseReason::from_payload(&bye.payload)),
        (Opcode::Close, Some(CloseReason::Bye))
    );
    closed_with_bye(pair.connection()).await;
    assert_eq!(soon(closing).await.unwrap(), CloseReason::Bye);
}
