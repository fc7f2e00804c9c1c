//! One timer for all deadlines of a connection or a link.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::Instant;

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Sleep, sleep_until};

/// Fires at the earliest deadline. Deadlines that move later, as the read-idle one does with every frame, cost
/// nothing until it fires. It belongs to one task.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed: Instant,
    /// The sleep will wake the task when that time comes.
    is_waiting: bool,
}

impl Timer {
    pub(crate) fn new(first: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(first.into())), armed: first, is_waiting: false }
    }

    /// Has the task polled at `next` at the latest. `next` may have passed; `now` may be a little old.
    pub(crate) fn arm(&mut self, next: Instant, now: Instant, cx: &mut Context<'_>) {
        if next < self.armed {
            self.set(next);
        } else if self.is_waiting && now < self.armed {
            return;
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if next <= Instant::now() {
                cx.waker().wake_by_ref();
                self.is_waiting = false;
                return;
            }
            self.set(next);
        }
        // A task that has used up its turn is put off by tokio without being remembered: it has to ask again.
        self.is_waiting = has_budget_remaining();
    }

    fn set(&mut self, at: Instant) {
        self.armed = at;
        self.sleep.as_mut().reset(at.into());
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;

    /// Far beyond anything a test waits for.
    const FAR: Duration = Duration::from_secs(600);

    fn run(test: impl Future<Output = ()>) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(Duration::from_secs(10), test).await.expect("the timer fires") });
    }

    /// Polls until `next` has come, arming at every poll; returns how many polls that took.
    async fn until(timer: &mut Timer, next: Instant) -> u32 {
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            if Instant::now() >= next {
                return Poll::Ready(());
            }
            timer.arm(next, Instant::now(), cx);
            Poll::Pending
        })
        .await;
        polls
    }

    #[test]
    fn an_earlier_deadline_fires_at_its_time() {
        run(async {
            let start = Instant::now();
            let mut timer = Timer::new(start + FAR);
            until(&mut timer, start + Duration::from_millis(30)).await;
            assert!(start.elapsed() < FAR / 2);
        });
    }

    #[test]
    fn a_later_deadline_costs_one_look_and_fires_at_its_time() {
        run(async {
            let start = Instant::now();
            let mut timer = Timer::new(start + Duration::from_millis(20));
            let polls = until(&mut timer, start + Duration::from_millis(80)).await;
            assert!(start.elapsed() >= Duration::from_millis(80));
            assert!(polls <= 4, "{polls} polls");
        });
    }

    #[test]
    fn a_deadline_that_moves_with_every_poll_is_followed() {
        run(async {
            let mut timer = Timer::new(Instant::now() + Duration::from_millis(5));
            let step = Duration::from_millis(10);
            for _ in 0..5 {
                let next = Instant::now() + step;
                let polls = until(&mut timer, next).await;
                assert!(polls <= 4, "{polls} polls");
            }
        });
    }

    #[test]
    fn a_timer_that_was_armed_at_the_end_of_a_turn_fires() {
        run(async {
            let start = Instant::now();
            let next = start + Duration::from_millis(30);
            let mut timer = Timer::new(next);
            poll_fn(|cx| {
                while has_budget_remaining() {
                    let _spent = tokio::task::coop::poll_proceed(cx).map(|restore| restore.made_progress());
                }
                timer.arm(next, Instant::now(), cx);
                Poll::Ready(())
            })
            .await;
            yield_now().await;
            until(&mut timer, next).await;
            assert!(start.elapsed() >= Duration::from_millis(30));
        });
    }

    #[test]
    fn a_deadline_that_has_passed_has_the_task_polled_at_once_and_the_timer_goes_on() {
        run(async {
            let start = Instant::now();
            let mut timer = Timer::new(start + FAR);
            let mut polls = 0;
            poll_fn(|cx| {
                polls += 1;
                if polls == 3 {
                    return Poll::Ready(());
                }
                timer.arm(start, Instant::now(), cx);
                Poll::Pending
            })
            .await;
            yield_now().await;
            let next = Instant::now() + Duration::from_millis(30);
            let polls = until(&mut timer, next).await;
            assert!(polls <= 4, "{polls} polls: a deadline of the past is forgotten");
        });
    }
}
