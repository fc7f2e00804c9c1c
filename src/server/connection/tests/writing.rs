//! Clients that take what they are sent slowly, in parts, or not at all.

use super::*;

#[test]
fn c8_a_client_that_takes_nothing_is_closed_after_the_stall() {
    let limits = Limits { write_stall: millis(80), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let bob = worker.sign_in("bob").await;
        alice.client.set_room(LOGIN, 3);
        let begun = Instant::now();
        worker.harness.push("c1", &alice.channel, "one");
        worker.harness.push("c1", &alice.channel, "two");
        worker.harness.push("c1", &bob.channel, "one");
        bob.client.until("his push", |client| client.packets(LOGIN).len() == 2).await;
        assert_eq!(alice.client.until_closed().await, (CloseReason::SlowConsumer, false));
        assert!(begun.elapsed() >= millis(80), "{:?}", begun.elapsed());
        assert!(worker.ended().await.is_ok());
        assert_eq!(worker.signouts(), [Some("slow_consumer".to_owned())]);
        assert_eq!(worker.harness.test_metrics.push_drops(PushDrop::SlowConsumer), 2);
        assert_eq!(worker.harness.test_metrics.queued(), (0, 0));
        assert_eq!(bob.client.closed(), None);
    });
}

#[test]
fn c8_a_client_that_takes_a_little_now_and_then_is_not_stalled() {
    let limits = Limits { write_stall: millis(300), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.set_room(LOGIN, 0);
        worker.harness.push("c1", &alice.channel, vec![b'x'; 100]);
        for _ in 0..10 {
            tokio::time::sleep(millis(50)).await;
            alice.client.set_room(LOGIN, 1);
        }
        assert_eq!(alice.client.closed(), None, "500 ms, and never 300 without a byte");
        alice.client.set_room(LOGIN, usize::MAX);
        alice.client.until("the push", |client| client.packets(LOGIN).len() == 2).await;
    });
}

#[test]
fn c8_a_client_that_takes_nothing_of_what_the_transport_holds_back_is_stalled() {
    let limits = Limits { write_stall: millis(80), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.set_flushed(Flushed::Nothing);
        let begun = Instant::now();
        worker.harness.push("c1", &alice.channel, "one");
        alice.client.until("it to be taken", |client| client.packets(LOGIN).len() == 2).await;
        assert_eq!(
            worker.harness.test_metrics.queued(),
            (0, 0),
            "nothing is queued, and yet it did not go out"
        );
        assert_eq!(alice.client.until_closed().await, (CloseReason::SlowConsumer, false));
        assert!(begun.elapsed() >= millis(80), "{:?}", begun.elapsed());
    });
}

#[test]
fn c8_a_client_that_takes_a_part_of_what_the_transport_holds_back_is_not_stalled() {
    let limits = Limits { write_stall: millis(300), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        for _ in 0..10 {
            alice.client.set_flushed(Flushed::Nothing);
            tokio::time::sleep(millis(50)).await;
            alice.client.set_flushed(Flushed::Part);
            worker.quiet().await;
        }
        assert_eq!(alice.client.closed(), None, "500 ms, and never 300 without a byte");
        alice.client.set_flushed(Flushed::All);
        tokio::time::sleep(millis(400)).await;
        assert_eq!(alice.client.closed(), None, "nothing is left to wait for");
    });
}

#[test]
fn d9_the_end_waits_for_what_the_transport_holds_back() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.set_flushed(Flushed::Nothing);
        worker.shared.channels.close_all(CloseReason::Draining).await;
        worker.quiet().await;
        assert_eq!(alice.client.closed(), None, "its last answer would be lost");
        alice.client.set_flushed(Flushed::All);
        assert_eq!(alice.client.until_closed().await, (CloseReason::Draining, true));
    });
}

#[test]
fn g6_reading_stops_while_the_answers_are_not_taken_and_goes_on_afterwards() {
    let limits = Limits { max_queued_messages: 40, ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.set_room(LOGIN, 0);
        alice.client.send(LOGIN, pings(1000));
        worker.quiet().await;
        let read =
            |worker: &Worker| worker.harness.test_metrics.value("gateway_heartbeats_total{kind=\"frame\"}");
        assert_eq!(read(&worker), 40);
        alice.client.set_room(LOGIN, 10 * frame::HEAD_LEN);
        worker.quiet().await;
        assert_eq!(read(&worker), 50, "as many as were taken");
        alice.client.set_room(LOGIN, usize::MAX);
        alice.client.until("every pong", |client| client.pongs(LOGIN).len() == 1000).await;
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn g6_reading_goes_on_by_itself_once_everything_was_taken() {
    let limits = Limits { max_queued_messages: 40, ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.set_room(LOGIN, 0);
        alice.client.send(LOGIN, pings(100));
        worker.quiet().await;
        alice.client.set_room(LOGIN, usize::MAX);
        // Nothing else happens that could have the connection look again, and no deadline is near.
        worker.quiet().await;
        assert_eq!(alice.client.pongs(LOGIN).len(), 100);
    });
}

#[test]
fn g6_the_end_of_a_client_is_seen_while_it_is_not_read() {
    let limits = Limits { max_queued_messages: 4, ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.set_room(LOGIN, 0);
        alice.client.send(LOGIN, pings(10));
        worker.quiet().await;
        alice.client.vanish(CloseReason::PeerLost);
        assert_eq!(alice.client.until_closed().await, (CloseReason::PeerLost, false));
        assert!(worker.ended().await.is_ok());
        assert_eq!(worker.signouts(), [Some("peer_lost".to_owned())]);
        worker.assert_baseline();
    });
}

#[test]
fn c6_answers_of_other_streams_are_written_although_one_was_stopped() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        for (id, sequence) in [(4, 4), (8, 8), (12, 12)] {
            alice.client.open(StreamId(id));
            alice.client.send(StreamId(id), talk(sequence));
        }
        worker.quiet().await;
        assert_eq!(worker.harness.take_all("c1").len(), 3);
        alice.client.stop(STREAM);
        worker.quiet().await;
        for sequence in [4, 8, 12] {
            worker.harness.answer("c1", &alice.channel, TALK, sequence, 0);
        }
        worker.quiet().await;
        assert_eq!(answers(&alice.client, StreamId(8)), [(8, 0)]);
        assert_eq!(answers(&alice.client, StreamId(12)), [(12, 0)]);
        assert!(alice.client.events().contains(&Event::Reset(STREAM, CloseReason::Bye)));
        assert_eq!(worker.harness.test_metrics.queued(), (0, 0));
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn c7_answers_to_a_stream_that_was_reset_are_dropped_and_counted() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        alice.client.send(STREAM, talk(7));
        worker.quiet().await;
        worker.harness.take_all("c1");
        alice.client.step(STREAM, Step::Reset);
        worker.quiet().await;
        worker.harness.answer("c1", &alice.channel, TALK, 7, 0);
        worker.quiet().await;
        assert_eq!(worker.harness.test_metrics.rejects(Reject::StreamReset), 1);
        assert_eq!(
            (worker.harness.test_metrics.pending(), worker.harness.test_metrics.queued()),
            (0, (0, 0))
        );
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn b22_pushes_wait_behind_the_login_response_and_take_their_own_stream_if_granted() {
    for granted in [true, false] {
        run(no_rates(), async move |mut worker| {
            let client = worker.connect();
            if granted {
                client.grant_push_stream();
            }
            let channel = worker.knock(&client, "alice").await;
            worker.harness.push("c1", &channel, "early");
            worker.quiet().await;
            assert!(client.events().is_empty(), "nothing is written before the answer");
            worker.harness.answer("l1", &channel, SIGNIN, 1, 0);
            worker.harness.push("c1", &channel, "late");
            let stream = if granted { StreamId::PUSH } else { LOGIN };
            let expected = if granted { 2 } else { 3 };
            client.until("both pushes", |client| client.packets(stream).len() == expected).await;
            let bodies: Vec<_> = client.packets(stream).into_iter().map(|packet| packet.body).collect();
            assert_eq!(bodies[expected - 2..], [Bytes::from("early"), Bytes::from("late")]);
            assert!(matches!(client.events()[0], Event::Wrote(LOGIN, _)), "{:?}", client.events());
        });
    }
}
