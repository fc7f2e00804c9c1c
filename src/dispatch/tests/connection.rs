//! A link over a real socket: what it writes, reads, and takes for silence.

use super::*;

/// What is queued can still move while nothing of it was written: a connection that has ended gets none of it.
#[tokio::test]
async fn e1_g4_nothing_is_written_to_a_link_that_has_ended() {
    use tokio::io::{AsyncWriteExt as _, Interest};
    use tokio::net::{TcpListener, TcpStream};

    let harness = two_chats();
    harness.up(&["l1", "c1"]);
    let guard = sign_in(&harness, "alice", "l1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut service, _) = listener.accept().await.unwrap();
    service.write_all(&frame::encode(Opcode::Pong, &[])).await.unwrap();
    service.shutdown().await.unwrap();
    while !ours.ready(Interest::READABLE).await.unwrap().is_read_closed() {}

    let ticket = forward(&harness, &guard, TALK, 7).unwrap();
    assert!(matches!(ticket.stage(), RequestStage::Queued(..)));
    let end = LinkConnection::new(ours, harness.link("c1"), Rc::clone(&harness.dispatch)).run().await;
    assert_eq!(end, LinkEnd::Eof);
    assert_eq!(
        ticket.stage(),
        RequestStage::Unplaced,
        "no other instance is up: answered 300 and never sent"
    );
    assert_eq!(guard.channel.pending.borrow().len(), 0);
}

#[test]
fn e20_a_link_that_broke_within_a_frame_begins_anew_with_a_whole_one() {
    let harness = two_chats();
    harness.up(&["l1", "c1"]);
    let guard = sign_in(&harness, "alice", "l1");
    forward(&harness, &guard, TALK, 1).unwrap();
    forward(&harness, &guard, TALK, 2).unwrap();
    harness.write("c1", 9);
    harness.lost("c1");
    assert!(harness.link("c1").queue().is_empty(), "the rest of the frame is never written");
    harness.up(&["c1"]);
    forward(&harness, &guard, TALK, 3).unwrap();
    assert_eq!(sequences(&harness.take_all("c1")), [3]);
    let statuses = answers(&guard.channel.outgoing, StreamId::LOGIN);
    assert_eq!(statuses, [(2, SYSTEM_EXCEPTION), (1, OUTCOME_UNKNOWN)]);
}

/// What the gateway does not read because one of its channels is full is no silence of the instance.
#[tokio::test]
async fn e19_a_link_that_we_paused_ourselves_is_not_silent() {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    let limits = Limits { backend_ping: millis(30), backend_misses: 2, ..Limits::default() };
    let silence = limits.backend_ping * limits.backend_misses;
    let harness = harness(limits, false, &[("login", "l1", XIm), ("chat", "c1", XIm)]);
    harness.up(&["l1"]);
    let guard = sign_in(&harness, "alice", "l1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut service, _) = listener.accept().await.unwrap();
    guard.channel.outgoing.set_push_stream(StreamId::LOGIN);
    // More pushes than the channel takes before its writer has a turn, which it does not get.
    let text = |key: &str, value: &str| pb::Meta {
        key: key.to_owned(),
        value: value.to_owned(),
        r#type: pb::MetaType::String as i32,
    };
    let header = pb::Header {
        command: TALK.to_owned(),
        flag: pb::Flag::Push as i32,
        meta: vec![text("dest.logic", GATE), text("dest.channels", &guard.channel.id)],
        ..pb::Header::default()
    };
    let push = crate::wire::packet::encode_message(XIm, &header, "x").to_bytes();
    for _ in 0..1100 {
        service.write_all(&push).await.unwrap();
    }
    let mut running =
        std::pin::pin!(LinkConnection::new(ours, harness.link("c1"), Rc::clone(&harness.dispatch)).run());
    let paused = tokio::time::timeout(silence * 5, running.as_mut()).await;
    assert!(paused.is_err(), "{paused:?}");
    assert_eq!(link_state(&harness, "c1"), "healthy");
    let written = guard.channel.outgoing.write_with(StreamId::LOGIN, |frames| frames.map(Encoded::len).sum());
    guard.channel.outgoing.advance(StreamId::LOGIN, written);
    // From now on it is read, and it says nothing.
    assert_eq!(tokio::time::timeout(silence * 50, running).await, Ok(LinkEnd::Silent));
    assert_eq!(link_state(&harness, "c1"), "broken");
}

/// The socket takes everything at once; still others have their turns between.
#[tokio::test]
async fn h22_a_turn_of_a_link_writes_a_part_of_a_long_queue() {
    use std::future::poll_fn;
    use std::task::Poll;
    use tokio::net::TcpStream;

    const WAITING: usize = 50_000;
    let harness = two_logins();
    harness.up(&["l1"]);
    let link = harness.link("l1");
    let someone = channel(&harness.test_metrics, "alice");
    for _ in 0..WAITING {
        let signout = SignOut::of(&someone, CloseReason::Bye, Instant::now());
        link.enqueue(Payload::SignOut(signout), Encoded { head: vec![1; 50].into(), body: Bytes::new() });
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let reader =
        std::thread::spawn(move || std::io::copy(&mut listener.accept().unwrap().0, &mut std::io::sink()));
    let traffic = LinkConnection::new(ours, Rc::clone(&link), Rc::clone(&harness.dispatch));
    let mut running = Box::pin(traffic.run());
    let left = || link.queue().frames().count();
    let (mut before, mut turns) = (WAITING, 0);
    while before > 0 {
        let ended = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx).is_ready())).await;
        assert!(!ended);
        let now = left();
        assert!(before - now <= 128 * SLICES_PER_WRITE, "{} in one turn", before - now);
        (before, turns) = (now, turns + usize::from(now < before));
        yield_now().await;
    }
    assert!(turns > 1);
    drop(running);
    assert!(reader.join().unwrap().unwrap() > 0);
}
