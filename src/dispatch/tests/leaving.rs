//! Instances that leave the set.

use super::*;

#[test]
fn e11_an_instance_that_left_for_good_is_not_lost_but_another_of_its_name_may_be() {
    let harness = two_chats_unbounded();
    let is_lost = |count: u8| {
        let line = format!("gateway_events_active{{event=\"instance_lost\"}} {count}");
        harness.test_metrics.metrics.render().lines().any(|shown| shown == line)
    };
    let raise = || {
        let event = crate::monitor::events::event::Event::instance_lost("chat", "c2", "z", "for a test");
        harness.dispatch.metrics.raise(event);
    };
    raise();
    harness.up(&["c2"]);
    assert!(is_lost(0), "it is linked");
    harness.lost("c2");
    raise();
    let left = leave(&harness, &["c2"], Instant::now());
    harness.dispatch.add(left[0].instance.clone(), false);
    harness.dispatch.remove(&left[0]);
    assert!(is_lost(1), "the new one is not linked");
    let left = leave(&harness, &["c2"], Instant::now());
    harness.dispatch.remove(&left[0]);
    assert!(is_lost(0));
}

#[test]
fn e11_what_is_queued_for_an_instance_that_leaves_moves_and_what_it_got_is_still_awaited() {
    let harness = two_chats_unbounded();
    harness.up(&["l1", "c1", "c2"]);
    let account = account_of(&harness, "chat", "c1");
    let guard = sign_in(&harness, &account, "l1");
    for sequence in 1..=4 {
        forward(&harness, &guard, TALK, sequence).unwrap();
    }
    // One is written whole, one is cut behind its first byte.
    let whole = harness.link("c1").queue().frames().next().unwrap().len();
    harness.write("c1", whole + 1);
    let now = Instant::now();
    let c1 = leave(&harness, &["c1"], now).remove(0);
    assert_eq!(sequences(&harness.queued("c2")), [3, 4]);
    assert_eq!(
        answers(&guard.channel.outgoing, StreamId::LOGIN),
        [],
        "its link lives: their answers may come"
    );
    assert_eq!((c1.load(), harness.link("c2").load()), (2, 2));
    forward(&harness, &guard, TALK, 5).unwrap();
    assert_eq!(sequences(&harness.take_all("c2")), [3, 4, 5], "out of selection at once");

    assert!(!c1.has_left(now), "the cut one is to be finished");
    harness.write("c1", usize::MAX);
    harness.answer("c1", &guard.channel.id, TALK, 1, 0);
    assert!(!c1.has_left(now));
    harness.answer("c1", &guard.channel.id, TALK, 2, 0);
    assert_eq!(answers(&guard.channel.outgoing, StreamId::LOGIN), [(1, 0), (2, 0)]);
    assert!(c1.has_left(now), "it owes nothing more");
    harness.dispatch.remove(&c1);
    assert_eq!(harness.dispatch.services.links.all().len(), 2);
    assert_eq!(harness.test_metrics.rejects(Reject::NoInstance), 0);
}

#[test]
fn e11_an_instance_that_left_and_does_not_answer_is_waited_for_as_long_as_a_request_has() {
    let harness = two_chats_unbounded();
    harness.up(&["l1", "c1", "c2"]);
    let guard = sign_in(&harness, &account_of(&harness, "chat", "c1"), "l1");
    forward(&harness, &guard, TALK, 1).unwrap();
    harness.take_all("c1");
    let now = Instant::now();
    let c1 = leave(&harness, &["c1"], now).remove(0);
    assert_eq!(c1.leaves_by(), Some(now + millis(4500)));
    assert!(!c1.has_left(now + millis(4499)));
    assert!(c1.has_left(now + millis(4500)));
    harness.lost("c1");
    assert_eq!(answers(&guard.channel.outgoing, StreamId::LOGIN), [(1, OUTCOME_UNKNOWN)]);
    assert_eq!(c1.load(), 0);
}

#[test]
fn e11_what_nobody_else_can_take_stays_with_the_instance_that_leaves() {
    let harness = two_chats_unbounded();
    harness.up(&["l1", "c1", "c2"]);
    let guards: Vec<_> = (0..20).map(|n| sign_in(&harness, &format!("u{n}"), "l1")).collect();
    for (guard, sequence) in guards.iter().zip(1..) {
        forward(&harness, guard, TALK, sequence).unwrap();
    }
    let queued = (harness.queued("c1").len(), harness.queued("c2").len());
    let links = leave(&harness, &["c1", "c2"], Instant::now());
    assert_eq!((harness.queued("c1").len(), harness.queued("c2").len()), queued, "nor from one to the other");
    assert_eq!(
        forward(&harness, &guards[0], TALK, 99).unwrap_err(),
        Refused::NoInstance,
        "known, and without anybody"
    );
    assert_eq!(links.iter().map(|link| link.load()).sum::<usize>(), 20);
    assert_eq!(harness.test_metrics.pending(), 20);
}

#[test]
fn e11_one_that_is_back_in_time_keeps_its_link_and_one_at_another_address_is_warming() {
    let harness = two_chats();
    harness.up(&["l1", "c1", "c2"]);
    let now = Instant::now();
    let chosen = || {
        let chosen = |n| harness.dispatch.choose("chat", "x_im", &format!("u{n}")).unwrap().key.0;
        (0..50).map(chosen).collect::<BTreeSet<_>>()
    };
    let before = chosen();
    assert_eq!(before.len(), 2);
    let c2 = leave(&harness, &["c2"], now).remove(0);
    assert_eq!(chosen().len(), 1);
    harness.dispatch.undrain(&c2, now);
    assert_eq!(chosen(), before);
    assert!(!c2.has_left(now + millis(60_000)));

    leave(&harness, &["c2"], now);
    let moved = crate::config::Instance { address: "127.0.0.1:2".to_owned(), ..c2.instance.clone() };
    let link = harness.dispatch.add(moved, false);
    assert_ne!(link.key, c2.key);
    harness.up_at("c2", now);
    assert_eq!(link_state(&harness, "c2"), "warming");
    assert_eq!(chosen().len(), 1);
    assert!(grown(&harness, &link, now + millis(10_000)));
    assert!(chosen().contains(&link.key.0));
    // What went to the old one is not answered by the new one.
    harness.dispatch.remove(&c2);
    assert!(harness.dispatch.services.links.get(c2.key).is_none());
    assert!(harness.dispatch.services.links.get(link.key).is_some());
}

#[test]
fn e11_a_service_whose_last_instance_left_is_known_all_the_same() {
    let harness = two_chats();
    harness.up(&["l1", "c1", "c2"]);
    for link in leave(&harness, &["c1", "c2"], Instant::now()) {
        harness.dispatch.remove(&link);
    }
    let guard = sign_in(&harness, "alice", "l1");
    assert_eq!(forward(&harness, &guard, TALK, 1).unwrap_err(), Refused::NoInstance);
    let series = harness.test_metrics.metrics.render();
    assert!(!series.contains("instance=\"c1\""), "the series of an instance go with it");
    assert!(series.contains("instance=\"l1\""));
}

/// A login instance that leaves is kept for the answers to its sign-ins, those of channels that have ended included.
#[test]
fn e11_the_load_counts_what_is_unanswered_and_nothing_else() {
    let harness = two_logins();
    harness.up(&["l1", "c1"]);
    let l1 = harness.link("l1");
    let answered = sign_in(&harness, "alice", "l1");
    assert_eq!(l1.load(), 0, "though the channel keeps its sign-in");
    let waiting = arrive(&harness, "bob");
    let id = Rc::clone(&waiting.channel.id);
    forward(&harness, &waiting, command::LOGIN_SIGNIN, 1).unwrap();
    harness.take_all("l1");
    assert_eq!(l1.load(), 1);
    end(&harness, waiting, CloseReason::PeerClosed);
    assert_eq!(l1.load(), 1, "its sign-out waits for the answer");
    harness.answer("l1", &id, command::LOGIN_SIGNIN, 1, 0);
    assert_eq!(l1.load(), 0);

    let c1 = harness.link("c1");
    let withdrawn = forward(&harness, &answered, TALK, 1).unwrap();
    forward(&harness, &answered, TALK, 2).unwrap();
    assert_eq!(c1.load(), 2);
    assert!(harness.dispatch.withdraw(&withdrawn));
    assert_eq!(c1.load(), 1);
    drop(withdrawn);
    drop(answered);
    assert_eq!(c1.load(), 1, "still queued, and forwarded though its channel has ended (G4)");
    harness.take_all("c1");
    assert_eq!(c1.load(), 0);
}

#[test]
fn g5_e11_a_sign_out_whose_instance_left_goes_to_the_selectors_choice() {
    // While its link is being closed, and when it is gone; queued there already, or not yet.
    for gone in [false, true] {
        let (harness, guard) = signed_in_at_l1();
        let l1 = leave(&harness, &["l1"], Instant::now()).remove(0);
        if gone {
            harness.lost("l1");
            harness.dispatch.remove(&l1);
        }
        end(&harness, guard, CloseReason::Bye);
        assert_eq!(harness.queued("l2").len(), 1, "gone: {gone}");
    }
    let (harness, guard) = signed_in_at_l1();
    end(&harness, guard, CloseReason::Bye);
    assert_eq!(harness.queued("l1").len(), 1);
    leave(&harness, &["l1"], Instant::now());
    run_signouts(&harness, Instant::now());
    assert_eq!((harness.queued("l1").len(), harness.queued("l2").len()), (0, 1), "it moves");
    harness.write("l2", usize::MAX);
    assert_eq!(harness.test_metrics.signouts(Signout::Written), 1);
}
