//! Pushes: order, the hold before the login response, back-pressure.

use super::*;
use rstest::rstest;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::{JoinHandle, yield_now};

#[rstest]
#[tokio::test]
async fn a_kick_is_read_before_the_close(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicOne, Kind::QuicMany)] kind: Kind,
) {
    let mut pair = Pair::signed_in(kind, |_| {}).await;
    let notify = pb::KickOutNotify { channel_id: "gate01_alice_1".to_owned() };
    if let Some(mut uni) = pair.push(&kick("gate01_alice_1")).await {
        uni.finish().unwrap();
        let _ = soon(uni.stopped()).await;
    }
    pair.close(CloseReason::Kicked).await;
    assert_eq!(soon(pair.client.closed()).await, CloseReason::Kicked);
    let push = soon(pair.pushes.recv()).await.unwrap();
    assert_eq!((push.kick(), push.message()), (Some(notify), None));
    assert_eq!(soon(pair.pushes.recv()).await, None);
}

#[rstest]
#[tokio::test]
async fn g5_pushes_that_overtake_the_login_response_are_held_until_it(
    #[values(Streams::Single, Streams::Separate)] streams: Streams,
) {
    let mut pair = Pair::quic(streams, |_| {}).await;
    let login = pb::LoginReq { token: "token".to_owned(), ..Default::default() };
    let pending = pair.client.send_login(&login).await.unwrap();
    let mut uni = pair.connection().open_uni().await.unwrap();
    for id in 1..=3 {
        uni.write_all(&push(id, "early")).await.unwrap();
    }
    uni.finish().unwrap();
    // Acknowledged up to its end: the client has all three.
    soon(uni.stopped()).await.unwrap();
    assert_eq!(pair.pushes.try_recv(), None);
    let early = timeout(Duration::from_millis(50), pair.pushes.recv()).await;
    assert!(early.is_err(), "a push came before the login response");
    pair.login.sign_in().await;
    assert!(soon(pending).await.unwrap().is_success());
    for id in 1..=3 {
        assert_eq!(soon(pair.pushes.recv()).await.unwrap().message().unwrap().message_id, id);
    }
}

#[tokio::test]
async fn without_a_push_stream_pushes_come_on_the_login_stream() {
    let mut pair = Pair::signed_in(Kind::QuicMany, |options| options.push_stream = false).await;
    assert!(timeout(Duration::from_millis(20), pair.connection().open_uni()).await.is_err());
    pair.login.write(&push(4, "hi")).await;
    assert_eq!(soon(pair.pushes.recv()).await.unwrap().message().unwrap().message_id, 4);
}

/// Writes pushes until all of `ids` are out, and shows whether it waits for room. A task's share of the time, when it is
/// used up, is no waiting.
fn write_pushes<W: AsyncWrite + Unpin + Send + 'static>(
    mut to: W,
    ids: Range<i64>,
) -> (JoinHandle<W>, Arc<AtomicBool>) {
    let is_waiting = Arc::new(AtomicBool::new(false));
    let shown = Arc::clone(&is_waiting);
    let writer = tokio::spawn(tokio::task::unconstrained(async move {
        let text = "x".repeat(1000);
        for id in ids {
            let (push, mut at) = (push(id, &text), 0);
            while at < push.len() {
                at += poll_fn(|cx| {
                    let written = Pin::new(&mut to).poll_write(cx, &push[at..]);
                    shown.store(written.is_pending(), Ordering::Relaxed);
                    written
                })
                .await
                .unwrap();
            }
        }
        to
    }));
    (writer, is_waiting)
}

/// Waits until the client reads no further, for its consumer, and then until the gateway has no room to write. Nothing
/// changes that but the consumer.
async fn stalled(pushes: &Pushes, is_waiting: &AtomicBool) {
    soon(async {
        while !pushes.is_behind() {
            yield_now().await;
        }
        while !is_waiting.load(Ordering::Relaxed) {
            yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_does_not_read_stops_tcp_and_loses_nothing() {
    // 20 MB do not fit the sockets' buffers and the client's megabyte.
    const COUNT: i64 = 20_000;
    let mut pair = Pair::signed_in(Kind::Tcp, |_| {}).await;
    let (writer, is_waiting) = write_pushes(pair.login.io, 0..COUNT);
    stalled(&pair.pushes, &is_waiting).await;
    assert!(!writer.is_finished(), "nothing held the gateway back");
    for id in 0..COUNT {
        assert_eq!(soon(pair.pushes.recv()).await.unwrap().message().unwrap().message_id, id);
    }
    soon(writer).await.unwrap();
}

#[tokio::test]
async fn a_consumer_that_does_not_read_stops_the_push_stream_and_answers_still_flow() {
    let mut pair = Pair::signed_in(Kind::QuicMany, |_| {}).await;
    let uni = pair.connection().open_uni().await.unwrap();
    let (writer, is_waiting) = write_pushes(uni, 0..i64::MAX);
    stalled(&pair.pushes, &is_waiting).await;
    let client = pair.client.clone();
    let ack = tokio::spawn(async move { client.ack(5).await });
    let mut messages = pair.messages(Kind::QuicMany).await.unwrap();
    let (header, _) = messages.request().await;
    messages.answer(&header, 0, Vec::new()).await;
    soon(ack).await.unwrap().unwrap();
    // More than the client held: it reads on.
    for id in 0..500 {
        assert_eq!(soon(pair.pushes.recv()).await.unwrap().message().unwrap().message_id, id);
    }
    writer.abort();
}

#[tokio::test]
async fn pushes_nobody_wants_are_discarded() {
    let pair = Pair::signed_in(Kind::Tcp, |_| {}).await;
    let Pair { client, pushes, mut login, .. } = pair;
    let text = "x".repeat(1000);
    for id in 0..300 {
        login.write(&push(id, &text)).await;
    }
    drop(pushes);
    for id in 300..20_000 {
        login.write(&push(id, &text)).await;
    }
    let (acked, ()) = tokio::join!(client.ack(1), async {
        let (header, _) = login.request().await;
        login.answer(&header, 0, Vec::new()).await;
    });
    acked.unwrap();
}

/// Above what the client holds, below that and a stream window.
const BACKLOG: i64 = 400;

#[tokio::test]
async fn g2_what_arrived_before_the_close_is_delivered_to_a_slow_consumer() {
    let mut pair = Pair::signed_in(Kind::QuicMany, |_| {}).await;
    let mut uni = pair.connection().open_uni().await.unwrap();
    let text = "x".repeat(1000);
    for id in 0..BACKLOG {
        uni.write_all(&push(id, &text)).await.unwrap();
    }
    uni.finish().unwrap();
    soon(uni.stopped()).await.unwrap();
    pair.close(CloseReason::Draining).await;
    assert_eq!(soon(pair.client.closed()).await, CloseReason::Draining);
    for id in 0..BACKLOG {
        assert_eq!(soon(pair.pushes.recv()).await.unwrap().message().unwrap().message_id, id);
    }
    assert_eq!(soon(pair.pushes.recv()).await, None);
}
