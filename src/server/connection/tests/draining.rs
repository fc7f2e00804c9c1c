//! What a client sees of the drain.

use super::*;

#[test]
fn f1_a_draining_channel_gets_its_last_answers_and_no_more_pushes() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let idle = worker.sign_in("bob").await;
        alice.client.send(LOGIN, talk(7));
        worker.quiet().await;
        worker.harness.take_all("c1");
        worker.shared.channels.close_all(CloseReason::Draining).await;
        assert_eq!(idle.client.until_closed().await, (CloseReason::Draining, true));
        alice.client.send(LOGIN, talk(8));
        worker.harness.push("c1", &alice.channel, "too late");
        worker.quiet().await;
        assert_eq!(alice.client.closed(), None, "one answer is owed");
        assert!(worker.harness.take_all("c1").is_empty(), "what comes after is not handed over");
        worker.harness.answer("c1", &alice.channel, TALK, 7, 0);
        assert_eq!(alice.client.until_closed().await, (CloseReason::Draining, true));
        assert_eq!(answers(&alice.client, LOGIN), [(1, 0), (8, 300), (7, 0)]);
        assert_eq!(worker.harness.test_metrics.push_drops(PushDrop::Closing), 1);
        assert_eq!(worker.harness.test_metrics.rejects(Reject::ChannelClosing), 1);
        assert!(worker.ended().await.is_ok() && worker.ended().await.is_ok());
        assert_eq!(worker.signouts().len(), 2);
        worker.assert_baseline();
    });
}

/// What is in the socket when the close begins is answered: its client need not guess whether it was handed over.
#[test]
fn f1_g1_what_has_come_when_the_close_begins_is_answered_300_and_never_handed_over() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        worker.quiet().await;
        worker.shared.channels.close_all(CloseReason::Draining).await;
        alice.client.send(LOGIN, talk(7));
        alice.client.send(STREAM, talk(8));
        assert_eq!(alice.client.until_closed().await, (CloseReason::Draining, true));
        assert_eq!(answers(&alice.client, LOGIN), [(1, 0), (7, 300)]);
        assert_eq!(answers(&alice.client, STREAM), [(8, 300)]);
        assert!(worker.harness.take_all("c1").is_empty());
        assert!(worker.ended().await.is_ok());
        let (received, forwarded, rejected) = worker.harness.test_metrics.requests();
        assert_eq!((received, forwarded, rejected), (3, 1, 2), "G9");
        assert_eq!(worker.signouts(), [Some("draining".to_owned())]);
        worker.assert_baseline();
    });
}

#[test]
fn f1_channels_are_served_until_their_own_close_and_connections_without_one_end_at_once() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let stranger = worker.connect();
        worker.quiet().await;
        let channels = worker.shared.channels.begin_drain().await;
        let ids: Vec<_> = channels.iter().map(|channel| channel.id.to_string()).collect();
        assert_eq!(ids, [alice.channel.as_str()]);
        assert_eq!(stranger.until_closed().await, (CloseReason::Draining, true));
        // A request, its answer and a push, all of them after the drain began.
        alice.client.send(LOGIN, talk(7));
        worker.quiet().await;
        assert_eq!(worker.harness.take_all("c1").len(), 1, "handed over as ever");
        worker.harness.answer("c1", &alice.channel, TALK, 7, 0);
        worker.harness.push("c1", &alice.channel, "in time");
        worker.quiet().await;
        assert_eq!(alice.client.closed(), None);
        let late = worker.connect();
        assert_eq!(late.until_closed().await, (CloseReason::Draining, true));

        worker.shared.channels.close(&alice.channel, CloseReason::Draining);
        worker.shared.channels.close("gone", CloseReason::Draining);
        assert_eq!(alice.client.until_closed().await, (CloseReason::Draining, true));
        assert_eq!(answers(&alice.client, LOGIN)[..2], [(1, 0), (7, 0)]);
        assert_eq!(alice.client.packets(LOGIN).len(), 3, "two answers and the push");
        drop(channels);
        for _ in 0..3 {
            assert!(worker.ended().await.is_ok());
        }
        assert_eq!(worker.signouts().len(), 1);
        worker.assert_baseline();
    });
}

#[test]
fn f1_near_the_hard_stop_nobody_waits_for_an_answer() {
    run(no_rates(), async |mut worker| {
        let waiting = worker.sign_in("alice").await;
        waiting.client.send(LOGIN, talk(7));
        let opening = worker.connect();
        worker.knock(&opening, "bob").await;
        let idle = worker.sign_in("carol").await;
        let channels = worker.shared.channels.begin_drain().await;
        assert_eq!(channels.len(), 3);
        drop(channels);
        worker.shared.channels.close(&waiting.channel, CloseReason::Draining);
        worker.quiet().await;
        assert_eq!((waiting.client.closed(), idle.client.closed(), opening.closed()), (None, None, None));
        worker.shared.channels.cut_short().await;
        for client in [&waiting.client, &idle.client, &opening] {
            assert_eq!(client.until_closed().await, (CloseReason::Draining, true));
            assert!(worker.ended().await.is_ok());
        }
        assert_eq!(worker.shared.channels.connections(), 0);
    });
}

/// protocol §2: to QUIC clients, and to others that asked for it; where pushes go, and not before the channel is open.
#[test]
fn f1_go_away_reaches_those_who_know_it_and_nobody_else() {
    for (kind, tags, told) in [
        (TransportLabel::Quic, &[][..], true),
        (TransportLabel::Tcp, &[], false),
        (TransportLabel::Tls, &["other", "Goaway"], false),
        (TransportLabel::Tcp, &["other", "goaway"], true),
    ] {
        run(no_rates(), async |mut worker| {
            let go_away = GoAway { seconds: 12, code: 3000 };
            let expected = Bytes::from_static(b"2345\0\x03\0\x04\0\x0c\x0b\xb8");
            let basics = |client: &Client, stream| -> Vec<Bytes> {
                let payloads = client.frames(stream).into_iter().map(|frame| frame.payload);
                payloads.filter(|payload| payload.starts_with(b"2345")).collect()
            };
            let client = worker.connect();
            client.be(kind);
            client.grant_push_stream();
            let channel = worker.knock_with(&client, "alice", tags).await;
            let channels = worker.shared.channels.begin_drain().await;
            worker.shared.channels.get(channel.as_bytes()).unwrap().announce_close(go_away, None);
            worker.quiet().await;
            assert!(client.frames(LOGIN).is_empty(), "nothing before the login response");
            worker.harness.answer("l1", &channel, SIGNIN, 1, 0);
            client.until("the login response", |client| client.packets(LOGIN).len() == 1).await;
            worker.harness.push("c1", &channel, "behind it");
            worker.quiet().await;
            let expected = if told { vec![expected.clone()] } else { Vec::new() };
            assert_eq!(basics(&client, StreamId::PUSH), expected, "{kind:?} {tags:?}");
            assert!(basics(&client, LOGIN).is_empty());
            assert_eq!(client.packets(StreamId::PUSH).len(), 1, "the push comes all the same");
            drop(channels);
            worker.shared.channels.close(&channel, CloseReason::Draining);
            assert_eq!(client.until_closed().await, (CloseReason::Draining, true));
            assert!(worker.ended().await.is_ok());
        });
    }
}
