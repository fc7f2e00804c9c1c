//! What becomes of requests as instances warm up, are ejected and tried again.

use super::*;

#[test]
fn e1_only_live_links_are_chosen() {
    let harness = two_chats();
    harness.up(&["c1", "c2"]);
    let chosen =
        |account: &str| harness.dispatch.choose("chat", "x_im", account).unwrap().instance.id.clone();
    let both: BTreeSet<_> = (0..50).map(|n| chosen(&format!("u{n}"))).collect();
    assert_eq!(both.len(), 2);
    harness.lost("c1");
    assert!((0..50).all(|n| chosen(&format!("u{n}")) == "c2"));
    harness.up(&["c1"]);
    let again: BTreeSet<_> = (0..50).map(|n| chosen(&format!("u{n}"))).collect();
    assert_eq!(both, again);
}

#[test]
fn g4_when_the_last_healthy_goes_the_warming_one_takes_its_queue_in_the_same_step() {
    let (harness, back) = one_healthy_one_warming();
    assert_eq!((link_state(&harness, "c1"), link_state(&harness, "c2")), ("healthy", "warming"));
    let guards: Vec<_> = (0..20).map(|n| sign_in(&harness, &format!("u{n}"), "l1")).collect();
    for (guard, sequence) in guards.iter().zip(1..) {
        forward(&harness, guard, TALK, sequence).unwrap();
    }
    assert!(harness.queued("c2").is_empty(), "whoever would belong to it");
    harness.lost_at("c1", back + millis(1));
    assert_eq!(sequences(&harness.queued("c2")), (1..=20).collect::<Vec<_>>(), "oldest first");
    assert_eq!(harness.test_metrics.rejects(Reject::NoInstance), 0);
    assert_eq!(harness.test_metrics.value("gateway_requests_rejected_total"), 0);
    assert_eq!(link_state(&harness, "c2"), "warming", "it serves and is warming all the same");
}

#[test]
fn g3_when_a_first_healthy_appears_what_is_queued_for_a_warming_one_stays_there() {
    let harness = two_chats_unbounded();
    let back = age_c2(&harness);
    harness.lost_at("c1", back);
    let guard = sign_in(&harness, "alice", "l1");
    forward(&harness, &guard, TALK, 1).unwrap();
    harness.up_at("c1", back + millis(1));
    forward(&harness, &guard, TALK, 2).unwrap();
    assert_eq!(sequences(&harness.queued("c2")), [1]);
    assert_eq!(sequences(&harness.take_all("c1")), [2]);
    harness.answer("c1", &guard.channel.id, TALK, 2, 0);
    harness.take_all("c2");
    harness.answer("c2", &guard.channel.id, TALK, 1, 0);
    assert_eq!(answers(&guard.channel.outgoing, StreamId::LOGIN), [(2, 0), (1, 0)]);
}

#[test]
fn e7_a_warming_one_gets_its_share_at_its_time_and_not_before() {
    let (harness, back) = one_healthy_one_warming();
    let (c1, c2) = (harness.link("c1"), harness.link("c2"));
    let shares = || {
        let chosen =
            |n| harness.dispatch.choose("chat", "x_im", &format!("u{n}")).unwrap().instance.id.clone();
        (0..50).map(chosen).collect::<BTreeSet<_>>()
    };
    assert!(!grown(&harness, &c2, back + millis(9999)));
    assert_eq!(c2.health().next_due(), Some(back + millis(10_000)));
    assert!(shares().iter().eq(["c1"]));
    assert!(grown(&harness, &c2, back + millis(10_000)));
    assert_eq!((link_state(&harness, "c2"), c2.health().next_due()), ("healthy", None));
    assert!(shares().iter().eq(["c1", "c2"]));
    assert!(!grown(&harness, &c2, back + millis(10_001)), "told once");
    assert!(!grown(&harness, &c1, back + millis(10_001)));
}

/// Warming or healthy makes no difference to what is bound to the instance by name.
#[test]
fn g5_a_warming_instance_still_gets_the_sign_out_of_its_own_sign_in() {
    let (harness, guard) = signed_in_at_l1();
    let now = Instant::now();
    harness.lost_at("l2", now);
    harness.up_at("l2", now + millis(6000));
    end(&harness, guard, CloseReason::Bye);
    assert_eq!((harness.queued("l1").len(), harness.queued("l2").len()), (1, 0));

    let harness = two_logins();
    harness.up(&["l1"]);
    harness.lost_at("l1", now);
    harness.up_at("l1", now + millis(6000));
    let guard = sign_in(&harness, "alice", "l1");
    harness.up_at("l2", now + millis(6000));
    end(&harness, guard, CloseReason::Bye);
    assert_eq!((harness.queued("l1").len(), harness.queued("l2").len()), (1, 0), "l1 is warming, l2 healthy");
}

#[test]
fn e2_what_times_out_because_this_worker_stood_still_ejects_nobody() {
    let harness = two_chats_unbounded();
    harness.up(&["l1", "c1", "c2"]);
    let guard = sign_in(&harness, &account_of(&harness, "chat", "c2"), "l1");
    let two_pings = harness.dispatch.settings.limits.now().backend_ping * 2;
    let (link, asked) = (harness.link("c2"), Instant::now());
    let time_out = |sequence, now| {
        forward(&harness, &guard, TALK, sequence).unwrap();
        harness.take_all("c2");
        let ticket = guard.channel.pending.borrow_mut().take_oldest().unwrap();
        harness.dispatch.timed_out(&ticket, now);
    };
    link.note_poll(asked);
    let awake = asked + two_pings + millis(1);
    for sequence in 1..=5 {
        time_out(sequence, awake);
    }
    assert_eq!(link_state(&harness, "c2"), "healthy", "its answers may lie unread");
    assert_eq!(link.note_poll(awake), two_pings + millis(1));
    for sequence in 6..=10 {
        time_out(sequence, awake + two_pings);
    }
    assert_eq!(link_state(&harness, "c2"), "ejected", "the worker had its turns, and nothing came");
    link.rest();
    assert_eq!(link.note_poll(awake + two_pings * 9), millis(0), "no connection, no pause");
}

#[test]
fn e2_an_ejected_instance_gets_one_request_when_its_time_is_over_and_the_answer_restores_it() {
    let (harness, now) = one_ejected(two_chats_unbounded());
    let guards: Vec<_> = (0..40).map(|n| sign_in(&harness, &format!("v{n}"), "l1")).collect();
    let ask = |sequence| {
        for guard in &guards {
            forward(&harness, guard, TALK, sequence).unwrap();
        }
        (harness.take_all("c1").len(), harness.take_all("c2"))
    };
    assert_eq!(ask(1).0, 40, "none");
    harness.dispatch.on(&harness.link("c2"), HealthEvent::Time, now + millis(10_000));
    let (others, trial) = ask(2);
    assert_eq!((others, trial.len()), (39, 1));
    assert_eq!(ask(3).0, 40, "one only");
    harness.answer("c2", &header(&trial[0]).channel_id, TALK, 2, 0);
    assert_eq!(link_state(&harness, "c2"), "healthy");
    assert!(!ask(4).1.is_empty());
    let series = "gateway_link_transitions_total{to=\"ejected\"}";
    assert_eq!(harness.test_metrics.value(series), 1);
}

#[test]
fn g4_a_queue_that_moves_tries_nobody_with_more_than_one_request() {
    let harness = harness(
        Limits::default(),
        false,
        &[("login", "l1", XIm), ("chat", "c1", XIm), ("chat", "c2", XIm), ("chat", "c3", XIm)],
    );
    harness.up(&["l1", "c1", "c2", "c3"]);
    harness.dispatch.link_lost(&harness.link("c2"), Loss::Silent, Instant::now());
    harness.up(&["c2"]);
    assert_eq!(link_state(&harness, "c2"), "ejected");
    harness.lost("c1");
    let guards: Vec<_> = (0..40).map(|n| sign_in(&harness, &format!("v{n}"), "l1")).collect();
    for guard in &guards {
        forward(&harness, guard, TALK, 1).unwrap();
    }
    harness.lost("c3");
    // Nobody is left but the one half-open, so it gets all.
    assert_eq!(harness.queued("c2").len(), 40);
    assert_eq!(harness.test_metrics.rejects(Reject::NoInstance), 0);
}
