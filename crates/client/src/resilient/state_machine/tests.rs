use super::*;
use crate::go_away::GoAway;
use crate::resilient::servers::AVOIDED;

const SECOND: Duration = Duration::from_secs(1);

struct Drive {
    machine: StateMachine,
    now: Instant,
}

impl Drive {
    fn new(servers: usize, change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = Plan { servers, backoff: Backoff::default(), once: false, must_begin: false };
        change(&mut plan);
        Self { machine: StateMachine::new(plan, Rng::seeded(7)), now: Instant::now() }
    }

    /// On the server the first connection goes to.
    fn online(servers: usize) -> Self {
        let mut drive = Self::new(servers, |_| {});
        assert_eq!(drive.take(Input::Begin), [Act::Connect { server: 0, renew: false }]);
        drive.connected();
        drive
    }

    fn take(&mut self, input: Input) -> Vec<Act> {
        self.machine.take(self.now, input)
    }

    /// From the handshake to the login.
    fn connected(&mut self) {
        assert_eq!(self.take(Input::Connected), [Act::SignIn]);
        assert!(!self.machine.may_send());
        assert_eq!(self.take(Input::SignedIn), []);
        assert!(self.machine.may_send());
    }

    /// Waits for the alarm and sounds it; too early nothing happens.
    fn alarm(&mut self) -> Vec<Act> {
        let at = self.machine.alarm().expect("an alarm");
        if let Some(early) = at.checked_sub(Duration::from_nanos(1)).filter(|early| *early >= self.now) {
            self.now = early;
            assert_eq!(self.take(Input::Alarm), []);
        }
        self.now = at.max(self.now);
        self.take(Input::Alarm)
    }

    fn go_away(&mut self, seconds: u64) {
        let told = GoAway { within: Duration::from_secs(seconds), reason: CloseReason::Draining };
        assert_eq!(self.take(Input::GoAway(told)), [Act::Draining(told)]);
        assert!(self.machine.may_send(), "requests are served until the move");
    }
}

/// The pause and the server a list of acts ends with.
fn pause(acts: &[Act]) -> (u32, Duration, usize) {
    match acts.last() {
        Some(Act::Reconnecting { attempt, after, server }) => (*attempt, *after, *server),
        _ => panic!("no pause: {acts:?}"),
    }
}

#[test]
fn every_close_code_is_followed_by_what_it_asks_for() {
    for reason in CloseReason::ALL {
        let mut drive = Drive::online(2);
        let acts = drive.take(Input::Closed(reason));
        assert_eq!(acts[0], Act::Lost(reason));
        let renew = match of_close(reason) {
            Retry::Never => {
                assert_eq!(*acts.last().unwrap(), Act::Over(Why::Closed(reason)));
                assert_eq!(acts.contains(&Act::Kicked), reason == CloseReason::Kicked);
                assert!(drive.machine.is_over() && drive.take(Input::Alarm).is_empty());
                continue;
            }
            Retry::Renew => true,
            _ => false,
        };
        let (attempt, after, server) = pause(&acts);
        assert_eq!(attempt, 1);
        let elsewhere =
            [CloseReason::Draining, CloseReason::Overloaded, CloseReason::LoginUnavailable].contains(&reason);
        assert_eq!(server, usize::from(elsewhere), "{reason}");
        let most = if reason == CloseReason::Draining { MOVE_WINDOW } else { Backoff::default().base };
        assert!(after <= most, "{reason}: {after:?}");
        assert!(!drive.machine.may_send());
        assert_eq!(drive.alarm(), [Act::Connect { server, renew }]);
        drive.connected();
    }
}

#[test]
fn pauses_grow_while_it_fails_and_begin_anew_only_after_a_steady_while() {
    let mut drive = Drive::online(1);
    drive.take(Input::Closed(CloseReason::PeerLost));
    for attempt in 2..=12 {
        drive.alarm();
        let acts = drive.take(Input::ConnectFailed(Retry::Elsewhere));
        let (said, after, server) = pause(&acts);
        assert_eq!((said, server), (attempt, 0), "there is no other");
        assert!(after <= Duration::from_secs(30));
    }
    assert_eq!(drive.machine.failures, 12);
    drive.alarm();
    drive.connected();
    drive.now += STEADY - Duration::from_millis(1);
    assert_eq!(pause(&drive.take(Input::Closed(CloseReason::PeerLost))).0, 1, "counted anew for the program");
    assert_eq!(drive.machine.failures, 13, "and not for the pause");
    drive.alarm();
    drive.connected();
    drive.now += STEADY;
    let (_, after, _) = pause(&drive.take(Input::Closed(CloseReason::PeerLost)));
    assert_eq!(drive.machine.failures, 1);
    assert!(after <= Backoff::default().base);
}

#[test]
fn with_several_servers_each_has_a_try_before_the_pause_grows() {
    let mut drive = Drive::online(3);
    drive.take(Input::Closed(CloseReason::PeerClosed));
    let mut tried = std::collections::BTreeSet::new();
    for n in 1..40 {
        let Some(Act::Connect { server, .. }) = drive.alarm().pop() else { panic!("no try") };
        tried.insert(server);
        let (_, after, next) = pause(&drive.take(Input::ConnectFailed(Retry::Elsewhere)));
        assert_ne!(next, server);
        assert!(after <= Backoff::default().base * 2u32.pow((n / 3).min(10)), "{n}: {after:?}");
    }
    assert_eq!(tried.len(), 3);
}

#[test]
fn f1_on_go_away_it_shakes_hands_elsewhere_waits_for_answers_says_bye_and_signs_in_there() {
    let mut drive = Drive::online(2);
    drive.go_away(20);
    let begun = drive.now;
    assert_eq!(drive.alarm(), [Act::Connect { server: 1, renew: false }]);
    assert!(drive.now - begun <= 10 * SECOND, "one half of the time is left");
    assert!(drive.machine.may_send() && !drive.machine.awaits_idle());
    assert_eq!(drive.take(Input::Connected), []);
    assert!(!drive.machine.may_send() && drive.machine.awaits_idle());
    assert_eq!(drive.take(Input::Idle), [Act::Leave]);
    assert!(drive.machine.is_leaving());
    assert_eq!(drive.take(Input::Closed(CloseReason::Bye)), [], "that is our own");
    let acts = drive.take(Input::Left(CloseReason::Bye));
    assert_eq!(acts, [Act::Reconnecting { attempt: 1, after: Duration::ZERO, server: 1 }, Act::SignIn]);
    drive.take(Input::SignedIn);
    assert!(drive.machine.may_send());
    assert_eq!(drive.machine.server(), 1);
}

#[test]
fn f1_a_close_that_is_nearer_than_it_was_said_first_is_gone_by() {
    let mut drive = Drive::online(2);
    drive.go_away(3600);
    drive.go_away(2);
    let begun = drive.now;
    assert_eq!(drive.alarm(), [Act::Connect { server: 1, renew: false }]);
    assert!(drive.now - begun <= SECOND, "one half of the time is left");
    drive.take(Input::GoAway(GoAway { within: Duration::ZERO, reason: CloseReason::Draining }));
    assert!(!drive.machine.may_send(), "nothing new is sent before the close");
    assert_eq!(drive.take(Input::Connected), []);
    assert_eq!(drive.take(Input::Idle), [Act::Leave]);
}

#[test]
fn f1_moves_of_many_clients_are_spread_over_the_time() {
    let at = |seed| {
        let mut drive = Drive::online(2);
        drive.machine.rng = Rng::seeded(seed);
        drive.go_away(20);
        drive.machine.alarm().unwrap() - drive.now
    };
    let mut tenths = [0; 10];
    for seed in 0..1000 {
        tenths[at(seed).as_secs() as usize] += 1;
    }
    assert!(tenths.iter().all(|count| (60..=140).contains(count)), "{tenths:?}");
}

#[test]
fn f1_answers_that_do_not_come_hold_a_move_up_for_five_seconds() {
    let mut drive = Drive::online(2);
    drive.go_away(20);
    drive.alarm();
    drive.take(Input::Connected);
    let ready = drive.now;
    assert_eq!(drive.alarm(), [Act::Leave]);
    assert_eq!(drive.now - ready, ANSWERS_OWED);
}

#[test]
fn f1_while_no_other_gateway_answers_the_one_at_hand_serves() {
    let mut drive = Drive::online(1);
    drive.go_away(20);
    for _ in 0..3 {
        assert_eq!(drive.alarm(), [Act::Connect { server: 0, renew: false }]);
        assert_eq!(drive.take(Input::ConnectFailed(Retry::Elsewhere)), []);
        assert!(drive.machine.may_send());
    }
    let acts = drive.take(Input::Closed(CloseReason::Draining));
    assert!(pause(&acts).1 <= MOVE_WINDOW);
}

#[test]
fn f1_who_finds_no_other_gateway_sends_nothing_shortly_before_the_close_and_goes_on_if_none_comes() {
    let mut drive = Drive::online(1);
    drive.go_away(2);
    let close = drive.now + 2 * SECOND;
    let mut quiet = None;
    while drive.now < close {
        if drive.alarm() == [Act::Connect { server: 0, renew: false }] {
            drive.take(Input::ConnectFailed(Retry::Elsewhere));
        }
        if !drive.machine.may_send() {
            quiet.get_or_insert(drive.now);
        }
        assert_eq!(drive.machine.may_send(), quiet.is_none(), "and it stays so");
    }
    assert_eq!(close - quiet.unwrap(), SECOND / 2);
    while !drive.machine.may_send() {
        if drive.alarm() == [Act::Connect { server: 0, renew: false }] {
            drive.take(Input::ConnectFailed(Retry::Elsewhere));
        }
    }
    assert_eq!(drive.now - close, 6 * SECOND);
    drive.take(Input::Closed(CloseReason::Draining));
    drive.alarm();
    drive.connected();
}

#[test]
fn f1_a_handshake_that_takes_too_long_is_waited_for_in_silence() {
    let mut drive = Drive::online(2);
    drive.go_away(2);
    let close = drive.now + 2 * SECOND;
    assert_eq!(drive.alarm(), [Act::Connect { server: 1, renew: false }]);
    assert!(drive.machine.may_send());
    assert_eq!(drive.alarm(), []);
    assert!(!drive.machine.may_send());
    assert_eq!(close - drive.now, SECOND / 2);
    assert!(!drive.machine.awaits_idle(), "the move has not begun");
    drive.now = close;
    assert_eq!(pause(&drive.take(Input::Closed(CloseReason::Draining))), (1, Duration::ZERO, 1));
    drive.connected();
    assert_eq!(drive.machine.alarm(), None, "the new connection is not hushed");
}

#[test]
fn f1_a_session_that_would_not_come_back_sends_to_the_end() {
    for (reason, once) in [(CloseReason::Draining, true), (CloseReason::Abuse, false)] {
        let mut drive = Drive::new(2, |plan| plan.once = once);
        drive.take(Input::Begin);
        drive.connected();
        drive.take(Input::GoAway(GoAway { within: Duration::ZERO, reason }));
        assert!(drive.machine.may_send() && drive.machine.alarm().is_none(), "{reason}");
    }
    let mut drive = Drive::online(2);
    drive.take(Input::GoAway(GoAway { within: Duration::ZERO, reason: CloseReason::Overloaded }));
    assert!(!drive.machine.may_send(), "this one comes back, if not elsewhere beforehand");
}

#[test]
fn f1_a_close_in_the_middle_of_a_move_goes_on_with_it() {
    let mut drive = Drive::online(2);
    drive.go_away(20);
    drive.alarm();
    let acts = drive.take(Input::Closed(CloseReason::Draining));
    assert_eq!(acts[0], Act::Lost(CloseReason::Draining));
    assert_eq!(pause(&acts), (1, Duration::ZERO, 1));
    drive.connected();

    let mut drive = Drive::online(2);
    drive.go_away(20);
    drive.alarm();
    drive.take(Input::Connected);
    let acts = drive.take(Input::Closed(CloseReason::PeerLost));
    assert_eq!(*acts.last().unwrap(), Act::SignIn, "the handshake is done");
}

#[test]
fn f1_a_gateway_that_goes_away_is_passed_over_for_a_while() {
    let mut drive = Drive::online(3);
    drive.take(Input::Closed(CloseReason::Draining));
    for _ in 0..20 {
        let Some(Act::Connect { server, .. }) = drive.alarm().pop() else { panic!("no try") };
        assert_ne!(server, 0);
        drive.machine.failures = 0;
        drive.take(Input::ConnectFailed(Retry::Elsewhere));
    }
    drive.now += AVOIDED;
    let back = (0..50).any(|_| {
        let acts = drive.alarm();
        drive.take(Input::ConnectFailed(Retry::Elsewhere));
        acts.contains(&Act::Connect { server: 0, renew: false })
    });
    assert!(back);
}

#[test]
fn a_refused_token_is_renewed_once() {
    let mut drive = Drive::new(1, |_| {});
    drive.take(Input::Begin);
    drive.take(Input::Connected);
    pause(&drive.take(Input::SignInFailed(Retry::Renew)));
    assert_eq!(drive.alarm(), [Act::Connect { server: 0, renew: true }]);
    // The network fails meanwhile: the new token was not refused, and is no newer for that.
    pause(&drive.take(Input::ConnectFailed(Retry::Elsewhere)));
    assert_eq!(drive.alarm(), [Act::Connect { server: 0, renew: false }]);
    drive.take(Input::Connected);
    assert_eq!(drive.take(Input::SignInFailed(Retry::Renew)), [Act::Over(Why::LastError)]);
}

#[test]
fn a_token_that_ran_out_later_is_renewed_again() {
    let mut drive = Drive::online(1);
    for _ in 0..3 {
        drive.take(Input::Closed(CloseReason::TokenExpired));
        assert_eq!(drive.alarm(), [Act::Connect { server: 0, renew: true }]);
        drive.connected();
    }
}

#[test]
fn without_a_token_it_tries_later_or_ends() {
    let mut drive = Drive::online(1);
    drive.take(Input::Closed(CloseReason::TokenExpired));
    drive.alarm();
    pause(&drive.take(Input::NoToken(Retry::Again)));
    assert_eq!(drive.alarm(), [Act::Connect { server: 0, renew: true }], "it still wants another one");
    assert_eq!(drive.take(Input::NoToken(Retry::Never)), [Act::Over(Why::LastError)]);
}

#[test]
fn a_beginning_that_must_succeed_tries_every_server_once() {
    let mut drive = Drive::new(3, |plan| plan.must_begin = true);
    assert_eq!(drive.take(Input::Begin), [Act::Connect { server: 0, renew: false }]);
    let failed = Input::ConnectFailed(Retry::Elsewhere);
    assert_eq!(drive.take(failed), [Act::Connect { server: 1, renew: false }]);
    assert_eq!(drive.take(failed), [Act::Connect { server: 2, renew: false }]);
    assert_eq!(drive.take(failed), [Act::Over(Why::LastError)]);

    let mut drive = Drive::new(2, |plan| plan.must_begin = true);
    drive.take(Input::Begin);
    assert_eq!(drive.take(Input::ConnectFailed(Retry::Never)), [Act::Over(Why::LastError)]);

    let mut drive = Drive::new(2, |plan| plan.must_begin = true);
    drive.take(Input::Begin);
    drive.take(Input::Connected);
    let again = drive.take(Input::SignInFailed(Retry::Renew));
    assert_eq!(again, [Act::Connect { server: 0, renew: true }], "no pause, and no other server");
    drive.connected();
    // What was online once comes back for as long as it takes.
    drive.take(Input::Closed(CloseReason::PeerLost));
    drive.alarm();
    for _ in 0..9 {
        pause(&drive.take(failed));
        drive.alarm();
    }
}

#[test]
fn once_means_that_the_first_loss_is_the_end() {
    for input in [Input::Closed(CloseReason::PeerLost), Input::Broken] {
        let mut drive = Drive::new(2, |plan| plan.once = true);
        drive.take(Input::Begin);
        drive.connected();
        drive.go_away(20);
        assert_eq!(drive.machine.alarm(), None, "it stays to the end");
        assert!(matches!(drive.take(input).last(), Some(Act::Over(Why::Closed(_)))));
    }
}

#[test]
fn a_connection_that_takes_no_requests_is_left() {
    let mut drive = Drive::online(1);
    assert_eq!(drive.take(Input::Broken), [Act::Lost(CloseReason::PeerClosed), Act::Leave]);
    assert_eq!(drive.take(Input::Broken), [], "once");
    pause(&drive.take(Input::Left(CloseReason::Bye)));
    assert_eq!(drive.alarm(), [Act::Connect { server: 0, renew: false }]);
}

#[test]
fn it_stops_wherever_it_is_and_for_good() {
    let inputs = [Input::Begin, Input::Connected, Input::SignedIn, Input::Closed(CloseReason::PeerLost)];
    for length in 0..=inputs.len() {
        let mut drive = Drive::new(2, |_| {});
        for input in &inputs[..length] {
            drive.take(*input);
        }
        assert_eq!(drive.take(Input::Stop), [Act::Over(Why::Stopped)], "after {length}");
        for input in inputs {
            assert_eq!(drive.take(input), []);
        }
        assert_eq!(drive.machine.alarm(), None);
    }
}
