//! Channels that keep their instance, and new ones that avoid an overloaded one.

use super::*;

#[test]
fn e2_a_channel_with_an_instance_elsewhere_is_a_trial_while_it_waits_for_nothing_and_stays_where_it_is() {
    let (harness, now) = one_ejected(two_chats());
    let guard = sign_in(&harness, &account_of(&harness, "chat", "c1"), "l1");
    // Whose account belongs to c2, and who came while that was ejected.
    let account = (0..).map(|n| format!("w{n}")).find(|account| selector::hashcode(account) % 20 >= 10);
    let other = sign_in(&harness, &account.unwrap(), "l1");
    forward(&harness, &other, TALK, 1).unwrap();
    assert_eq!(sequences(&harness.take_all("c1")), [1]);
    harness.dispatch.on(&harness.link("c2"), HealthEvent::Time, now + millis(10_000));
    forward(&harness, &other, TALK, 2).unwrap();
    forward(&harness, &guard, TALK, 9).unwrap();
    assert_eq!(sequences(&harness.take_all("c1")), [2, 9], "it waits for its first answer");
    for sequence in 1..=2 {
        harness.answer("c1", &other.channel.id, TALK, sequence, 0);
    }
    forward(&harness, &other, TALK, 3).unwrap();
    forward(&harness, &other, TALK, 4).unwrap();
    assert_eq!(sequences(&harness.take_all("c2")), [3], "the trial");
    assert_eq!(sequences(&harness.take_all("c1")), [4]);
    harness.answer("c2", &other.channel.id, TALK, 3, 0);
    assert_eq!(link_state(&harness, "c2"), "healthy");
    harness.answer("c1", &other.channel.id, TALK, 4, 0);
    forward(&harness, &other, TALK, 5).unwrap();
    assert_eq!(sequences(&harness.take_all("c1")), [5], "it stays where it is");
}

#[test]
fn g3_a_channel_leaves_an_instance_that_is_no_longer_healthy_when_nothing_is_pending_there() {
    let (harness, back) = one_healthy_one_warming();
    harness.lost_at("c1", back);
    let guard = sign_in(&harness, "alice", "l1");
    forward(&harness, &guard, TALK, 1).unwrap();
    harness.up_at("c1", back + millis(1));
    forward(&harness, &guard, TALK, 2).unwrap();
    assert_eq!(
        sequences(&harness.take_all("c2")),
        [1, 2],
        "the warming one has its first, so it gets the second"
    );
    harness.answer("c2", &guard.channel.id, TALK, 1, 0);
    forward(&harness, &guard, TALK, 3).unwrap();
    assert_eq!(sequences(&harness.take_all("c2")), [3]);
    for sequence in 2..=3 {
        harness.answer("c2", &guard.channel.id, TALK, sequence, 0);
    }
    forward(&harness, &guard, TALK, 4).unwrap();
    assert_eq!(sequences(&harness.take_all("c1")), [4], "nothing is pending there");
    assert_eq!(answers(&guard.channel.outgoing, StreamId::LOGIN), [(1, 0), (2, 0), (3, 0)]);
}

#[test]
fn g3_e11_a_channel_follows_an_instance_that_leaves_until_nothing_is_pending_there() {
    let harness = two_chats();
    harness.up(&["l1", "c1", "c2"]);
    let account = account_of(&harness, "chat", "c1");
    let (waiting, idle) = (sign_in(&harness, &account, "l1"), sign_in(&harness, &account, "l1"));
    forward(&harness, &waiting, TALK, 1).unwrap();
    forward(&harness, &idle, TALK, 11).unwrap();
    harness.take_all("c1");
    harness.answer("c1", &idle.channel.id, TALK, 11, 0);
    forward(&harness, &idle, TALK, 12).unwrap();
    forward(&harness, &waiting, TALK, 2).unwrap();
    let now = Instant::now();
    let c1 = leave(&harness, &["c1"], now).remove(0);
    assert_eq!(sequences(&harness.queued("c2")), [12], "queued, and nothing before it is with c1");
    forward(&harness, &waiting, TALK, 3).unwrap();
    assert_eq!(sequences(&harness.take_all("c1")), [2, 3]);
    for sequence in 1..=3 {
        harness.answer("c1", &waiting.channel.id, TALK, sequence, 0);
    }
    forward(&harness, &waiting, TALK, 4).unwrap();
    assert_eq!(sequences(&harness.take_all("c2")), [12, 4]);
    assert!(c1.has_left(now));
    assert!(c1.takes_followers(now + millis(999)) && !c1.takes_followers(now + millis(1000)));
    assert_eq!(c1.leaves_by(), Some(now + millis(5500)), "whoever followed has its full time");
}

#[test]
fn new_channels_avoid_an_instance_far_above_the_mean_and_those_that_it_has_stay() {
    for (is_bounded, pending, spills) in [(true, 127, false), (true, 128, true), (false, 200, false)] {
        let instances = [("login", "l1", XIm), ("chat", "c1", XIm), ("chat", "c2", XIm)];
        let harness = harness_with(is_bounded, Limits::default(), false, &instances);
        harness.up(&["l1", "c1", "c2"]);
        let account = account_of(&harness, "chat", "c1");
        let old = sign_in(&harness, &account, "l1");
        for sequence in 0..pending {
            forward(&harness, &old, TALK, sequence).unwrap();
        }
        let sent = harness.take_all("c1").len();
        assert_eq!(sent, pending as usize);
        let new = sign_in(&harness, &account, "l1");
        forward(&harness, &new, TALK, 1000).unwrap();
        let place = if spills { "c2" } else { "c1" };
        assert_eq!(sequences(&harness.take_all(place)), [1000], "{is_bounded} {pending}");
        assert_eq!(harness.test_metrics.value("gateway_spilled_total"), i64::from(spills));
        forward(&harness, &old, TALK, 2000).unwrap();
        assert_eq!(sequences(&harness.take_all("c1")), [2000], "it has its instance");
        for sequence in 0..pending {
            harness.answer("c1", &old.channel.id, TALK, sequence, 0);
        }
        forward(&harness, &new, TALK, 1001).unwrap();
        assert_eq!(sequences(&harness.take_all(place)), [1001], "and so has the new one from now on");
        let newer = sign_in(&harness, &account, "l1");
        forward(&harness, &newer, TALK, 3000).unwrap();
        assert_eq!(sequences(&harness.take_all("c1")), [3000], "the wave is over");
    }
}

#[test]
fn e3_new_channels_avoid_an_instance_whose_queue_is_half_full_unless_all_are() {
    let limits = Limits { backend_queued_packets: 10, ..Limits::default() };
    let instances = [("login", "l1", XIm), ("chat", "c1", XIm), ("chat", "c2", XIm)];
    let harness = harness(limits, false, &instances);
    harness.up(&["l1", "c1", "c2"]);
    let account = account_of(&harness, "chat", "c1");
    let place = |sequence| {
        let guard = sign_in(&harness, &account, "l1");
        forward(&harness, &guard, TALK, sequence).unwrap();
        (harness.queued("c1").len(), harness.queued("c2").len())
    };
    let places: Vec<_> = (1..=11).map(place).collect();
    assert_eq!(places[..5], [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]);
    assert_eq!(places[5..10], [(5, 1), (5, 2), (5, 3), (5, 4), (5, 5)]);
    assert_eq!(places[10], (6, 5), "all are: the instance of the account");
}
