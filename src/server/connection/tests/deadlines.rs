//! Requests and logins that are not answered in time.

use super::*;

#[test]
fn g1_g4_a_request_still_queued_at_its_deadline_is_taken_back_and_answered_300() {
    let limits = Limits { request_deadline: millis(150), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let arrived = Instant::now();
        alice.client.send(LOGIN, talk(7));
        alice.client.until("the answer", |client| client.packets(LOGIN).len() == 2).await;
        assert!(arrived.elapsed() >= millis(100), "{:?}", arrived.elapsed());
        assert_eq!(answers(&alice.client, LOGIN), [(1, 0), (7, pb::Status::SystemException as i32)]);
        assert!(worker.harness.link("c1").queue().is_empty(), "it was taken out first");
        assert_eq!(worker.harness.test_metrics.pending(), 0);
        assert_eq!(worker.harness.test_metrics.requests(), (2, 1, 1));
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn g1_g4_a_request_that_was_sent_is_answered_210_at_its_deadline_and_its_late_answer_dropped() {
    let limits = Limits { request_deadline: millis(150), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        alice.client.send(STREAM, talk(7));
        worker.quiet().await;
        worker.harness.write("c1", 1);
        alice.client.until("the answer", |client| client.packets(STREAM).len() == 1).await;
        assert_eq!(answers(&alice.client, STREAM), [(7, pb::Status::OutcomeUnknown as i32)]);
        worker.harness.answer("c1", &alice.channel, TALK, 7, 0);
        worker.quiet().await;
        assert_eq!(client_answers(&alice.client), [(1, 0), (7, 210)], "exactly one answer");
        assert_eq!(worker.harness.test_metrics.rejects(Reject::ResponseUnmatched), 1);
        assert_eq!(worker.harness.test_metrics.pending(), 0);
    });
}

/// Sequence and status of everything answered on both streams.
fn client_answers(client: &Client) -> Vec<(u32, i32)> {
    [answers(client, LOGIN), answers(client, STREAM)].concat()
}

#[test]
fn g1_no_answer_of_the_gateways_is_due_later_than_the_deadline() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let (handler, deadline) = (&worker.shared.handler, worker.shared.limits.now().request_deadline);
        let channel = worker.shared.channels.get(alice.channel.as_bytes()).unwrap();
        assert_eq!(handler.answer_due(&channel), None);
        for offset in 0..200 {
            let arrived = Instant::now() + Duration::from_micros(offset * 731);
            let ticket = crate::session::fixtures::ticket_of(&channel, &packet(TALK, 1, ""), LOGIN, arrived);
            channel.pending.borrow_mut().push(ticket);
            let due = handler.answer_due(&channel).unwrap();
            assert!(due <= arrived + deadline, "offset {offset}");
            assert!(
                due + millis(crate::limits::DEADLINE_TICK_MS + 1) > arrived + deadline,
                "offset {offset}"
            );
            channel.pending.borrow_mut().take_oldest();
        }
    });
}

#[test]
fn a_login_that_is_not_answered_in_time_ends_with_210_or_300() {
    for (handed_over, status, signouts) in
        [(true, pb::Status::OutcomeUnknown, 1), (false, pb::Status::SystemException, 0)]
    {
        let limits = Limits { login_answer: millis(150), ..no_rates() };
        run(limits, async move |mut worker| {
            let client = worker.connect();
            let login = pb::LoginReq {
                token: mint(SECRET, "alice", "x_im", Duration::from_secs(60)),
                ..pb::LoginReq::default()
            };
            client.send(LOGIN, frame_of(&packet(SIGNIN, 1, login.encode_to_vec())));
            worker.quiet().await;
            if handed_over {
                worker.harness.take_all("l1");
            }
            assert_eq!(client.until_closed().await, (CloseReason::LoginUnavailable, true));
            assert_eq!(answers(&client, LOGIN), [(1, status as i32)]);
            assert!(worker.ended().await.is_ok());
            assert_eq!(worker.signouts().len(), signouts, "handed over: {handed_over}");
            worker.assert_baseline();
        });
    }
}

#[test]
fn b8_a_client_that_does_not_sign_in_is_closed_at_the_login_deadline() {
    let limits = Limits { login_deadline: millis(80), frame_deadline: millis(10), ..no_rates() };
    run(limits, async |mut worker| {
        let client = worker.connect();
        let begun = Instant::now();
        client.send(LOGIN, ping(b"hello?"));
        client.send(LOGIN, Bytes::from_static(&[2, 0, 0]));
        assert_eq!(client.until_closed().await, (CloseReason::LoginTimeout, true));
        assert!(begun.elapsed() >= millis(60), "{:?}", begun.elapsed());
        assert_eq!(client.pongs(LOGIN).len(), 1);
        assert!(worker.ended().await.is_ok());
        worker.assert_baseline();
    });
}
