//! Where requests, sign-ins and sign-outs go, and what becomes of them when links come and go.

use std::time::Duration;

use super::fixtures::{GATE, House, house, house_with};
use super::*;
use crate::dispatch::link_end::LinkEnd;
use crate::dispatch::supervision::Loss;
use crate::dispatch::traffic::Traffic;
use crate::limits::LOST_PER_TURN;
use crate::session::channels::ChannelGuard;
use crate::session::fixtures::{answers, channel, header, meta, millis, packet, ticket_of};
use crate::session::outgoing::LaneId;
use crate::session::pending::InstanceKey;
use crate::session::shedding::{close_newest, shed_largest};
use crate::wire::dialect::Dialect::{Kim, XIm};
use crate::wire::frame::{self, Opcode};
use crate::wire::header::HeaderLimits;

const TALK: &str = "chat.user.talk";
const NO_SERVER: &str = "x_im_no_server_found_error_total{zone=\"z\"}";
const OUTCOME_UNKNOWN: i32 = pb::Status::OutcomeUnknown as i32;
const SYSTEM_EXCEPTION: i32 = pb::Status::SystemException as i32;

fn two_chats() -> House {
    house(Limits::default(), false, &[("login", "l1", XIm), ("chat", "c1", XIm), ("chat", "c2", XIm)])
}

/// The same, and every request goes to the instance of its account.
fn two_chats_unbounded() -> House {
    let instances = [("login", "l1", XIm), ("chat", "c1", XIm), ("chat", "c2", XIm)];
    house_with(false, Limits::default(), false, &instances)
}

fn two_logins() -> House {
    house(Limits::default(), false, &[("login", "l1", XIm), ("login", "l2", XIm), ("chat", "c1", XIm)])
}

/// Hands a packet over in the name of a channel, as the handler does.
fn forward(house: &House, guard: &ChannelGuard, command: &str, sequence: u32) -> Result<Rc<Ticket>, Refused> {
    let channel = &guard.channel;
    let packet = packet(command, sequence, "hello");
    let ticket = ticket_of(channel, &packet, LaneId::LOGIN, Instant::now());
    house.dispatch.metrics.request_received();
    let view = HeaderView::scan(&packet.header, &HeaderLimits::BACKEND).unwrap();
    house.dispatch.forward(channel, &view, &ticket, packet.body.clone())?;
    channel.pending.borrow_mut().push(Rc::clone(&ticket));
    house.dispatch.metrics.pending_opened();
    if ticket.is_signin {
        channel.set_signin(Rc::clone(&ticket));
    }
    Ok(ticket)
}

/// A registered channel, signed in or not.
fn arrive(house: &House, account: &str) -> ChannelGuard {
    house.dispatch.channels.register(channel(&house.books, account))
}

/// A channel whose sign-in `login` took and answered.
fn sign_in(house: &House, account: &str, login: &str) -> ChannelGuard {
    let mut guard = arrive(house, account);
    forward(house, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    assert_eq!(house.take_all(login).len(), 1, "the sign-in of {account} goes to {login}");
    house.answer(login, &guard.channel.id, command::LOGIN_SIGNIN, 1, 0);
    assert!(matches!(guard.channel.state(), State::Open(_)));
    guard.end_opening();
    let written = guard.channel.outgoing.write_with(LaneId::LOGIN, |frames| frames.map(Encoded::len).sum());
    guard.channel.outgoing.advance(LaneId::LOGIN, written);
    guard
}

/// An account that the selector sends to this instance.
fn account_of(house: &House, service: &str, id: &str) -> String {
    (0..1000)
        .map(|number| format!("u{number}"))
        .find(|account| house.dispatch.choose(service, "x_im", account).unwrap().instance.id == id)
        .expect("every instance gets someone")
}

fn sequences(packets: &[crate::wire::packet::LogicPacket]) -> Vec<u32> {
    packets.iter().map(|packet| header(packet).sequence).collect()
}

/// Time passes for a link; does that change its standing?
fn grown(house: &House, link: &Link, now: Instant) -> bool {
    let before = link.standing();
    house.dispatch.on(link, Event::Time, now);
    link.standing() != before
}

/// Has every sign-out that is due go as far as it can.
fn run_signouts(house: &House, now: Instant) {
    while house.dispatch.signout_turn(now) {}
}

/// Ends a channel and lets its sign-out go as far as it can.
fn end(house: &House, mut guard: ChannelGuard, reason: CloseReason) {
    guard.set_reason(reason);
    drop(guard);
    run_signouts(house, Instant::now());
}

#[test]
fn g7_what_is_forwarded_carries_the_gateways_own_identity() {
    let house = two_chats();
    house.up(&["l1", "c1", "c2"]);
    let guard = sign_in(&house, "alice", "l1");
    forward(&house, &guard, TALK, 7).unwrap();
    let link = house.dispatch.choose("chat", "x_im", "alice").unwrap();
    let packets = house.queued(&link.instance.id);
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
    let house = house(limits, false, &[("login", "l1", XIm), ("chat", "c1", XIm)]);
    let guard = arrive(&house, "alice");
    assert_eq!(forward(&house, &guard, "game.move", 1).unwrap_err(), Refused::UnknownService);
    assert_eq!(forward(&house, &guard, "nodot", 1).unwrap_err(), Refused::UnknownService);
    assert_eq!(forward(&house, &guard, TALK, 1).unwrap_err(), Refused::NoInstance);
    assert_eq!(forward(&house, &guard, command::LOGIN_SIGNIN, 1).unwrap_err(), Refused::NoInstance);
    house.up(&["c1"]);
    forward(&house, &guard, TALK, 2).unwrap();
    assert_eq!(forward(&house, &guard, TALK, 3).unwrap_err(), Refused::QueueFull);
    assert_eq!(sequences(&house.queued("c1")), [2]);
    assert_eq!(house.books.value(NO_SERVER), 2, "the request and the sign-in that found no instance");
}

#[test]
fn g4_a_lost_link_moves_its_queue_oldest_first_and_answers_what_was_sent() {
    let house = two_chats();
    house.up(&["l1", "c1", "c2"]);
    let account = account_of(&house, "chat", "c1");
    let (first, second) = (sign_in(&house, &account, "l1"), sign_in(&house, &account, "l1"));
    let elsewhere = account_of(&house, "chat", "c2");
    let third = sign_in(&house, &elsewhere, "l1");
    forward(&house, &third, TALK, 99).unwrap();
    for sequence in 1..=3 {
        forward(&house, &first, TALK, sequence).unwrap();
        forward(&house, &second, TALK, 10 + sequence).unwrap();
    }
    // One is written whole, one is cut behind its first byte.
    let whole = house.link("c1").write_with(|frames| frames.next().unwrap().len());
    house.write("c1", whole + 1);
    house.lost("c1");
    assert_eq!(answers(&first.channel.outgoing, LaneId::LOGIN), [(1, OUTCOME_UNKNOWN)]);
    assert_eq!(answers(&second.channel.outgoing, LaneId::LOGIN), [(11, OUTCOME_UNKNOWN)]);
    assert_eq!(sequences(&house.queued("c2")), [99, 2, 12, 3, 13]);
    assert!(house.queued("c1").is_empty());
    assert_eq!(house.books.pending(), 5);
    // They are answered by the instance that they moved to, and no queue counts them twice.
    house.take_all("c2");
    house.answer("c2", &second.channel.id, TALK, 12, 0);
    assert_eq!(answers(&second.channel.outgoing, LaneId::LOGIN), [(11, OUTCOME_UNKNOWN), (12, 0)]);
    for id in ["c1", "c2"] {
        let labels = format!("{{instance=\"{id}\",service=\"chat\",zone=\"z\"}}");
        assert_eq!(house.books.value(&format!("gateway_link_queued_packets{labels}")), 0, "{id}");
        assert_eq!(house.books.value(&format!("gateway_link_queued_bytes{labels}")), 0, "{id}");
    }
    let (received, forwarded, rejected) = house.books.requests();
    assert_eq!((received, rejected), (forwarded, 0), "each was handed over once (G9)");
}

#[test]
fn g4_a_move_across_dialects_translates_magic_and_gateway_key() {
    for (from, to) in [(XIm, Kim), (Kim, XIm)] {
        let house = house(
            Limits::default(),
            false,
            &[("login", "l1", XIm), ("chat", "c1", from), ("chat", "c2", to)],
        );
        house.up(&["l1", "c1", "c2"]);
        let account = account_of(&house, "chat", "c1");
        let guard = sign_in(&house, &account, "l1");
        forward(&house, &guard, TALK, 5).unwrap();
        let before = header(&house.queued("c1")[0]);
        house.lost("c1");
        let packets = house.queued("c2");
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
    let house = two_chats();
    house.up(&["l1", "c1"]);
    let guard = sign_in(&house, "alice", "l1");
    let sent = forward(&house, &guard, TALK, 1).unwrap();
    let queued = forward(&house, &guard, TALK, 2).unwrap();
    house.write("c1", 1);
    house.lost("c1");
    let mut answers = answers(&guard.channel.outgoing, LaneId::LOGIN);
    answers.sort_unstable();
    assert_eq!(answers, [(1, OUTCOME_UNKNOWN), (2, SYSTEM_EXCEPTION)]);
    assert_eq!((sent.stage(), queued.stage()), (Stage::Lost(InstanceKey(1)), Stage::Unplaced));
    assert_eq!(house.books.pending(), 0);
    assert_eq!((house.books.rejects(Reject::NoInstance), house.books.value(NO_SERVER)), (1, 1));
    assert_eq!(house.books.requests(), (3, 2, 1), "sign-in and one sent, one rejected (G9)");
    assert_eq!(guard.channel.outgoing.closing(), None, "the channel lives on");
}

#[test]
fn g4_the_queue_of_a_channel_that_ended_still_moves() {
    let house = two_chats();
    house.up(&["l1", "c1", "c2"]);
    let account = account_of(&house, "chat", "c1");
    let guard = sign_in(&house, &account, "l1");
    forward(&house, &guard, TALK, 5).unwrap();
    end(&house, guard, CloseReason::Bye);
    house.lost("c1");
    assert_eq!(sequences(&house.queued("c2")), [5]);
    house.lost("c2");
    assert_eq!(house.books.pending(), 0);
    assert_eq!(house.books.requests(), (2, 1, 1));
}

#[test]
fn e1_a_sign_in_still_queued_moves_and_opens_its_channel_there() {
    let house = two_logins();
    house.up(&["l1", "l2"]);
    let account = account_of(&house, "login", "l1");
    let guard = arrive(&house, &account);
    forward(&house, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    house.lost("l1");
    assert_eq!(guard.channel.state(), State::Opening);
    assert_eq!(house.take_all("l2").len(), 1);
    house.answer("l2", &guard.channel.id, command::LOGIN_SIGNIN, 1, 0);
    assert!(matches!(guard.channel.state(), State::Open(_)));
    end(&house, guard, CloseReason::Bye);
    assert_eq!(house.queued("l2").len(), 1, "and is signed out there");
}

#[test]
fn b21_a_sign_in_that_nobody_takes_ends_its_channel_without_a_sign_out() {
    let house = two_logins();
    house.up(&["l1"]);
    let guard = arrive(&house, "alice");
    forward(&house, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    house.lost("l1");
    assert_eq!(guard.channel.state(), State::Refused);
    assert_eq!(guard.channel.outgoing.closing(), Some(CloseReason::LoginUnavailable));
    assert_eq!(answers(&guard.channel.outgoing, LaneId::LOGIN), [(1, SYSTEM_EXCEPTION)]);
    assert_eq!(house.books.value("gateway_logins_total{result=\"unavailable\"}"), 1);
    house.up(&["l2"]);
    end(&house, guard, CloseReason::LoginUnavailable);
    assert!(house.queued("l2").is_empty());
    assert_eq!((house.books.pending(), house.books.signouts_waiting()), (0, 0));
}

#[test]
fn e1_a_sign_in_whose_link_broke_ends_its_channel_with_210_and_a_sign_out() {
    let house = two_logins();
    house.up(&["l1", "l2"]);
    let account = account_of(&house, "login", "l1");
    let guard = arrive(&house, &account);
    forward(&house, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    house.write("l1", 1);
    house.lost("l1");
    assert_eq!(guard.channel.state(), State::Refused);
    assert_eq!(guard.channel.outgoing.closing(), Some(CloseReason::LoginUnavailable));
    assert_eq!(answers(&guard.channel.outgoing, LaneId::LOGIN), [(1, OUTCOME_UNKNOWN)]);
    assert_eq!(house.books.value("gateway_logins_total{result=\"unanswered\"}"), 1);
    let id = Rc::clone(&guard.channel.id);
    end(&house, guard, CloseReason::LoginUnavailable);
    let packets = house.take_all("l2");
    assert_eq!(packets.len(), 1, "nothing else: a sign-in is never sent twice");
    let header = header(&packets[0]);
    assert_eq!((header.command.as_str(), &*header.channel_id), (command::LOGIN_SIGNOUT, &*id));
    assert_eq!(meta(&header, "reason").as_deref(), Some("login_unavailable"));
    assert_eq!(house.books.signouts(Signout::Written), 1);
}

#[test]
fn g4_a_request_is_withdrawn_only_before_its_first_byte() {
    let house = two_chats();
    house.up(&["l1", "c1"]);
    let guard = sign_in(&house, "alice", "l1");
    let first = forward(&house, &guard, TALK, 1).unwrap();
    let second = forward(&house, &guard, TALK, 2).unwrap();
    house.write("c1", 1);
    assert!(!house.dispatch.withdraw(&first));
    assert!(house.dispatch.withdraw(&second));
    assert_eq!(second.stage(), Stage::Unplaced);
    assert!(house.dispatch.withdraw(&second), "it stands in no queue");
    assert_eq!(house.books.requests(), (3, 2, 1), "counted once");
    house.write("c1", usize::MAX);
    assert!(house.link("c1").is_drained(), "nothing of the second is left");
    assert!(!house.dispatch.withdraw(&first));
}

/// A house in which the selector would send this user's sign-out elsewhere than the sign-in went.
fn signed_in_at_l1() -> (House, ChannelGuard) {
    let house = two_logins();
    house.up(&["l1", "l2"]);
    let account = account_of(&house, "login", "l2");
    house.lost("l2");
    let guard = sign_in(&house, &account, "l1");
    house.up(&["l2"]);
    (house, guard)
}

#[test]
fn g5_a_sign_out_goes_to_the_instance_that_got_the_sign_in() {
    let (house, guard) = signed_in_at_l1();
    let (id, account) = (Rc::clone(&guard.channel.id), guard.channel.identity.account.clone());
    end(&house, guard, CloseReason::HeartbeatTimeout);
    assert!(house.queued("l2").is_empty());
    let packets = house.queued("l1");
    assert_eq!(packets.len(), 1);
    let header = header(&packets[0]);
    assert_eq!((header.command.as_str(), &*header.channel_id), (command::LOGIN_SIGNOUT, &*id));
    assert_eq!(meta(&header, "account"), Some(account));
    assert_eq!(meta(&header, "app").as_deref(), Some("x_im"));
    assert_eq!(meta(&header, "dest.logic").as_deref(), Some(GATE));
    assert_eq!(meta(&header, "reason").as_deref(), Some("heartbeat_timeout"));
    assert_eq!(house.books.signouts_waiting(), 1, "owed until its last byte is written");
    house.write("l1", usize::MAX);
    assert_eq!(house.books.signouts_waiting(), 0);
    assert_eq!(house.books.signouts(Signout::Written), 1);
    run_signouts(&house, Instant::now());
    assert!(house.link("l1").is_drained(), "exactly one");
}

#[test]
fn g5_a_sign_out_goes_where_the_selector_says_when_that_link_is_gone() {
    let (house, guard) = signed_in_at_l1();
    house.lost("l1");
    end(&house, guard, CloseReason::Bye);
    assert_eq!(house.queued("l2").len(), 1);
}

#[test]
fn g5_a_sign_out_that_was_cut_is_written_anew_to_another_instance() {
    let (house, guard) = signed_in_at_l1();
    end(&house, guard, CloseReason::Bye);
    let len = house.link("l1").write_with(|frames| frames.next().unwrap().len());
    house.write("l1", len - 1);
    assert_eq!(house.books.signouts(Signout::Written), 0);
    house.lost("l1");
    assert_eq!(house.dispatch.signouts.owed(), 1);
    run_signouts(&house, Instant::now());
    assert_eq!(header(&house.take_all("l2")[0]).command, command::LOGIN_SIGNOUT, "whole");
    assert_eq!(house.books.signouts(Signout::Written), 1);
    assert_eq!(house.books.signouts_waiting(), 0);
}

#[test]
fn g5_a_sign_out_waits_for_a_login_link() {
    let (house, guard) = signed_in_at_l1();
    house.lost("l1");
    house.lost("l2");
    end(&house, guard, CloseReason::Bye);
    assert_eq!(house.dispatch.signouts.owed(), 1);
    run_signouts(&house, Instant::now());
    assert_eq!(house.books.value(NO_SERVER), 0, "it is no request that found nobody");
    house.up(&["l2"]);
    run_signouts(&house, Instant::now());
    assert_eq!(house.queued("l2").len(), 1);
}

#[test]
fn g5_a_sign_out_that_waited_is_superseded_by_the_hand_over_of_a_later_sign_in() {
    let (house, guard) = signed_in_at_l1();
    let account = guard.channel.identity.account.clone();
    house.lost("l1");
    house.lost("l2");
    end(&house, guard, CloseReason::Bye);
    house.up(&["l2"]);
    let later = arrive(&house, &account);
    forward(&house, &later, command::LOGIN_SIGNIN, 1).unwrap();
    house.write("l2", 1);
    run_signouts(&house, Instant::now());
    assert_eq!(house.books.signouts(Signout::Superseded), 1);
    house.write("l2", usize::MAX);
    assert!(house.link("l2").is_drained());
    assert_eq!(house.books.signouts_waiting(), 0);
}

#[test]
fn g5_one_held_for_its_answer_is_superseded_by_a_sign_in_that_went_first() {
    let house = two_logins();
    house.up(&["l1"]);
    let first = arrive(&house, "alice");
    let id = Rc::clone(&first.channel.id);
    forward(&house, &first, command::LOGIN_SIGNIN, 1).unwrap();
    house.take_all("l1");
    end(&house, first, CloseReason::PeerClosed);
    let _second = sign_in(&house, "alice", "l1");
    house.answer("l1", &id, command::LOGIN_SIGNIN, 1, 0);
    run_signouts(&house, Instant::now());
    assert!(house.queued("l1").is_empty(), "it would sign the second out: services delete by account");
    assert_eq!(house.books.signouts(Signout::Superseded), 1);
}

/// A session of alice that ended while no login service was linked, behind bob's sign-in at l1 a later one of hers that
/// is queued, and one byte written of what is queued.
fn signed_in_again_behind_a_frame_that_was_cut() -> (House, Rc<str>, [ChannelGuard; 2]) {
    let house = two_logins();
    house.up(&["l1"]);
    let first = sign_in(&house, "alice", "l1");
    let id = Rc::clone(&first.channel.id);
    house.lost("l1");
    end(&house, first, CloseReason::PeerLost);
    house.up(&["l1"]);
    let guards = ["bob", "alice"].map(|account| {
        let guard = arrive(&house, account);
        forward(&house, &guard, command::LOGIN_SIGNIN, 1).unwrap();
        guard
    });
    house.write("l1", 1);
    (house, id, guards)
}

#[test]
fn h23_a_sign_in_that_was_queued_and_never_written_supersedes_nothing() {
    let (house, id, guards) = signed_in_again_behind_a_frame_that_was_cut();
    house.lost("l1");
    for guard in guards {
        assert_eq!(guard.channel.outgoing.closing(), Some(CloseReason::LoginUnavailable));
        end(&house, guard, CloseReason::LoginUnavailable);
    }
    house.up(&["l2"]);
    run_signouts(&house, Instant::now());
    let written: Vec<_> = house.take_all("l2").iter().map(|packet| header(packet).channel_id).collect();
    assert!(written.contains(&id.to_string()), "{written:?}");
    assert_eq!(written.len(), 2, "alice's first and bob's, which was cut: {written:?}");
    assert_eq!(house.books.signouts(Signout::Superseded), 0);
}

#[test]
fn h23_one_is_superseded_by_the_first_byte_of_a_later_sign_in() {
    let (house, _, _guards) = signed_in_again_behind_a_frame_that_was_cut();
    let rest = house.link("l1").write_with(|frames| frames.next().unwrap().len());
    house.write("l1", rest);
    assert_eq!(house.queued("l1").len(), 1, "hers has not begun");
    house.write("l1", 1);
    run_signouts(&house, Instant::now());
    assert_eq!(house.books.signouts(Signout::Superseded), 1);
}

#[test]
fn h23_while_a_write_is_under_way_elsewhere_a_sign_out_is_neither_placed_nor_dropped() {
    for has_begun in [false, true] {
        let (house, guard) = signed_in_at_l1();
        let identity = guard.channel.identity.clone();
        drop(guard);
        let mut write = house.dispatch.signouts.writing_signin(&identity).unwrap();
        for _ in 0..3 {
            assert!(house.dispatch.signout_turn(Instant::now()), "it is looked at again");
        }
        assert_eq!((house.queued("l1").len(), house.dispatch.signouts.owed()), (0, 1));
        if has_begun {
            write.begin();
        }
        drop(write);
        run_signouts(&house, Instant::now());
        let expected = if has_begun { (0, 1) } else { (1, 0) };
        assert_eq!((house.queued("l1").len(), house.books.signouts(Signout::Superseded)), expected);
    }
}

#[test]
fn g5_the_sign_in_of_a_channel_that_has_ended_does_not_supersede_its_own_sign_out() {
    let house = two_logins();
    house.up(&["l1"]);
    let guard = arrive(&house, "alice");
    let id = Rc::clone(&guard.channel.id);
    let _kept_by_a_drain = Rc::clone(&guard.channel);
    forward(&house, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    drop(guard);
    assert_eq!(house.take_all("l1").len(), 1, "written before its sign-out had its turn");
    run_signouts(&house, Instant::now());
    assert!(house.link("l1").is_drained(), "held for the answer");
    house.answer("l1", &id, command::LOGIN_SIGNIN, 1, 0);
    run_signouts(&house, Instant::now());
    assert_eq!(header(&house.take_all("l1")[0]).command, command::LOGIN_SIGNOUT);
    assert_eq!(house.books.signouts(Signout::Superseded), 0);
}

#[test]
fn g5_a_sign_out_goes_back_to_the_instance_whose_link_broke_under_its_sign_in() {
    let house = two_logins();
    house.up(&["l1", "l2"]);
    let account = account_of(&house, "login", "l2");
    house.lost("l2");
    let guard = arrive(&house, &account);
    forward(&house, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    house.write("l1", 1);
    house.lost("l1");
    house.up(&["l1", "l2"]);
    end(&house, guard, CloseReason::LoginUnavailable);
    assert_eq!((house.queued("l1").len(), house.queued("l2").len()), (1, 0));
}

#[test]
fn h22_a_crowd_that_waited_for_one_instance_is_answered_in_slices() {
    let house = two_chats();
    house.up(&["l1", "c1"]);
    let link = house.link("c1");
    let guards: Vec<_> = (0..2 * LOST_PER_TURN + 1)
        .map(|n| {
            let guard = arrive(&house, &format!("u{n}"));
            forward(&house, &guard, TALK, 1).unwrap();
            house.write("c1", usize::MAX);
            guard
        })
        .collect();
    let answered =
        || guards.iter().filter(|guard| !answers(&guard.channel.outgoing, LaneId::LOGIN).is_empty());
    house.dispatch.link_lost(&link, Loss::Ended, Instant::now());
    assert_eq!((link.load(), answered().count()), (0, 0), "nothing is owed by the instance");
    let is_lost = |guard: &ChannelGuard| guard.channel.pending.borrow().lost().count() == 1;
    assert!(guards.iter().all(is_lost), "at once, before anybody was looked at");
    house.up(&["c1"]);
    // What comes now is too late, and an end of time comes first: one answer all the same.
    house.answer("c1", &guards[0].channel.id, TALK, 1, 0);
    let ticket = guards[1].channel.pending.borrow_mut().take_oldest().unwrap();
    assert!(!house.dispatch.withdraw(&ticket));
    house.dispatch.fail(&guards[1].channel, &ticket, pb::Status::OutcomeUnknown, "no answer in time");
    let (mut before, mut turns) = (answered().count(), 1);
    while house.dispatch.lost_turn() {
        let now = answered().count();
        assert!(now - before <= LOST_PER_TURN, "{}", now - before);
        (before, turns) = (now, turns + 1);
    }
    // Each was looked for, and answered.
    assert!((3..=6).contains(&turns), "{turns}");
    for guard in &guards {
        assert_eq!(answers(&guard.channel.outgoing, LaneId::LOGIN), [(1, OUTCOME_UNKNOWN)]);
    }
    assert_eq!((house.books.pending(), house.books.rejects(Reject::ResponseUnmatched)), (0, 1));
}

#[test]
fn g4_accepted_requests_go_ahead_of_the_sign_out_on_the_same_link() {
    let house = house(Limits::default(), false, &[("login", "l1", XIm)]);
    house.up(&["l1"]);
    let guard = sign_in(&house, "alice", "l1");
    forward(&house, &guard, "login.query", 4).unwrap();
    end(&house, guard, CloseReason::Bye);
    let commands: Vec<_> = house.queued("l1").iter().map(|packet| header(packet).command).collect();
    assert_eq!(commands, ["login.query", command::LOGIN_SIGNOUT]);
}

#[test]
fn g5_after_a_kick_by_the_login_service_there_is_no_sign_out_unless_configured() {
    for (configured, expected) in [(false, 0), (true, 1)] {
        let house = house(Limits::default(), configured, &[("login", "l1", XIm)]);
        house.up(&["l1"]);
        let guard = sign_in(&house, "alice", "l1");
        end(&house, guard, CloseReason::Kicked);
        assert_eq!(house.queued("l1").len(), expected, "configured: {configured}");
        assert_eq!(house.books.signouts(Signout::AfterKick), 1 - expected as i64);
        assert_eq!(house.books.signouts_waiting(), expected as i64);
    }
}

#[test]
fn g5_a_channel_that_ends_before_its_hand_over_takes_its_sign_in_back() {
    let house = two_logins();
    house.up(&["l1"]);
    let guard = arrive(&house, "alice");
    forward(&house, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    end(&house, guard, CloseReason::PeerClosed);
    assert!(house.link("l1").is_drained(), "neither sign-in nor sign-out");
    assert_eq!(house.books.signouts_waiting(), 0);
    assert_eq!(house.books.requests(), (1, 0, 1));
}

#[test]
fn g5_a_channel_that_ends_unanswered_is_signed_out_behind_the_answer() {
    let house = two_logins();
    house.up(&["l1"]);
    let guard = arrive(&house, "alice");
    let id = Rc::clone(&guard.channel.id);
    forward(&house, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    house.take_all("l1");
    let start = Instant::now();
    end(&house, guard, CloseReason::PeerClosed);
    run_signouts(&house, start + millis(4000));
    assert!(house.link("l1").is_drained());
    house.answer("l1", &id, command::LOGIN_SIGNIN, 1, 0);
    assert_eq!(house.books.rejects(Reject::ResponseUnmatched), 0, "it was awaited");
    run_signouts(&house, start + millis(4001));
    assert_eq!(house.queued("l1").len(), 1);
    house.answer("l1", &id, command::LOGIN_SIGNIN, 1, 0);
    assert_eq!(house.books.rejects(Reject::ResponseUnmatched), 1);
}

/// The login services of kim and X_IM answer every sign-out, with 0 or, if somebody was faster, 404.
#[test]
fn g9_answers_to_sign_outs_are_expected_as_often_as_sign_outs_were_written() {
    let house = two_logins();
    house.up(&["l1"]);
    let answered =
        |status: &str| house.books.value(&format!("gateway_signout_answers_total{{status=\"{status}\"}}"));
    let guard = arrive(&house, "alice");
    let id = Rc::clone(&guard.channel.id);
    let answer = |status| house.answer("l1", &id, command::LOGIN_SIGNOUT, 0, status);
    answer(0);
    assert_eq!(house.books.rejects(Reject::ResponseUnmatched), 1, "none was written");
    forward(&house, &guard, command::LOGIN_SIGNIN, 1).unwrap();
    house.take_all("l1");
    house.answer("l1", &id, command::LOGIN_SIGNIN, 1, 0);
    end(&house, guard, CloseReason::PeerClosed);
    run_signouts(&house, Instant::now());
    assert_eq!(house.take_all("l1").len(), 1);
    answer(404);
    assert_eq!((answered("0"), answered("404")), (0, 1));
    assert_eq!(house.books.rejects(Reject::ResponseUnmatched), 1);
    answer(404);
    assert_eq!((answered("404"), house.books.rejects(Reject::ResponseUnmatched)), (1, 2), "once");
}

#[test]
fn e1_only_live_links_are_chosen() {
    let house = two_chats();
    house.up(&["c1", "c2"]);
    let chosen = |account: &str| house.dispatch.choose("chat", "x_im", account).unwrap().instance.id.clone();
    let both: std::collections::BTreeSet<_> = (0..50).map(|n| chosen(&format!("u{n}"))).collect();
    assert_eq!(both.len(), 2);
    house.lost("c1");
    assert!((0..50).all(|n| chosen(&format!("u{n}")) == "c2"));
    house.up(&["c1"]);
    let again: std::collections::BTreeSet<_> = (0..50).map(|n| chosen(&format!("u{n}"))).collect();
    assert_eq!(both, again);
}

/// A house in which `c1` is adult and `c2` young from this moment on, after an absence.
fn one_adult_one_young() -> (House, Instant) {
    let house = two_chats();
    let back = age_c2(&house);
    (house, back)
}

/// Everyone is linked, and `c2` young from the moment that is returned.
fn age_c2(house: &House) -> Instant {
    house.up(&["l1", "c1", "c2"]);
    let now = Instant::now();
    house.lost_at("c2", now);
    let back = now + millis(6000);
    house.up_at("c2", back);
    back
}

fn link_state(house: &House, id: &str) -> &'static str {
    house.link(id).metrics.state().label()
}

#[test]
fn g4_when_the_last_adult_goes_the_young_one_takes_its_queue_in_the_same_step() {
    let (house, back) = one_adult_one_young();
    assert_eq!((link_state(&house, "c1"), link_state(&house, "c2")), ("adult", "young"));
    let guards: Vec<_> = (0..20).map(|n| sign_in(&house, &format!("u{n}"), "l1")).collect();
    for (guard, sequence) in guards.iter().zip(1..) {
        forward(&house, guard, TALK, sequence).unwrap();
    }
    assert!(house.queued("c2").is_empty(), "whoever would belong to it");
    house.lost_at("c1", back + millis(1));
    assert_eq!(sequences(&house.queued("c2")), (1..=20).collect::<Vec<_>>(), "oldest first");
    assert_eq!(house.books.rejects(Reject::NoInstance), 0);
    assert_eq!(house.books.value("gateway_requests_rejected_total"), 0);
    assert_eq!(link_state(&house, "c2"), "young", "it serves and is young all the same");
}

#[test]
fn g3_when_a_first_adult_appears_what_is_queued_for_a_young_one_stays_there() {
    let house = two_chats_unbounded();
    let back = age_c2(&house);
    house.lost_at("c1", back);
    let guard = sign_in(&house, "alice", "l1");
    forward(&house, &guard, TALK, 1).unwrap();
    house.up_at("c1", back + millis(1));
    forward(&house, &guard, TALK, 2).unwrap();
    assert_eq!(sequences(&house.queued("c2")), [1]);
    assert_eq!(sequences(&house.take_all("c1")), [2]);
    house.answer("c1", &guard.channel.id, TALK, 2, 0);
    house.take_all("c2");
    house.answer("c2", &guard.channel.id, TALK, 1, 0);
    assert_eq!(answers(&guard.channel.outgoing, LaneId::LOGIN), [(2, 0), (1, 0)]);
}

#[test]
fn e7_a_young_one_gets_its_share_at_its_time_and_not_before() {
    let (house, back) = one_adult_one_young();
    let (c1, c2) = (house.link("c1"), house.link("c2"));
    let shares = || {
        let chosen = |n| house.dispatch.choose("chat", "x_im", &format!("u{n}")).unwrap().instance.id.clone();
        (0..50).map(chosen).collect::<std::collections::BTreeSet<_>>()
    };
    assert!(!grown(&house, &c2, back + millis(9999)));
    assert_eq!(c2.next_due(), Some(back + millis(10_000)));
    assert!(shares().iter().eq(["c1"]));
    assert!(grown(&house, &c2, back + millis(10_000)));
    assert_eq!((link_state(&house, "c2"), c2.next_due()), ("adult", None));
    assert!(shares().iter().eq(["c1", "c2"]));
    assert!(!grown(&house, &c2, back + millis(10_001)), "told once");
    assert!(!grown(&house, &c1, back + millis(10_001)));
}

/// Young or adult makes no difference to what is bound to the instance by name.
#[test]
fn g5_a_young_instance_still_gets_the_sign_out_of_its_own_sign_in() {
    let (house, guard) = signed_in_at_l1();
    let now = Instant::now();
    house.lost_at("l2", now);
    house.up_at("l2", now + millis(6000));
    end(&house, guard, CloseReason::Bye);
    assert_eq!((house.queued("l1").len(), house.queued("l2").len()), (1, 0));

    let house = two_logins();
    house.up(&["l1"]);
    house.lost_at("l1", now);
    house.up_at("l1", now + millis(6000));
    let guard = sign_in(&house, "alice", "l1");
    house.up_at("l2", now + millis(6000));
    end(&house, guard, CloseReason::Bye);
    assert_eq!((house.queued("l1").len(), house.queued("l2").len()), (1, 0), "l1 is young, l2 adult");
}

/// What is queued can still move while nothing of it was written: a connection that has ended gets none of it.
#[tokio::test]
async fn e1_g4_nothing_is_written_to_a_link_that_has_ended() {
    use tokio::io::{AsyncWriteExt as _, Interest};
    use tokio::net::{TcpListener, TcpStream};

    let house = two_chats();
    house.up(&["l1", "c1"]);
    let guard = sign_in(&house, "alice", "l1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut service, _) = listener.accept().await.unwrap();
    service.write_all(&frame::encode(Opcode::Pong, &[])).await.unwrap();
    service.shutdown().await.unwrap();
    while !ours.ready(Interest::READABLE).await.unwrap().is_read_closed() {}

    let ticket = forward(&house, &guard, TALK, 7).unwrap();
    assert!(matches!(ticket.stage(), Stage::Queued(..)));
    let end = Traffic::new(ours, house.link("c1"), Rc::clone(&house.dispatch)).run().await;
    assert_eq!(end, LinkEnd::Eof);
    assert_eq!(ticket.stage(), Stage::Unplaced, "no other instance is up: answered 300 and never sent");
    assert_eq!(guard.channel.pending.borrow().len(), 0);
}

/// The link of an instance that is no longer in the set.
fn leave(house: &House, ids: &[&str], now: Instant) -> Vec<Rc<Link>> {
    let links: Vec<_> = ids.iter().map(|id| house.link(id)).collect();
    house.dispatch.leave(&links, now);
    links
}

#[test]
fn e11_an_instance_that_left_for_good_is_not_lost_but_another_of_its_name_may_be() {
    let house = two_chats_unbounded();
    let is_lost = |count: u8| {
        let line = format!("gateway_events_active{{event=\"instance_lost\"}} {count}");
        house.books.metrics.render().lines().any(|shown| shown == line)
    };
    let raise = || {
        let event = crate::monitor::events::event::Event::instance_lost("chat", "c2", "z", "for a test");
        house.dispatch.metrics.raise(event);
    };
    raise();
    house.up(&["c2"]);
    assert!(is_lost(0), "it is linked");
    house.lost("c2");
    raise();
    let left = leave(&house, &["c2"], Instant::now());
    house.dispatch.come(left[0].instance.clone(), false);
    house.dispatch.forget(&left[0]);
    assert!(is_lost(1), "the new one is not linked");
    let left = leave(&house, &["c2"], Instant::now());
    house.dispatch.forget(&left[0]);
    assert!(is_lost(0));
}

#[test]
fn e11_what_is_queued_for_an_instance_that_leaves_moves_and_what_it_got_is_still_awaited() {
    let house = two_chats_unbounded();
    house.up(&["l1", "c1", "c2"]);
    let account = account_of(&house, "chat", "c1");
    let guard = sign_in(&house, &account, "l1");
    for sequence in 1..=4 {
        forward(&house, &guard, TALK, sequence).unwrap();
    }
    // One is written whole, one is cut behind its first byte.
    let whole = house.link("c1").write_with(|frames| frames.next().unwrap().len());
    house.write("c1", whole + 1);
    let now = Instant::now();
    let c1 = leave(&house, &["c1"], now).remove(0);
    assert_eq!(sequences(&house.queued("c2")), [3, 4]);
    assert_eq!(answers(&guard.channel.outgoing, LaneId::LOGIN), [], "its link lives: their answers may come");
    assert_eq!((c1.load(), house.link("c2").load()), (2, 2));
    forward(&house, &guard, TALK, 5).unwrap();
    assert_eq!(sequences(&house.take_all("c2")), [3, 4, 5], "out of selection at once");

    assert!(!c1.has_left(now), "the cut one is to be finished");
    house.write("c1", usize::MAX);
    house.answer("c1", &guard.channel.id, TALK, 1, 0);
    assert!(!c1.has_left(now));
    house.answer("c1", &guard.channel.id, TALK, 2, 0);
    assert_eq!(answers(&guard.channel.outgoing, LaneId::LOGIN), [(1, 0), (2, 0)]);
    assert!(c1.has_left(now), "it owes nothing more");
    house.dispatch.forget(&c1);
    assert_eq!(house.dispatch.links().len(), 2);
    assert_eq!(house.books.rejects(Reject::NoInstance), 0);
}

#[test]
fn e11_an_instance_that_left_and_does_not_answer_is_waited_for_as_long_as_a_request_has() {
    let house = two_chats_unbounded();
    house.up(&["l1", "c1", "c2"]);
    let guard = sign_in(&house, &account_of(&house, "chat", "c1"), "l1");
    forward(&house, &guard, TALK, 1).unwrap();
    house.take_all("c1");
    let now = Instant::now();
    let c1 = leave(&house, &["c1"], now).remove(0);
    assert_eq!(c1.leaves_by(), Some(now + millis(4500)));
    assert!(!c1.has_left(now + millis(4499)));
    assert!(c1.has_left(now + millis(4500)));
    house.lost("c1");
    assert_eq!(answers(&guard.channel.outgoing, LaneId::LOGIN), [(1, OUTCOME_UNKNOWN)]);
    assert_eq!(c1.load(), 0);
}

#[test]
fn e11_what_nobody_else_can_take_stays_with_the_instance_that_leaves() {
    let house = two_chats_unbounded();
    house.up(&["l1", "c1", "c2"]);
    let guards: Vec<_> = (0..20).map(|n| sign_in(&house, &format!("u{n}"), "l1")).collect();
    for (guard, sequence) in guards.iter().zip(1..) {
        forward(&house, guard, TALK, sequence).unwrap();
    }
    let queued = (house.queued("c1").len(), house.queued("c2").len());
    let links = leave(&house, &["c1", "c2"], Instant::now());
    assert_eq!((house.queued("c1").len(), house.queued("c2").len()), queued, "nor from one to the other");
    assert_eq!(
        forward(&house, &guards[0], TALK, 99).unwrap_err(),
        Refused::NoInstance,
        "known, and without anybody"
    );
    assert_eq!(links.iter().map(|link| link.load()).sum::<usize>(), 20);
    assert_eq!(house.books.pending(), 20);
}

#[test]
fn e11_one_that_is_back_in_time_keeps_its_link_and_one_at_another_address_is_young() {
    let house = two_chats();
    house.up(&["l1", "c1", "c2"]);
    let now = Instant::now();
    let chosen = || {
        let chosen = |n| house.dispatch.choose("chat", "x_im", &format!("u{n}")).unwrap().key.0;
        (0..50).map(chosen).collect::<std::collections::BTreeSet<_>>()
    };
    let before = chosen();
    assert_eq!(before.len(), 2);
    let c2 = leave(&house, &["c2"], now).remove(0);
    assert_eq!(chosen().len(), 1);
    house.dispatch.stay(&c2, now);
    assert_eq!(chosen(), before);
    assert!(!c2.has_left(now + millis(60_000)));

    leave(&house, &["c2"], now);
    let moved = crate::config::Instance { address: "127.0.0.1:2".to_owned(), ..c2.instance.clone() };
    let link = house.dispatch.come(moved, false);
    assert_ne!(link.key, c2.key);
    house.up_at("c2", now);
    assert_eq!(link_state(&house, "c2"), "young");
    assert_eq!(chosen().len(), 1);
    assert!(grown(&house, &link, now + millis(10_000)));
    assert!(chosen().contains(&link.key.0));
    // What went to the old one is not answered by the new one.
    house.dispatch.forget(&c2);
    assert!(house.dispatch.links.get(c2.key).is_none());
    assert!(house.dispatch.links.get(link.key).is_some());
}

#[test]
fn e11_a_service_whose_last_instance_left_is_known_all_the_same() {
    let house = two_chats();
    house.up(&["l1", "c1", "c2"]);
    for link in leave(&house, &["c1", "c2"], Instant::now()) {
        house.dispatch.forget(&link);
    }
    let guard = sign_in(&house, "alice", "l1");
    assert_eq!(forward(&house, &guard, TALK, 1).unwrap_err(), Refused::NoInstance);
    let series = house.books.metrics.render();
    assert!(!series.contains("instance=\"c1\""), "the series of an instance go with it");
    assert!(series.contains("instance=\"l1\""));
}

#[test]
fn g5_e11_a_sign_out_whose_instance_left_goes_to_the_selectors_choice() {
    // While its link is being closed, and when it is gone; queued there already, or not yet.
    for gone in [false, true] {
        let (house, guard) = signed_in_at_l1();
        let l1 = leave(&house, &["l1"], Instant::now()).remove(0);
        if gone {
            house.lost("l1");
            house.dispatch.forget(&l1);
        }
        end(&house, guard, CloseReason::Bye);
        assert_eq!(house.queued("l2").len(), 1, "gone: {gone}");
    }
    let (house, guard) = signed_in_at_l1();
    end(&house, guard, CloseReason::Bye);
    assert_eq!(house.queued("l1").len(), 1);
    leave(&house, &["l1"], Instant::now());
    run_signouts(&house, Instant::now());
    assert_eq!((house.queued("l1").len(), house.queued("l2").len()), (0, 1), "it moves");
    house.write("l2", usize::MAX);
    assert_eq!(house.books.signouts(Signout::Written), 1);
}

/// A login instance that leaves is kept for the answers to its sign-ins, those of channels that have ended included.
#[test]
fn e11_the_load_counts_what_is_unanswered_and_nothing_else() {
    let house = two_logins();
    house.up(&["l1", "c1"]);
    let l1 = house.link("l1");
    let answered = sign_in(&house, "alice", "l1");
    assert_eq!(l1.load(), 0, "though the channel keeps its sign-in");
    let waiting = arrive(&house, "bob");
    let id = Rc::clone(&waiting.channel.id);
    forward(&house, &waiting, command::LOGIN_SIGNIN, 1).unwrap();
    house.take_all("l1");
    assert_eq!(l1.load(), 1);
    end(&house, waiting, CloseReason::PeerClosed);
    assert_eq!(l1.load(), 1, "its sign-out waits for the answer");
    house.answer("l1", &id, command::LOGIN_SIGNIN, 1, 0);
    assert_eq!(l1.load(), 0);

    let c1 = house.link("c1");
    let withdrawn = forward(&house, &answered, TALK, 1).unwrap();
    forward(&house, &answered, TALK, 2).unwrap();
    assert_eq!(c1.load(), 2);
    assert!(house.dispatch.withdraw(&withdrawn));
    assert_eq!(c1.load(), 1);
    drop(withdrawn);
    drop(answered);
    assert_eq!(c1.load(), 1, "still queued, and forwarded though its channel has ended (G4)");
    house.take_all("c1");
    assert_eq!(c1.load(), 0);
}

/// A house of two chats in which `c2` is ejected at this moment, by requests that it did not answer.
fn one_ejected(house: House) -> (House, Instant) {
    house.up(&["l1", "c1", "c2"]);
    let guard = sign_in(&house, &account_of(&house, "chat", "c2"), "l1");
    let now = Instant::now();
    for sequence in 1..=5 {
        assert_eq!(link_state(&house, "c2"), "adult");
        forward(&house, &guard, TALK, sequence).unwrap();
        house.take_all("c2");
        let ticket = guard.channel.pending.borrow_mut().take_oldest().unwrap();
        house.dispatch.timed_out(&ticket, now);
    }
    assert_eq!(link_state(&house, "c2"), "suspect");
    (house, now)
}

#[test]
fn e2_what_times_out_because_this_worker_stood_still_ejects_nobody() {
    let house = two_chats_unbounded();
    house.up(&["l1", "c1", "c2"]);
    let guard = sign_in(&house, &account_of(&house, "chat", "c2"), "l1");
    let two_pings = house.dispatch.settings.limits.backend_ping * 2;
    let (link, asked) = (house.link("c2"), Instant::now());
    let time_out = |sequence, now| {
        forward(&house, &guard, TALK, sequence).unwrap();
        house.take_all("c2");
        let ticket = guard.channel.pending.borrow_mut().take_oldest().unwrap();
        house.dispatch.timed_out(&ticket, now);
    };
    link.turn(asked);
    let awake = asked + two_pings + millis(1);
    for sequence in 1..=5 {
        time_out(sequence, awake);
    }
    assert_eq!(link_state(&house, "c2"), "adult", "its answers may lie unread");
    assert_eq!(link.turn(awake), two_pings + millis(1));
    for sequence in 6..=10 {
        time_out(sequence, awake + two_pings);
    }
    assert_eq!(link_state(&house, "c2"), "suspect", "the worker had its turns, and nothing came");
    link.rest();
    assert_eq!(link.turn(awake + two_pings * 9), millis(0), "no connection, no pause");
}

#[test]
fn e2_an_ejected_instance_gets_one_request_when_its_time_is_over_and_the_answer_restores_it() {
    let (house, now) = one_ejected(two_chats_unbounded());
    let guards: Vec<_> = (0..40).map(|n| sign_in(&house, &format!("v{n}"), "l1")).collect();
    let ask = |sequence| {
        for guard in &guards {
            forward(&house, guard, TALK, sequence).unwrap();
        }
        (house.take_all("c1").len(), house.take_all("c2"))
    };
    assert_eq!(ask(1).0, 40, "none");
    house.dispatch.on(&house.link("c2"), Event::Time, now + millis(10_000));
    let (others, trial) = ask(2);
    assert_eq!((others, trial.len()), (39, 1));
    assert_eq!(ask(3).0, 40, "one only");
    house.answer("c2", &header(&trial[0]).channel_id, TALK, 2, 0);
    assert_eq!(link_state(&house, "c2"), "adult");
    assert!(!ask(4).1.is_empty());
    let series = "gateway_link_transitions_total{to=\"suspect\"}";
    assert_eq!(house.books.value(series), 1);
}

#[test]
fn g4_a_queue_that_moves_tries_nobody_with_more_than_one_request() {
    let house = house(
        Limits::default(),
        false,
        &[("login", "l1", XIm), ("chat", "c1", XIm), ("chat", "c2", XIm), ("chat", "c3", XIm)],
    );
    house.up(&["l1", "c1", "c2", "c3"]);
    house.dispatch.link_lost(&house.link("c2"), Loss::Silent, Instant::now());
    house.up(&["c2"]);
    assert_eq!(link_state(&house, "c2"), "suspect");
    house.lost("c1");
    let guards: Vec<_> = (0..40).map(|n| sign_in(&house, &format!("v{n}"), "l1")).collect();
    for guard in &guards {
        forward(&house, guard, TALK, 1).unwrap();
    }
    house.lost("c3");
    // Nobody is left but the one on trial, so it gets all.
    assert_eq!(house.queued("c2").len(), 40);
    assert_eq!(house.books.rejects(Reject::NoInstance), 0);
}

#[test]
fn e20_a_link_that_broke_within_a_frame_begins_anew_with_a_whole_one() {
    let house = two_chats();
    house.up(&["l1", "c1"]);
    let guard = sign_in(&house, "alice", "l1");
    forward(&house, &guard, TALK, 1).unwrap();
    forward(&house, &guard, TALK, 2).unwrap();
    house.write("c1", 9);
    house.lost("c1");
    assert!(house.link("c1").is_drained(), "the rest of the frame is never written");
    house.up(&["c1"]);
    forward(&house, &guard, TALK, 3).unwrap();
    assert_eq!(sequences(&house.take_all("c1")), [3]);
    let statuses = answers(&guard.channel.outgoing, LaneId::LOGIN);
    assert_eq!(statuses, [(2, SYSTEM_EXCEPTION), (1, OUTCOME_UNKNOWN)]);
}

/// What the gateway does not read because one of its channels is full is no silence of the instance.
#[tokio::test]
async fn e19_a_link_that_we_paused_ourselves_is_not_silent() {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    let limits = Limits { backend_ping: millis(30), backend_misses: 2, ..Limits::default() };
    let silence = limits.backend_ping * limits.backend_misses;
    let house = house(limits, false, &[("login", "l1", XIm), ("chat", "c1", XIm)]);
    house.up(&["l1"]);
    let guard = sign_in(&house, "alice", "l1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut service, _) = listener.accept().await.unwrap();
    guard.channel.outgoing.set_push_lane(LaneId::LOGIN);
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
    let mut running = std::pin::pin!(Traffic::new(ours, house.link("c1"), Rc::clone(&house.dispatch)).run());
    let paused = tokio::time::timeout(silence * 5, running.as_mut()).await;
    assert!(paused.is_err(), "{paused:?}");
    assert_eq!(link_state(&house, "c1"), "adult");
    let written = guard.channel.outgoing.write_with(LaneId::LOGIN, |frames| frames.map(Encoded::len).sum());
    guard.channel.outgoing.advance(LaneId::LOGIN, written);
    // From now on it is read, and it says nothing.
    assert_eq!(tokio::time::timeout(silence * 50, running).await, Ok(LinkEnd::Silent));
    assert_eq!(link_state(&house, "c1"), "broken");
}

/// The socket takes everything at once; still others have their turns between.
#[tokio::test]
async fn h22_a_turn_of_a_link_writes_a_part_of_a_long_queue() {
    use std::future::poll_fn;
    use std::task::Poll;
    use tokio::net::TcpStream;

    const WAITING: usize = 50_000;
    let house = two_logins();
    house.up(&["l1"]);
    let link = house.link("l1");
    let someone = channel(&house.books, "alice");
    for _ in 0..WAITING {
        let signout = SignOut::of(&someone, CloseReason::Bye, Instant::now());
        link.enqueue(Cargo::SignOut(signout), Encoded { head: vec![1; 50].into(), body: Bytes::new() });
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let reader =
        std::thread::spawn(move || std::io::copy(&mut listener.accept().unwrap().0, &mut std::io::sink()));
    let traffic = Traffic::new(ours, Rc::clone(&link), Rc::clone(&house.dispatch));
    let mut running = Box::pin(traffic.run());
    let left = || link.write_with(|frames| frames.count());
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
    let (house, now) = one_ejected(two_chats());
    let guard = sign_in(&house, &account_of(&house, "chat", "c1"), "l1");
    // Whose account belongs to c2, and who came while that was ejected.
    let account = (0..).map(|n| format!("w{n}")).find(|account| selector::hashcode(account) % 20 >= 10);
    let other = sign_in(&house, &account.unwrap(), "l1");
    forward(&house, &other, TALK, 1).unwrap();
    assert_eq!(sequences(&house.take_all("c1")), [1]);
    house.dispatch.on(&house.link("c2"), Event::Time, now + millis(10_000));
    forward(&house, &other, TALK, 2).unwrap();
    forward(&house, &guard, TALK, 9).unwrap();
    assert_eq!(sequences(&house.take_all("c1")), [2, 9], "it waits for its first answer");
    for sequence in 1..=2 {
        house.answer("c1", &other.channel.id, TALK, sequence, 0);
    }
    forward(&house, &other, TALK, 3).unwrap();
    forward(&house, &other, TALK, 4).unwrap();
    assert_eq!(sequences(&house.take_all("c2")), [3], "the trial");
    assert_eq!(sequences(&house.take_all("c1")), [4]);
    house.answer("c2", &other.channel.id, TALK, 3, 0);
    assert_eq!(link_state(&house, "c2"), "adult");
    house.answer("c1", &other.channel.id, TALK, 4, 0);
    forward(&house, &other, TALK, 5).unwrap();
    assert_eq!(sequences(&house.take_all("c1")), [5], "it stays where it is");
}

#[test]
fn g3_a_channel_leaves_an_instance_that_is_no_longer_adult_when_nothing_is_pending_there() {
    let (house, back) = one_adult_one_young();
    house.lost_at("c1", back);
    let guard = sign_in(&house, "alice", "l1");
    forward(&house, &guard, TALK, 1).unwrap();
    house.up_at("c1", back + millis(1));
    forward(&house, &guard, TALK, 2).unwrap();
    assert_eq!(
        sequences(&house.take_all("c2")),
        [1, 2],
        "the young one has its first, so it gets the second"
    );
    house.answer("c2", &guard.channel.id, TALK, 1, 0);
    forward(&house, &guard, TALK, 3).unwrap();
    assert_eq!(sequences(&house.take_all("c2")), [3]);
    for sequence in 2..=3 {
        house.answer("c2", &guard.channel.id, TALK, sequence, 0);
    }
    forward(&house, &guard, TALK, 4).unwrap();
    assert_eq!(sequences(&house.take_all("c1")), [4], "nothing is pending there");
    assert_eq!(answers(&guard.channel.outgoing, LaneId::LOGIN), [(1, 0), (2, 0), (3, 0)]);
}

#[test]
fn g3_e11_a_channel_follows_an_instance_that_leaves_until_nothing_is_pending_there() {
    let house = two_chats();
    house.up(&["l1", "c1", "c2"]);
    let account = account_of(&house, "chat", "c1");
    let (waiting, idle) = (sign_in(&house, &account, "l1"), sign_in(&house, &account, "l1"));
    forward(&house, &waiting, TALK, 1).unwrap();
    forward(&house, &idle, TALK, 11).unwrap();
    house.take_all("c1");
    house.answer("c1", &idle.channel.id, TALK, 11, 0);
    forward(&house, &idle, TALK, 12).unwrap();
    forward(&house, &waiting, TALK, 2).unwrap();
    let now = Instant::now();
    let c1 = leave(&house, &["c1"], now).remove(0);
    assert_eq!(sequences(&house.queued("c2")), [12], "queued, and nothing before it is with c1");
    forward(&house, &waiting, TALK, 3).unwrap();
    assert_eq!(sequences(&house.take_all("c1")), [2, 3]);
    for sequence in 1..=3 {
        house.answer("c1", &waiting.channel.id, TALK, sequence, 0);
    }
    forward(&house, &waiting, TALK, 4).unwrap();
    assert_eq!(sequences(&house.take_all("c2")), [12, 4]);
    assert!(c1.has_left(now));
    assert!(c1.takes_followers(now + millis(999)) && !c1.takes_followers(now + millis(1000)));
    assert_eq!(c1.leaves_by(), Some(now + millis(5500)), "whoever followed has its full time");
}

#[test]
fn new_channels_avoid_an_instance_far_above_the_mean_and_those_that_it_has_stay() {
    for (is_bounded, pending, spills) in [(true, 127, false), (true, 128, true), (false, 200, false)] {
        let instances = [("login", "l1", XIm), ("chat", "c1", XIm), ("chat", "c2", XIm)];
        let house = house_with(is_bounded, Limits::default(), false, &instances);
        house.up(&["l1", "c1", "c2"]);
        let account = account_of(&house, "chat", "c1");
        let old = sign_in(&house, &account, "l1");
        for sequence in 0..pending {
            forward(&house, &old, TALK, sequence).unwrap();
        }
        let sent = house.take_all("c1").len();
        assert_eq!(sent, pending as usize);
        let new = sign_in(&house, &account, "l1");
        forward(&house, &new, TALK, 1000).unwrap();
        let place = if spills { "c2" } else { "c1" };
        assert_eq!(sequences(&house.take_all(place)), [1000], "{is_bounded} {pending}");
        assert_eq!(house.books.value("gateway_spilled_total"), i64::from(spills));
        forward(&house, &old, TALK, 2000).unwrap();
        assert_eq!(sequences(&house.take_all("c1")), [2000], "it has its instance");
        for sequence in 0..pending {
            house.answer("c1", &old.channel.id, TALK, sequence, 0);
        }
        forward(&house, &new, TALK, 1001).unwrap();
        assert_eq!(sequences(&house.take_all(place)), [1001], "and so has the new one from now on");
        let newer = sign_in(&house, &account, "l1");
        forward(&house, &newer, TALK, 3000).unwrap();
        assert_eq!(sequences(&house.take_all("c1")), [3000], "the wave is over");
    }
}

#[test]
fn e3_new_channels_avoid_an_instance_whose_queue_is_half_full_unless_all_are() {
    let limits = Limits { backend_queued_packets: 10, ..Limits::default() };
    let instances = [("login", "l1", XIm), ("chat", "c1", XIm), ("chat", "c2", XIm)];
    let house = house(limits, false, &instances);
    house.up(&["l1", "c1", "c2"]);
    let account = account_of(&house, "chat", "c1");
    let place = |sequence| {
        let guard = sign_in(&house, &account, "l1");
        forward(&house, &guard, TALK, sequence).unwrap();
        (house.queued("c1").len(), house.queued("c2").len())
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

/// Run it optimised and alone: `cargo test --release --lib longest_steps -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn h22_the_longest_steps_of_a_worker_with_a_crowd() {
    const CROWD: usize = 200_000;
    let house = two_chats();
    house.up(&["l1", "c1"]);
    let dispatch = &house.dispatch;
    let channels = &dispatch.channels;
    let (mut guards, mut connected) = (Vec::with_capacity(CROWD), Vec::with_capacity(CROWD));
    let crowd: Vec<_> = (0..CROWD).map(|n| channel(&house.books, &format!("u{n}"))).collect();
    show("a channel begins", crowd.into_iter().map(|one| timed(|| guards.push(channels.register(one)))));
    let connect = |guard: &ChannelGuard| timed(|| connected.push(channels.connect(&guard.channel.outgoing)));
    show("a connection begins", guards.iter().map(connect));
    let ask = |guard: &ChannelGuard| {
        let took = timed(|| drop(forward(&house, guard, TALK, 1).unwrap()));
        house.write("c1", usize::MAX);
        took
    };
    show("a request is placed", guards.iter().map(ask));
    show("a link is lost", [timed(|| dispatch.link_lost(&house.link("c1"), Loss::Ended, Instant::now()))]);
    show("its requests are answered", until_done(|| dispatch.lost_turn()));
    assert_eq!(house.books.pending(), 0);
    show("the largest are shed", turns(shed_largest(channels, 1)).1);
    show("the newest are closed", [timed(|| assert_eq!(close_newest(channels, CROWD / 100), CROWD / 100))]);
    let (drained, steps) = turns(channels.begin_drain());
    show("a drain begins", steps);
    show("all are closed", turns(channels.cut_short()).1);
    drop(drained);
    show("a connection ends", connected.into_iter().map(|guard| timed(|| drop(guard))));
    show("a channel ends", guards.into_iter().map(|guard| timed(|| drop(guard))));
    house.up(&["l1"]);
    show("sign-outs are placed", until_done(|| dispatch.signout_turn(Instant::now())));
    let lose = |id| timed(|| dispatch.link_lost(&house.link(id), Loss::Ended, Instant::now()));
    show("the link of the sign-outs is lost", [lose("l1")]);
    show("it is back", [timed(|| house.up(&["l1"]))]);
    show("metrics are collected", [timed(|| assert_eq!(house.books.signouts_waiting(), 0))]);
}
