//! Where requests, sign-ins and sign-outs go, and what becomes of them when links come and go.

mod channels;
mod connection;
mod crowds;
mod ejection;
mod health;
mod leaving;
mod signouts;

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixtures::{GATE, TestDispatch, harness, harness_with};
use super::*;
use crate::dispatch::connection::LinkConnection;
use crate::dispatch::health::Loss;
use crate::dispatch::link::LinkEnd;
use crate::limits::{LOST_PER_TURN, Limits};
use crate::session::channels::ChannelGuard;
use crate::session::fixtures::{answers, channel, header, meta, millis, origin, packet, ticket_of};
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

/// Returns `true` if the time that passes for a link changes its standing.
fn grown(harness: &TestDispatch, link: &Link, now: Instant) -> bool {
    let before = link.standing();
    harness.dispatch.on(link, HealthEvent::Time, now);
    link.standing() != before
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

/// The link of an instance that is no longer in the set.
fn leave(harness: &TestDispatch, ids: &[&str], now: Instant) -> Vec<Rc<Link>> {
    let links: Vec<_> = ids.iter().map(|id| harness.link(id)).collect();
    harness.dispatch.drain(&links, now);
    links
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
