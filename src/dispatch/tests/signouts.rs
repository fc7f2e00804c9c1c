//! Where sign-outs go, and which are owed.

use prost::Message as _;

use super::*;

#[test]
fn g5_a_sign_out_goes_to_the_instance_that_got_the_sign_in() {
    let (harness, guard) = signed_in_at_l1();
    let (id, account) = (Rc::clone(&guard.channel.id), guard.channel.identity.account.clone());
    end(&harness, guard, CloseReason::HeartbeatTimeout);
    assert!(harness.queued("l2").is_empty());
    let packets = harness.queued("l1");
    assert_eq!(packets.len(), 1);
    let header = header(&packets[0]);
    assert_eq!((header.command.as_str(), &*header.channel_id), (command::LOGIN_SIGNOUT, &*id));
    assert_eq!(meta(&header, "account"), Some(account));
    assert_eq!(meta(&header, "app").as_deref(), Some("x_im"));
    assert_eq!(meta(&header, "dest.logic").as_deref(), Some(GATE));
    assert_eq!(meta(&header, "reason").as_deref(), Some("heartbeat_timeout"));
    assert_eq!(harness.test_metrics.signouts_waiting(), 1, "owed until its last byte is written");
    harness.write("l1", usize::MAX);
    assert_eq!(harness.test_metrics.signouts_waiting(), 0);
    assert_eq!(harness.test_metrics.signouts(Signout::Written), 1);
    run_signouts(&harness, Instant::now());
    assert!(harness.link("l1").queue().is_empty(), "exactly one");
}

#[test]
fn g5_a_sign_out_goes_where_the_selector_says_when_that_link_is_gone() {
    let (harness, guard) = signed_in_at_l1();
    harness.lost("l1");
    end(&harness, guard, CloseReason::Bye);
    assert_eq!(harness.queued("l2").len(), 1);
}

#[test]
fn g5_a_sign_out_that_was_cut_is_written_anew_to_another_instance() {
    let (harness, guard) = signed_in_at_l1();
    end(&harness, guard, CloseReason::Bye);
    let len = harness.link("l1").queue().frames().next().unwrap().len();
    harness.write("l1", len - 1);
    assert_eq!(harness.test_metrics.signouts(Signout::Written), 0);
    harness.lost("l1");
    assert_eq!(harness.dispatch.signouts.owed(), 1);
    run_signouts(&harness, Instant::now());
    assert_eq!(header(&harness.take_all("l2")[0]).command, command::LOGIN_SIGNOUT, "whole");
    assert_eq!(harness.test_metrics.signouts(Signout::Written), 1);
    assert_eq!(harness.test_metrics.signouts_waiting(), 0);
}

#[test]
fn g5_a_sign_out_waits_for_a_login_link() {
    let (harness, guard) = signed_in_at_l1();
    harness.lost("l1");
    harness.lost("l2");
    end(&harness, guard, CloseReason::Bye);
    assert_eq!(harness.dispatch.signouts.owed(), 1);
    run_signouts(&harness, Instant::now());
    assert_eq!(harness.test_metrics.value(NO_SERVER), 0, "it is no request that found nobody");
    harness.up(&["l2"]);
    run_signouts(&harness, Instant::now());
    assert_eq!(harness.queued("l2").len(), 1);
}

#[test]
fn g5_a_sign_out_that_waited_is_superseded_by_the_hand_over_of_a_later_sign_in() {
    let (harness, guard) = signed_in_at_l1();
    let account = guard.channel.identity.account.clone();
    harness.lost("l1");
    harness.lost("l2");
    end(&harness, guard, CloseReason::Bye);
    harness.up(&["l2"]);
    let later = arrive(&harness, &account);
    forward(&harness, &later, command::LOGIN_SIGNIN, 1).unwrap();
    harness.write("l2", 1);
    run_signouts(&harness, Instant::now());
    assert_eq!(harness.test_metrics.signouts(Signout::Superseded), 1);
    harness.write("l2", usize::MAX);
    assert!(harness.link("l2").queue().is_empty());
    assert_eq!(harness.test_metrics.signouts_waiting(), 0);
}

#[test]
fn g5_one_held_for_its_answer_is_superseded_by_a_sign_in_that_went_first() {
    let harness = two_logins();
    harness.up(&["l1"]);
    let first = arrive(&harness, "alice");
    let id = Rc::clone(&first.channel.id);
    forward(&harness, &first, command::LOGIN_SIGNIN, 1).unwrap();
    harness.take_all("l1");
    end(&harness, first, CloseReason::PeerClosed);
    let _second = sign_in(&harness, "alice", "l1");
    harness.answer("l1", &id, command::LOGIN_SIGNIN, 1, 0);
    run_signouts(&harness, Instant::now());
    assert!(harness.queued("l1").is_empty(), "it would sign the second out: services delete by account");
    assert_eq!(harness.test_metrics.signouts(Signout::Superseded), 1);
}

/// A session of alice that ended while no login service was linked, behind bob's sign-in at l1 a later one of hers that
/// is queued, and one byte written of what is queued.
fn signed_in_again_behind_a_frame_that_was_cut() -> (TestDispatch, Rc<str>, [ChannelGuard; 2]) {
    let harness = two_logins();
    harness.up(&["l1"]);
    let first = sign_in(&harness, "alice", "l1");
    let id = Rc::clone(&first.channel.id);
    harness.lost("l1");
    end(&harness, first, CloseReason::PeerLost);
    harness.up(&["l1"]);
    let guards = ["bob", "alice"].map(|account| {
        let guard = arrive(&harness, account);
        forward(&harness, &guard, command::LOGIN_SIGNIN, 1).unwrap();
        guard
    });
    harness.write("l1", 1);
    (harness, id, guards)
}

#[test]
fn h23_a_sign_in_that_was_queued_and_never_written_supersedes_nothing() {
    let (harness, id, guards) = signed_in_again_behind_a_frame_that_was_cut();
    harness.lost("l1");
    for guard in guards {
        assert_eq!(guard.channel.outgoing.closing(), Some(CloseReason::LoginUnavailable));
        end(&harness, guard, CloseReason::LoginUnavailable);
    }
    harness.up(&["l2"]);
    run_signouts(&harness, Instant::now());
    let written: Vec<_> = harness.take_all("l2").iter().map(|packet| header(packet).channel_id).collect();
    assert!(written.contains(&id.to_string()), "{written:?}");
    assert_eq!(written.len(), 2, "alice's first and bob's, which was cut: {written:?}");
    assert_eq!(harness.test_metrics.signouts(Signout::Superseded), 0);
}

#[test]
fn h23_one_is_superseded_by_the_first_byte_of_a_later_sign_in() {
    let (harness, _, _guards) = signed_in_again_behind_a_frame_that_was_cut();
    let rest = harness.link("l1").queue().frames().next().unwrap().len();
    harness.write("l1", rest);
    assert_eq!(harness.queued("l1").len(), 1, "hers has not begun");
    harness.write("l1", 1);
    run_signouts(&harness, Instant::now());
    assert_eq!(harness.test_metrics.signouts(Signout::Superseded), 1);
}

#[test]
fn h23_while_a_write_is_under_way_elsewhere_a_sign_out_is_neither_placed_nor_dropped() {
    for has_begun in [false, true] {
        let (harness, guard) = signed_in_at_l1();
        let identity = guard.channel.identity.clone();
        drop(guard);
        let mut write = harness.dispatch.signouts.writing_signin(&identity).unwrap();
        for _ in 0..3 {
            assert!(harness.dispatch.place_due_signouts(Instant::now()), "it is looked at again");
        }
        assert_eq!((harness.queued("l1").len(), harness.dispatch.signouts.owed()), (0, 1));
        if has_begun {
            write.begin();
        }
        drop(write);
        run_signouts(&harness, Instant::now());
        let expected = if has_begun { (0, 1) } else { (1, 0) };
        assert_eq!(
            (harness.queued("l1").len(), harness.test_metrics.signouts(Signout::Superseded)),
            expected
        );
    }
}

#[test]
fn g5_the_sign_in_of_a_channel_that_has_ended_does_not_supersede_its_own_sign_out() {
    let harness = two_logins();
    harness.up(&["l1"]);
    let guard = arrive(&harness, "alice");
    let id = Rc::clone(&guard.channel.id);
    let _kept_by_a_drain = Rc::clone(&guard.channel);
    forward(&harness, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    drop(guard);
    assert_eq!(harness.take_all("l1").len(), 1, "written before its sign-out had its turn");
    run_signouts(&harness, Instant::now());
    assert!(harness.link("l1").queue().is_empty(), "held for the answer");
    harness.answer("l1", &id, command::LOGIN_SIGNIN, 1, 0);
    run_signouts(&harness, Instant::now());
    assert_eq!(header(&harness.take_all("l1")[0]).command, command::LOGIN_SIGNOUT);
    assert_eq!(harness.test_metrics.signouts(Signout::Superseded), 0);
}

#[test]
fn g5_a_sign_out_goes_back_to_the_instance_whose_link_broke_under_its_sign_in() {
    let harness = two_logins();
    harness.up(&["l1", "l2"]);
    let account = account_of(&harness, "login", "l2");
    harness.lost("l2");
    let guard = arrive(&harness, &account);
    forward(&harness, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    harness.write("l1", 1);
    harness.lost("l1");
    harness.up(&["l1", "l2"]);
    end(&harness, guard, CloseReason::LoginUnavailable);
    assert_eq!((harness.queued("l1").len(), harness.queued("l2").len()), (1, 0));
}

#[test]
fn g4_accepted_requests_go_ahead_of_the_sign_out_on_the_same_link() {
    let harness = harness(Limits::default(), false, &[("login", "l1", XIm)]);
    harness.up(&["l1"]);
    let guard = sign_in(&harness, "alice", "l1");
    forward(&harness, &guard, "login.query", 4).unwrap();
    end(&harness, guard, CloseReason::Bye);
    let commands: Vec<_> = harness.queued("l1").iter().map(|packet| header(packet).command).collect();
    assert_eq!(commands, ["login.query", command::LOGIN_SIGNOUT]);
}

#[test]
fn g5_after_a_kick_by_the_login_service_there_is_no_sign_out_unless_configured() {
    for (configured, expected) in [(false, 0), (true, 1)] {
        let harness = harness(Limits::default(), configured, &[("login", "l1", XIm)]);
        harness.up(&["l1"]);
        let guard = sign_in(&harness, "alice", "l1");
        end(&harness, guard, CloseReason::Kicked);
        assert_eq!(harness.queued("l1").len(), expected, "configured: {configured}");
        assert_eq!(harness.test_metrics.signouts(Signout::AfterKick), 1 - expected as i64);
        assert_eq!(harness.test_metrics.signouts_waiting(), expected as i64);
    }
}

#[test]
fn g5_a_kick_here_is_signed_out_unless_the_login_service_kicks_it_as_well() {
    for (kicks_as_well, expected) in [(false, 1), (true, 0)] {
        let harness = harness(Limits::default(), false, &[("login", "l1", XIm)]);
        harness.up(&["l1"]);
        let guard = sign_in(&harness, "alice", "l1");
        guard.channel.kick();
        if kicks_as_well {
            let header = pb::Header {
                command: command::LOGIN_SIGNIN.to_owned(),
                flag: pb::Flag::Push as i32,
                ..pb::Header::default()
            };
            let notice = pb::KickOutNotify { channel_id: guard.channel.id.to_string() };
            harness.deliver("l1", header, &guard.channel.id.clone(), notice.encode_to_vec());
        }
        end(&harness, guard, CloseReason::Kicked);
        assert_eq!(harness.queued("l1").len(), expected, "kicks as well: {kicks_as_well}");
    }
}

#[test]
fn g5_a_channel_that_ends_before_its_hand_over_takes_its_sign_in_back() {
    let harness = two_logins();
    harness.up(&["l1"]);
    let guard = arrive(&harness, "alice");
    forward(&harness, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    end(&harness, guard, CloseReason::PeerClosed);
    assert!(harness.link("l1").queue().is_empty(), "neither sign-in nor sign-out");
    assert_eq!(harness.test_metrics.signouts_waiting(), 0);
    assert_eq!(harness.test_metrics.requests(), (1, 0, 1));
}

#[test]
fn g5_a_channel_that_ends_unanswered_is_signed_out_behind_the_answer() {
    let harness = two_logins();
    harness.up(&["l1"]);
    let guard = arrive(&harness, "alice");
    let id = Rc::clone(&guard.channel.id);
    forward(&harness, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    harness.take_all("l1");
    let start = Instant::now();
    end(&harness, guard, CloseReason::PeerClosed);
    run_signouts(&harness, start + millis(4000));
    assert!(harness.link("l1").queue().is_empty());
    harness.answer("l1", &id, command::LOGIN_SIGNIN, 1, 0);
    assert_eq!(harness.test_metrics.rejects(Reject::ResponseUnmatched), 0, "it was awaited");
    run_signouts(&harness, start + millis(4001));
    assert_eq!(harness.queued("l1").len(), 1);
    harness.answer("l1", &id, command::LOGIN_SIGNIN, 1, 0);
    assert_eq!(harness.test_metrics.rejects(Reject::ResponseUnmatched), 1);
}

/// The login services of kim and X_IM answer every sign-out, with 0 or, if somebody was faster, 404.
#[test]
fn g9_answers_to_sign_outs_are_expected_as_often_as_sign_outs_were_written() {
    let harness = two_logins();
    harness.up(&["l1"]);
    let answered = |status: &str| {
        harness.test_metrics.value(&format!("gateway_signout_answers_total{{status=\"{status}\"}}"))
    };
    let guard = arrive(&harness, "alice");
    let id = Rc::clone(&guard.channel.id);
    let answer = |status| harness.answer("l1", &id, command::LOGIN_SIGNOUT, 0, status);
    answer(0);
    assert_eq!(harness.test_metrics.rejects(Reject::ResponseUnmatched), 1, "none was written");
    forward(&harness, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    harness.take_all("l1");
    harness.answer("l1", &id, command::LOGIN_SIGNIN, 1, 0);
    end(&harness, guard, CloseReason::PeerClosed);
    run_signouts(&harness, Instant::now());
    assert_eq!(harness.take_all("l1").len(), 1);
    answer(404);
    assert_eq!((answered("0"), answered("404")), (0, 1));
    assert_eq!(harness.test_metrics.rejects(Reject::ResponseUnmatched), 1);
    answer(404);
    assert_eq!((answered("404"), harness.test_metrics.rejects(Reject::ResponseUnmatched)), (1, 2), "once");
}
