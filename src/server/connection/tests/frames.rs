//! Frames as they come: fairness between streams, slow ones and large ones.

use super::*;

#[test]
fn a3_at_most_32_frames_are_read_before_what_is_queued_is_written() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let before = alice.client.events().len();
        alice.client.send(LOGIN, pings(100));
        alice.client.until("every pong", |client| client.pongs(LOGIN).len() == 100).await;
        assert_eq!(alice.client.writes(LOGIN, before), [32, 32, 32, 4]);
    });
}

#[test]
fn g8_a_flood_on_one_stream_delays_no_other() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let before = alice.client.events().len();
        alice.client.open(STREAM);
        alice.client.send(LOGIN, pings(1000));
        alice.client.send(STREAM, ping(b"me too"));
        alice.client.until("the pong", |client| !client.pongs(STREAM).is_empty()).await;
        let events = alice.client.events();
        let ahead = events[before..].iter().position(|event| *event == Event::Wrote(STREAM, 1)).unwrap();
        assert!(ahead <= 2, "more than two turns of the flood came first: {:?}", &events[before..]);
        alice.client.until("the others", |client| client.pongs(LOGIN).len() == 1000).await;
    });
}

#[test]
fn a4_a_slow_frame_resets_its_stream_and_no_other() {
    let limits = Limits { frame_deadline: millis(60), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        alice.client.open(StreamId(8));
        let begun = Instant::now();
        alice.client.send(STREAM, Bytes::from_static(&[2, 0]));
        alice.client.send(StreamId(8), ping(b"whole"));
        alice.client.until("the reset", |c| c.events().iter().any(|e| matches!(e, Event::Reset(..)))).await;
        assert!(begun.elapsed() >= millis(60), "{:?}", begun.elapsed());
        assert!(alice.client.events().contains(&Event::Reset(STREAM, CloseReason::ReadTimeout)));
        assert_eq!(worker.harness.test_metrics.rejects(Reject::SlowFrame), 1);
        alice.client.send(LOGIN, ping(b"1"));
        alice.client.send(StreamId(8), ping(b"2"));
        alice.client.until("both pongs", |c| c.pongs(LOGIN).len() + c.pongs(StreamId(8)).len() == 3).await;
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn a4_a_slow_frame_on_stream_0_ends_the_connection() {
    let limits = Limits { frame_deadline: millis(60), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.send(LOGIN, Bytes::from_static(&[2]));
        assert_eq!(alice.client.until_closed().await, (CloseReason::ReadTimeout, true));
        assert!(worker.ended().await.is_ok());
        assert_eq!(worker.signouts(), [Some("read_timeout".to_owned())]);
        worker.assert_baseline();
    });
}

/// The bytes of a large frame, all but its last.
fn large(limits: &Limits) -> Vec<u8> {
    let mut frame = ping(&vec![0; limits.max_frame]).to_vec();
    frame.pop();
    frame
}

#[test]
fn a15_a_large_frame_that_has_begun_waits_for_room_and_small_ones_do_not() {
    let limits = no_rates();
    run(limits.clone(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        let (begin, rest) = (limits.max_frame_before_login, &large(&limits)[..]);
        worker.pressure.set_level(Level::Shed);
        alice.client.send(STREAM, rest[..begin].to_vec());
        alice.client.send(STREAM, rest[begin..=begin].to_vec());
        alice.client.send(STREAM, rest[begin + 1..].to_vec());
        alice.client.send(STREAM, vec![0]);
        alice.client.send(LOGIN, ping(b"a small one"));
        alice.client.until("the small one", |client| client.pongs(LOGIN).len() == 1).await;
        worker.quiet().await;
        let partial = || worker.harness.test_metrics.value("gateway_partial_bytes");
        let held = i64::try_from(begin).unwrap();
        assert!((held..held * 2 + 2).contains(&partial()), "{} bytes", partial());
        worker.pressure.set_level(Level::RefuseLogins);
        alice.client.until("the large one", |client| client.pongs(STREAM).len() == 1).await;
        worker.quiet().await;
        assert_eq!(partial(), 0);
    });
}

#[test]
fn a15_the_clock_of_a_frame_that_waits_for_room_runs_and_its_end_counts_it_off() {
    let limits = Limits { frame_deadline: millis(60), ..no_rates() };
    run(limits.clone(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        alice.client.send(STREAM, large(&limits));
        worker.quiet().await;
        assert!(
            worker.harness.test_metrics.value("gateway_partial_bytes")
                >= i64::try_from(limits.max_frame).unwrap()
        );
        worker.pressure.set_level(Level::CloseNewest);
        alice.client.until("the reset", |c| c.events().iter().any(|e| matches!(e, Event::Reset(..)))).await;
        worker.quiet().await;
        assert_eq!(worker.harness.test_metrics.value("gateway_partial_bytes"), 0);
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn a15_a_client_that_goes_while_its_frame_waits_for_room_is_seen_to_go() {
    let limits = no_rates();
    run(limits.clone(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.send(LOGIN, large(&limits));
        worker.quiet().await;
        worker.pressure.set_level(Level::CloseNewest);
        alice.client.vanish(CloseReason::PeerClosed);
        assert!(worker.ended().await.is_ok());
        assert_eq!(worker.signouts(), [Some("peer_closed".to_owned())]);
        worker.assert_baseline();
    });
}

#[test]
fn a5_a_stream_finished_within_a_frame_still_gets_the_answers_it_is_owed() {
    let limits = Limits { frame_deadline: millis(50), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        alice.client.send(STREAM, [talk(7), Bytes::from_static(&[2, 0, 0])].concat());
        alice.client.step(STREAM, Step::Finish);
        worker.quiet().await;
        worker.harness.take_all("c1");
        tokio::time::sleep(millis(120)).await;
        assert_eq!(worker.harness.test_metrics.rejects(Reject::Truncated), 1);
        assert_eq!(
            worker.harness.test_metrics.rejects(Reject::SlowFrame),
            0,
            "its end is not awaited any more"
        );
        worker.harness.answer("c1", &alice.channel, TALK, 7, 0);
        alice.client.until("the end", |c| c.events().contains(&Event::Finished(STREAM))).await;
        assert_eq!(answers(&alice.client, STREAM), [(7, 0)]);
        assert_eq!(alice.client.closed(), None);
    });
}
