//! Instances that an operator ejects and returns.

use super::*;

fn chosen(harness: &TestDispatch) -> BTreeSet<String> {
    let chosen = |n| Some(harness.dispatch.choose("chat", "x_im", &format!("u{n}"))?.instance.id.clone());
    (0..50).filter_map(chosen).collect()
}

#[test]
fn e2_what_is_queued_for_an_instance_that_an_operator_ejects_moves_and_what_it_got_is_still_awaited() {
    let harness = two_chats();
    harness.up(&["l1", "c1", "c2"]);
    let guard = sign_in(&harness, &account_of(&harness, "chat", "c1"), "l1");
    for sequence in 1..=4 {
        forward(&harness, &guard, TALK, sequence).unwrap();
    }
    let whole = harness.link("c1").queue().frames().next().unwrap().len();
    harness.write("c1", whole);
    let now = Instant::now();
    assert_eq!(harness.dispatch.set_aside("chat", "c1", now), 3);
    assert_eq!(link_state(&harness, "c1"), "ejected");
    forward(&harness, &guard, TALK, 5).unwrap();
    assert_eq!(sequences(&harness.take_all("c2")), [2, 3, 4, 5]);
    harness.answer("c1", &guard.channel.id, TALK, 1, 0);
    assert_eq!(answers(&guard.channel.outgoing, StreamId::LOGIN), [(1, 0)]);
    assert_eq!(harness.dispatch.set_aside("chat", "c1", now), 0, "again changes nothing");
}

#[test]
fn e2_an_instance_that_an_operator_ejected_stays_so_over_time_reconnects_and_its_leaving() {
    let harness = two_chats();
    harness.up(&["l1", "c1", "c2"]);
    let now = Instant::now();
    harness.dispatch.set_aside("chat", "c1", now);
    let only_c2 = BTreeSet::from(["c2".to_owned()]);
    assert_eq!(chosen(&harness), only_c2);
    harness.lost_at("c1", now);
    harness.up_at("c1", now + millis(100));
    harness.dispatch.on(&harness.link("c1"), HealthEvent::Time, now + millis(3_600_000));
    assert_eq!((chosen(&harness), link_state(&harness, "c1")), (only_c2.clone(), "ejected"));
    // Nor is it a last resort.
    harness.lost_at("c2", now);
    assert_eq!(chosen(&harness), BTreeSet::new());
    harness.up(&["c2"]);

    let c1 = leave(&harness, &["c1"], now).remove(0);
    harness.dispatch.remove(&c1);
    harness.dispatch.add(c1.instance.clone(), true);
    harness.up(&["c1"]);
    assert_eq!((chosen(&harness), harness.link("c1").is_set_aside()), (only_c2, true));

    assert_eq!(harness.dispatch.take_back(Some("login"), "c1", now), [""; 0]);
    assert_eq!(harness.dispatch.take_back(None, "c1", now), ["chat"]);
    assert_eq!((chosen(&harness).len(), link_state(&harness, "c1")), (2, "healthy"));
    assert_eq!(harness.dispatch.take_back(None, "c1", now), [""; 0]);
}

#[test]
fn g5_e2_a_sign_out_goes_to_the_instance_of_its_sign_in_though_an_operator_ejected_that() {
    let (harness, guard) = signed_in_at_l1();
    harness.dispatch.set_aside("login", "l1", Instant::now());
    end(&harness, guard, CloseReason::Bye);
    assert_eq!(harness.queued("l1").len(), 1);
    assert_eq!(harness.queued("l2").len(), 0);
}

#[test]
fn e2_what_nobody_else_can_take_stays_with_the_instance_that_an_operator_ejects() {
    let harness = two_chats();
    harness.up(&["l1", "c1"]);
    let guard = sign_in(&harness, "alice", "l1");
    forward(&harness, &guard, TALK, 1).unwrap();
    assert_eq!(harness.dispatch.set_aside("chat", "c1", Instant::now()), 0);
    assert_eq!(sequences(&harness.queued("c1")), [1]);
    assert_eq!(forward(&harness, &guard, TALK, 2).unwrap_err(), Refused::NoInstance);
}

#[test]
fn e2_what_an_ejected_instance_has_queued_stays_as_far_as_others_have_no_room() {
    let limits = Limits { backend_queued_packets: 4, ..Limits::default() };
    let harness = harness(limits, false, &[("login", "l1", XIm), ("chat", "c1", XIm), ("chat", "c2", XIm)]);
    harness.up(&["l1", "c1", "c2"]);
    let [one, other] = ["c1", "c2"].map(|chat| sign_in(&harness, &account_of(&harness, "chat", chat), "l1"));
    for sequence in 1..=3 {
        forward(&harness, &one, TALK, sequence).unwrap();
        forward(&harness, &other, TALK, 10 + sequence).unwrap();
    }
    assert_eq!(harness.dispatch.set_aside("chat", "c1", Instant::now()), 1, "only what moved is counted");
    assert_eq!(sequences(&harness.queued("c1")), [2, 3]);
    assert_eq!(sequences(&harness.queued("c2")), [11, 12, 13, 1]);
    assert_eq!(answers(&one.channel.outgoing, StreamId::LOGIN), [(0, 0); 0], "nothing is refused");
    harness.write("c1", usize::MAX);
    harness.answer("c1", &one.channel.id, TALK, 2, 0);
    assert_eq!(answers(&one.channel.outgoing, StreamId::LOGIN), [(2, 0)]);
}
