//! Many channels at once: no step is longer because of them.

use super::*;

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
    let connect =
        |guard: &ChannelGuard| timed(|| connected.push(channels.connect(&guard.channel.outgoing, origin())));
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
