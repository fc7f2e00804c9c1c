//! Where requests, sign-ins and sign-outs go, and what becomes of them when links come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixtures::{GATE, TestDispatch, harness, harness_with};
use super::*;
use crate::dispatch::connection::LinkConnection;
use crate::dispatch::health::Loss;
use crate::dispatch::link_end::LinkEnd;
use crate::limits::{LOST_PER_TURN, Limits};
use crate::session::channels::ChannelGuard;
use crate::session::fixtures::{answers, channel, header, meta, millis, packet, ticket_of};
use crate::session::outgoing::StreamId;
use crate::session::pending::InstanceKey;
use crate::session::shedding::{close_newest, shed_largest};
use crate::wire::dialect::Dialect::{Kim, XIm};
use crate::wire::frame::{self, Opcode};
use crate::wire::header::HeaderLimits;

const TALK: &str = "chat.user.talk";
const NO_SERVER: &str = "x_im_no_server_found_error_total{zone=\"z\"}";
const OUTCOME_UNKNOWN: i32 = pb::Status::OutcomeUnknown as i32;
const SYSTEM_EXCEPTION: i32 = pb::Status::SystemException as i32;

fn two_chats() -> TestDispatch {
    harness(Limits::default(), false, &[("login", "l1", XIm), ("chat", "c1", XIm), ("chat", "c2", XIm)])
}

/// The same, and every request goes to the instance of its account.
fn two_chats_unbounded() -> TestDispatch {
    let instances = [("login", "l1", XIm), ("chat", "c1", XIm), ("chat", "c2", XIm)];
    harness_with(false, Limits::default(), false, &instances)
}

fn two_logins() -> TestDispatch {
    harness(Limits::default(), false, &[("login", "l1", XIm), ("login", "l2", XIm), ("chat", "c1", XIm)])
}

/// Hands a packet over in the name of a channel, as the handler does.
fn forward(
    harness: &TestDispatch,
    guard: &ChannelGuard,
    command: &str,
    sequence: u32,
) -> Result<Rc<Ticket>, Refused> {
    let channel = &guard.channel;
    let packet = packet(command, sequence, "hello");
    let ticket = ticket_of(channel, &packet, StreamId::LOGIN, Instant::now());
    harness.dispatch.metrics.request_received();
    let view = HeaderView::scan(&packet.header, &HeaderLimits::BACKEND).unwrap();
    harness.dispatch.forward(channel, &view, &ticket, packet.body.clone())?;
    channel.pending.borrow_mut().push(Rc::clone(&ticket));
    harness.dispatch.metrics.pending_opened();
    if ticket.is_signin {
        channel.set_signin(Rc::clone(&ticket));
    }
    Ok(ticket)
}

/// A registered channel, signed in or not.
fn arrive(harness: &TestDispatch, account: &str) -> ChannelGuard {
    harness.dispatch.channels.register(channel(&harness.test_metrics, account))
}

/// A channel whose sign-in `login` took and answered.
fn sign_in(harness: &TestDispatch, account: &str, login: &str) -> ChannelGuard {
    let mut guard = arrive(harness, account);
    forward(harness, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    assert_eq!(harness.take_all(login).len(), 1, "the sign-in of {account} goes to {login}");
    harness.answer(login, &guard.channel.id, command::LOGIN_SIGNIN, 1, 0);
    assert!(matches!(guard.channel.state(), ChannelState::Open(_)));
    guard.end_opening();
    let written = guard.channel.outgoing.write_with(StreamId::LOGIN, |frames| frames.map(Encoded::len).sum());
    guard.channel.outgoing.advance(StreamId::LOGIN, written);
    guard
}

/// An account that the selector sends to this instance.
fn account_of(harness: &TestDispatch, service: &str, id: &str) -> String {
    (0..1000)
        .map(|number| format!("u{number}"))
        .find(|account| harness.dispatch.choose(service, "x_im", account).unwrap().instance.id == id)
        .expect("every instance gets someone")
}

fn sequences(packets: &[crate::wire::packet::LogicPacket]) -> Vec<u32> {
    packets.iter().map(|packet| header(packet).sequence).collect()
}

/// Returns `true` if the time that passes for a link changes its standing.
fn grown(harness: &TestDispatch, link: &Link, now: Instant) -> bool {
    let before = link.standing();
    harness.dispatch.on(link, HealthEvent::Time, now);
    link.standing() != before
}

/// Has every sign-out that is due go as far as it can.
fn run_signouts(harness: &TestDispatch, now: Instant) {
    while harness.dispatch.place_due_signouts(now) {}
}

/// Ends a channel and lets its sign-out go as far as it can.
fn end(harness: &TestDispatch, mut guard: ChannelGuard, reason: CloseReason) {
    guard.set_reason(reason);
    drop(guard);
    run_signouts(harness, Instant::now());
}

#[test]
fn g7_what_is_forwarded_carries_the_gateways_own_identity() {
    let harness = two_chats();
    harness.up(&["l1", "c1", "c2"]);
    let guard = sign_in(&harness, "alice", "l1");
    forward(&harness, &guard, TALK, 7).unwrap();
    let link = harness.dispatch.choose("chat", "x_im", "alice").unwrap();
    let packets = harness.queued(&link.instance.id);
    let header = header(&packets[0]);
    assert_eq!((header.command.as_str(), header.sequence), (TALK, 7));
    assert_eq!(header.channel_id, *guard.channel.id);
    assert_eq!(meta(&header, "account").as_deref(), Some("alice"));
    assert_eq!(meta(&header, "app").as_deref(), Some("x_im"));
    assert_eq!(meta(&header, "dest.logic").as_deref(), Some(GATE));
    assert_eq!(packets[0].body, "hello");
}

#[test]
fn a14_e14_refusals_hand_nothing_over() {
    let limits = Limits { backend_queued_packets: 1, ..Limits::default() };
    let harness = harness(limits, false, &[("login", "l1", XIm), ("chat", "c1", XIm)]);
    let guard = arrive(&harness, "alice");
    assert_eq!(forward(&harness, &guard, "game.move", 1).unwrap_err(), Refused::UnknownService);
    assert_eq!(forward(&harness, &guard, "nodot", 1).unwrap_err(), Refused::UnknownService);
    assert_eq!(forward(&harness, &guard, TALK, 1).unwrap_err(), Refused::NoInstance);
    assert_eq!(forward(&harness, &guard, command::LOGIN_SIGNIN, 1).unwrap_err(), Refused::NoInstance);
    harness.up(&["c1"]);
    forward(&harness, &guard, TALK, 2).unwrap();
    assert_eq!(forward(&harness, &guard, TALK, 3).unwrap_err(), Refused::QueueFull);
    assert_eq!(sequences(&harness.queued("c1")), [2]);
    assert_eq!(
        harness.test_metrics.value(NO_SERVER),
        2,
        "the request and the sign-in that found no instance"
    );
    let counted = [Reject::BadCommand, Reject::NoInstance, Reject::QueueFull]
        .map(|why| harness.test_metrics.rejects(why));
    assert_eq!(counted, [2, 2, 1], "each refusal once");
}

#[test]
fn g4_a_lost_link_moves_its_queue_oldest_first_and_answers_what_was_sent() {
    let harness = two_chats();
    harness.up(&["l1", "c1", "c2"]);
    let account = account_of(&harness, "chat", "c1");
    let (first, second) = (sign_in(&harness, &account, "l1"), sign_in(&harness, &account, "l1"));
    let elsewhere = account_of(&harness, "chat", "c2");
    let third = sign_in(&harness, &elsewhere, "l1");
    forward(&harness, &third, TALK, 99).unwrap();
    for sequence in 1..=3 {
        forward(&harness, &first, TALK, sequence).unwrap();
        forward(&harness, &second, TALK, 10 + sequence).unwrap();
    }
    // One is written whole, one is cut behind its first byte.
    let whole = harness.link("c1").queue().frames().next().unwrap().len();
    harness.write("c1", whole + 1);
    harness.lost("c1");
    assert_eq!(answers(&first.channel.outgoing, StreamId::LOGIN), [(1, OUTCOME_UNKNOWN)]);
    assert_eq!(answers(&second.channel.outgoing, StreamId::LOGIN), [(11, OUTCOME_UNKNOWN)]);
    assert_eq!(sequences(&harness.queued("c2")), [99, 2, 12, 3, 13]);
    assert!(harness.queued("c1").is_empty());
    assert_eq!(harness.test_metrics.pending(), 5);
    // They are answered by the instance that they moved to, and no queue counts them twice.
    harness.take_all("c2");
    harness.answer("c2", &second.channel.id, TALK, 12, 0);
    assert_eq!(answers(&second.channel.outgoing, StreamId::LOGIN), [(11, OUTCOME_UNKNOWN), (12, 0)]);
    for id in ["c1", "c2"] {
        let labels = format!("{{instance=\"{id}\",service=\"chat\",zone=\"z\"}}");
        assert_eq!(harness.test_metrics.value(&format!("gateway_link_queued_packets{labels}")), 0, "{id}");
        assert_eq!(harness.test_metrics.value(&format!("gateway_link_queued_bytes{labels}")), 0, "{id}");
    }
    let (received, forwarded, rejected) = harness.test_metrics.requests();
    assert_eq!((received, rejected), (forwarded, 0), "each was handed over once (G9)");
}

#[test]
fn g4_a_move_across_dialects_translates_magic_and_gateway_key() {
    for (from, to) in [(XIm, Kim), (Kim, XIm)] {
        let harness = harness(
            Limits::default(),
            false,
            &[("login", "l1", XIm), ("chat", "c1", from), ("chat", "c2", to)],
        );
        harness.up(&["l1", "c1", "c2"]);
        let account = account_of(&harness, "chat", "c1");
        let guard = sign_in(&harness, &account, "l1");
        forward(&harness, &guard, TALK, 5).unwrap();
        let before = header(&harness.queued("c1")[0]);
        harness.lost("c1");
        let packets = harness.queued("c2");
        assert_eq!(packets.len(), 1);
        assert_eq!(packets[0].dialect, to);
        assert_eq!(packets[0].body, "hello");
        let after = header(&packets[0]);
        assert_eq!(meta(&after, to.gateway_key()).as_deref(), Some(GATE));
        assert_eq!(meta(&after, from.gateway_key()), None);
        assert_eq!(meta(&after, "account").as_deref(), Some(account.as_str()));
        let without_metas = |header: pb::Header| pb::Header { meta: Vec::new(), ..header };
        assert_eq!(without_metas(after), without_metas(before));
    }
}

#[test]
fn e14_with_no_instance_left_the_queued_are_answered_300_and_the_sent_210() {
    let harness = two_chats();
    harness.up(&["l1", "c1"]);
    let guard = sign_in(&harness, "alice", "l1");
    let sent = forward(&harness, &guard, TALK, 1).unwrap();
    let queued = forward(&harness, &guard, TALK, 2).unwrap();
    harness.write("c1", 1);
    harness.lost("c1");
    let mut answers = answers(&guard.channel.outgoing, StreamId::LOGIN);
    answers.sort_unstable();
    assert_eq!(answers, [(1, OUTCOME_UNKNOWN), (2, SYSTEM_EXCEPTION)]);
    assert_eq!((sent.stage(), queued.stage()), (RequestStage::Lost(InstanceKey(1)), RequestStage::Unplaced));
    assert_eq!(harness.test_metrics.pending(), 0);
    assert_eq!(
        (harness.test_metrics.rejects(Reject::NoInstance), harness.test_metrics.value(NO_SERVER)),
        (1, 1)
    );
    assert_eq!(harness.test_metrics.requests(), (3, 2, 1), "sign-in and one sent, one rejected (G9)");
    assert_eq!(guard.channel.outgoing.closing(), None, "the channel lives on");
}

#[test]
fn g4_the_queue_of_a_channel_that_ended_still_moves() {
    let harness = two_chats();
    harness.up(&["l1", "c1", "c2"]);
    let account = account_of(&harness, "chat", "c1");
    let guard = sign_in(&harness, &account, "l1");
    forward(&harness, &guard, TALK, 5).unwrap();
    end(&harness, guard, CloseReason::Bye);
    harness.lost("c1");
    assert_eq!(sequences(&harness.queued("c2")), [5]);
    harness.lost("c2");
    assert_eq!(harness.test_metrics.pending(), 0);
    assert_eq!(harness.test_metrics.requests(), (2, 1, 1));
}

#[test]
fn e1_a_sign_in_still_queued_moves_and_opens_its_channel_there() {
    let harness = two_logins();
    harness.up(&["l1", "l2"]);
    let account = account_of(&harness, "login", "l1");
    let guard = arrive(&harness, &account);
    forward(&harness, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    harness.lost("l1");
    assert_eq!(guard.channel.state(), ChannelState::Opening);
    assert_eq!(harness.take_all("l2").len(), 1);
    harness.answer("l2", &guard.channel.id, command::LOGIN_SIGNIN, 1, 0);
    assert!(matches!(guard.channel.state(), ChannelState::Open(_)));
    end(&harness, guard, CloseReason::Bye);
    assert_eq!(harness.queued("l2").len(), 1, "and is signed out there");
}

#[test]
fn b21_a_sign_in_that_nobody_takes_ends_its_channel_without_a_sign_out() {
    let harness = two_logins();
    harness.up(&["l1"]);
    let guard = arrive(&harness, "alice");
    forward(&harness, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    harness.lost("l1");
    assert_eq!(guard.channel.state(), ChannelState::Refused);
    assert_eq!(guard.channel.outgoing.closing(), Some(CloseReason::LoginUnavailable));
    assert_eq!(answers(&guard.channel.outgoing, StreamId::LOGIN), [(1, SYSTEM_EXCEPTION)]);
    assert_eq!(harness.test_metrics.value("gateway_logins_total{result=\"unavailable\"}"), 1);
    harness.up(&["l2"]);
    end(&harness, guard, CloseReason::LoginUnavailable);
    assert!(harness.queued("l2").is_empty());
    assert_eq!((harness.test_metrics.pending(), harness.test_metrics.signouts_waiting()), (0, 0));
}

#[test]
fn e1_a_sign_in_whose_link_broke_ends_its_channel_with_210_and_a_sign_out() {
    let harness = two_logins();
    harness.up(&["l1", "l2"]);
    let account = account_of(&harness, "login", "l1");
    let guard = arrive(&harness, &account);
    forward(&harness, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    harness.write("l1", 1);
    harness.lost("l1");
    assert_eq!(guard.channel.state(), ChannelState::Refused);
    assert_eq!(guard.channel.outgoing.closing(), Some(CloseReason::LoginUnavailable));
    assert_eq!(answers(&guard.channel.outgoing, StreamId::LOGIN), [(1, OUTCOME_UNKNOWN)]);
    assert_eq!(harness.test_metrics.value("gateway_logins_total{result=\"unanswered\"}"), 1);
    let id = Rc::clone(&guard.channel.id);
    end(&harness, guard, CloseReason::LoginUnavailable);
    let packets = harness.take_all("l2");
    assert_eq!(packets.len(), 1, "nothing else: a sign-in is never sent twice");
    let header = header(&packets[0]);
    assert_eq!((header.command.as_str(), &*header.channel_id), (command::LOGIN_SIGNOUT, &*id));
    assert_eq!(meta(&header, "reason").as_deref(), Some("login_unavailable"));
    assert_eq!(harness.test_metrics.signouts(Signout::Written), 1);
}

#[test]
fn g4_a_request_is_withdrawn_only_before_its_first_byte() {
    let harness = two_chats();
    harness.up(&["l1", "c1"]);
    let guard = sign_in(&harness, "alice", "l1");
    let first = forward(&harness, &guard, TALK, 1).unwrap();
    let second = forward(&harness, &guard, TALK, 2).unwrap();
    harness.write("c1", 1);
    assert!(!harness.dispatch.withdraw(&first));
    assert!(harness.dispatch.withdraw(&second));
    assert_eq!(second.stage(), RequestStage::Unplaced);
    assert!(harness.dispatch.withdraw(&second), "it stands in no queue");
    assert_eq!(harness.test_metrics.requests(), (3, 2, 1), "counted once");
    harness.write("c1", usize::MAX);
    assert!(harness.link("c1").queue().is_empty(), "nothing of the second is left");
    assert!(!harness.dispatch.withdraw(&first));
}

/// A worker in which the selector would send this user's sign-out elsewhere than the sign-in went.
fn signed_in_at_l1() -> (TestDispatch, ChannelGuard) {
    let harness = two_logins();
    harness.up(&["l1", "l2"]);
    let account = account_of(&harness, "login", "l2");
    harness.lost("l2");
    let guard = sign_in(&harness, &account, "l1");
    harness.up(&["l2"]);
    (harness, guard)
}

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
fn h22_a_crowd_that_waited_for_one_instance_is_answered_in_slices() {
    let harness = two_chats();
    harness.up(&["l1", "c1"]);
    let link = harness.link("c1");
    let guards: Vec<_> = (0..2 * LOST_PER_TURN + 1)
        .map(|n| {
            let guard = arrive(&harness, &format!("u{n}"));
            forward(&harness, &guard, TALK, 1).unwrap();
            harness.write("c1", usize::MAX);
            guard
        })
        .collect();
    let answered =
        || guards.iter().filter(|guard| !answers(&guard.channel.outgoing, StreamId::LOGIN).is_empty());
    harness.dispatch.link_lost(&link, Loss::Ended, Instant::now());
    assert_eq!((link.load(), answered().count()), (0, 0), "nothing is owed by the instance");
    let is_lost = |guard: &ChannelGuard| guard.channel.pending.borrow().lost().count() == 1;
    assert!(guards.iter().all(is_lost), "at once, before anybody was looked at");
    harness.up(&["c1"]);
    // What comes now is too late, and an end of time comes first: one answer all the same.
    harness.answer("c1", &guards[0].channel.id, TALK, 1, 0);
    let ticket = guards[1].channel.pending.borrow_mut().take_oldest().unwrap();
    assert!(!harness.dispatch.withdraw(&ticket));
    harness.dispatch.fail(&guards[1].channel, &ticket, pb::Status::OutcomeUnknown, "no answer in time");
    let (mut before, mut turns) = (answered().count(), 1);
    while harness.dispatch.answer_lost_slice() {
        let now = answered().count();
        assert!(now - before <= LOST_PER_TURN, "{}", now - before);
        (before, turns) = (now, turns + 1);
    }
    // Each was looked for, and answered.
    assert!((3..=6).contains(&turns), "{turns}");
    for guard in &guards {
        assert_eq!(answers(&guard.channel.outgoing, StreamId::LOGIN), [(1, OUTCOME_UNKNOWN)]);
    }
    assert_eq!(
        (harness.test_metrics.pending(), harness.test_metrics.rejects(Reject::ResponseUnmatched)),
        (0, 1)
    );
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

/// A worker in which `c1` is healthy and `c2` warming from this moment on, after an absence.
fn one_healthy_one_warming() -> (TestDispatch, Instant) {
    let harness = two_chats();
    let back = age_c2(&harness);
    (harness, back)
}

/// Everyone is linked, and `c2` warming from the moment that is returned.
fn age_c2(harness: &TestDispatch) -> Instant {
    harness.up(&["l1", "c1", "c2"]);
    let now = Instant::now();
    harness.lost_at("c2", now);
    let back = now + millis(6000);
    harness.up_at("c2", back);
    back
}

fn link_state(harness: &TestDispatch, id: &str) -> &'static str {
    harness.link(id).metrics.state().label()
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

/// The link of an instance that is no longer in the set.
fn leave(harness: &TestDispatch, ids: &[&str], now: Instant) -> Vec<Rc<Link>> {
    let links: Vec<_> = ids.iter().map(|id| harness.link(id)).collect();
    harness.dispatch.drain(&links, now);
    links
}

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
    assert_eq!(harness.dispatch.links().len(), 2);
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
    assert!(harness.dispatch.links.get(c2.key).is_none());
    assert!(harness.dispatch.links.get(link.key).is_some());
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

/// A house of two chats in which `c2` is ejected at this moment, by requests that it did not answer.
fn one_ejected(harness: TestDispatch) -> (TestDispatch, Instant) {
    harness.up(&["l1", "c1", "c2"]);
    let guard = sign_in(&harness, &account_of(&harness, "chat", "c2"), "l1");
    let now = Instant::now();
    for sequence in 1..=5 {
        assert_eq!(link_state(&harness, "c2"), "healthy");
        forward(&harness, &guard, TALK, sequence).unwrap();
        harness.take_all("c2");
        let ticket = guard.channel.pending.borrow_mut().take_oldest().unwrap();
        harness.dispatch.timed_out(&ticket, now);
    }
    assert_eq!(link_state(&harness, "c2"), "ejected");
    (harness, now)
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

/// Prints the longest of several steps.
fn show(what: &str, steps: impl IntoIterator<Item = Duration>) {
    let steps: Vec<_> = steps.into_iter().collect();
    println!("{what}: {:?} of {} steps", steps.iter().max().unwrap(), steps.len());
}

fn timed(step: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    step();
    begun.elapsed()
}

/// How long each turn of it takes.
fn turns<T>(future: impl Future<Output = T>) -> (T, Vec<Duration>) {
    let mut future = std::pin::pin!(future);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _context = runtime.enter();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let (mut steps, mut output) = (Vec::new(), None);
    while output.is_none() {
        steps.push(timed(|| {
            if let std::task::Poll::Ready(found) = future.as_mut().poll(&mut cx) {
                output = Some(found);
            }
        }));
    }
    (output.unwrap(), steps)
}

/// How long each turn takes until there is no more to do.
fn until_done(mut turn: impl FnMut() -> bool) -> Vec<Duration> {
    let (mut steps, mut again) = (Vec::new(), true);
    while again {
        steps.push(timed(|| again = turn()));
    }
    steps
}

/// Run it optimised and alone: `just measure`.
#[test]
#[ignore = "measures"]
fn h22_the_longest_steps_of_a_worker_with_a_crowd() {
    const CROWD: usize = 200_000;
    let harness = two_chats();
    harness.up(&["l1", "c1"]);
    let dispatch = &harness.dispatch;
    let channels = &dispatch.channels;
    let (mut guards, mut connected) = (Vec::with_capacity(CROWD), Vec::with_capacity(CROWD));
    let crowd: Vec<_> = (0..CROWD).map(|n| channel(&harness.test_metrics, &format!("u{n}"))).collect();
    show("a channel begins", crowd.into_iter().map(|one| timed(|| guards.push(channels.register(one)))));
    let connect = |guard: &ChannelGuard| timed(|| connected.push(channels.connect(&guard.channel.outgoing)));
    show("a connection begins", guards.iter().map(connect));
    let ask = |guard: &ChannelGuard| {
        let took = timed(|| drop(forward(&harness, guard, TALK, 1).unwrap()));
        harness.write("c1", usize::MAX);
        took
    };
    show("a request is placed", guards.iter().map(ask));
    show("a link is lost", [timed(|| dispatch.link_lost(&harness.link("c1"), Loss::Ended, Instant::now()))]);
    show("its requests are answered", until_done(|| dispatch.answer_lost_slice()));
    assert_eq!(harness.test_metrics.pending(), 0);
    show("the largest are shed", turns(shed_largest(channels, 1)).1);
    show("the newest are closed", [timed(|| assert_eq!(close_newest(channels, CROWD / 100), CROWD / 100))]);
    let (drained, steps) = turns(channels.begin_drain());
    show("a drain begins", steps);
    show("all are closed", turns(channels.cut_short()).1);
    drop(drained);
    show("a connection ends", connected.into_iter().map(|guard| timed(|| drop(guard))));
    show("a channel ends", guards.into_iter().map(|guard| timed(|| drop(guard))));
    harness.up(&["l1"]);
    show("sign-outs are placed", until_done(|| dispatch.place_due_signouts(Instant::now())));
    let lose = |id| timed(|| dispatch.link_lost(&harness.link(id), Loss::Ended, Instant::now()));
    show("the link of the sign-outs is lost", [lose("l1")]);
    show("it is back", [timed(|| harness.up(&["l1"]))]);
    show("metrics are collected", [timed(|| assert_eq!(harness.test_metrics.signouts_waiting(), 0))]);
}
