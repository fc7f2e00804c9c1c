//! Several ways to one end, begun one after the other and tried side by side (RFC 8305).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::limits::ATTEMPT_DELAY;

/// How much later each of so many attempts begins than the one before, so that even the last has a share of the time
/// left.
pub fn attempt_delay(attempts: usize, left: Duration) -> Duration {
    let shares = u32::try_from(attempts).unwrap_or(u32::MAX).saturating_add(1);
    ATTEMPT_DELAY.min(left / shares)
}

/// What the first attempt that succeeds says. Each begins a pause after the one before, or at once when one has failed;
/// when one has won the others are dropped. Cancel safe as far as they are.
///
/// # Errors
/// When all have failed: every error, in the order in which they came.
pub async fn first_of<T, E, F, P>(
    attempts: impl IntoIterator<Item = F>,
    pause: impl Fn() -> P,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
    P: Future<Output = ()>,
{
    let mut attempts = attempts.into_iter();
    let (mut next, mut running, mut errors) = (attempts.next(), Vec::new(), Vec::new());
    loop {
        match next.take() {
            Some(attempt) => running.push(Box::pin(attempt)),
            None if running.is_empty() => return Err(errors),
            None => {}
        }
        next = attempts.next();
        tokio::select! {
            biased;
            done = any(&mut running) => match done {
                Ok(won) => return Ok(won),
                Err(error) => errors.push(error),
            },
            () = pause(), if next.is_some() => {}
        }
    }
}

/// The outcome of the one that is done first, which is taken out.
async fn any<F: Future>(running: &mut Vec<Pin<Box<F>>>) -> F::Output {
    let (at, done) = poll_fn(|cx| {
        let polled = running.iter_mut().enumerate().find_map(|(at, one)| match one.as_mut().poll(cx) {
            Poll::Ready(done) => Some((at, done)),
            Poll::Pending => None,
        });
        polled.map_or(Poll::Pending, Poll::Ready)
    })
    .await;
    drop(running.remove(at));
    done
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use tokio::sync::{Notify, oneshot};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// What happens, in this order.
    #[derive(Clone, Copy)]
    enum RaceEvent {
        /// The delay is over.
        Late,
        /// This attempt succeeds.
        Well(usize),
        /// This one fails.
        Bad(usize),
    }
    use RaceEvent::{Bad, Late, Well};

    /// Lets these things happen to so many attempts; how many had happened when each attempt began, and what came of it.
    async fn run(attempts: usize, events: &[RaceEvent]) -> (Vec<usize>, Result<usize, Vec<usize>>) {
        let (late, happened, begun) =
            (Notify::new(), Rc::new(Cell::new(0)), Rc::<RefCell<Vec<_>>>::default());
        let (mut tell, mut listen): (Vec<_>, Vec<_>) =
            (0..attempts).map(|_| oneshot::channel::<bool>()).map(|(to, from)| (Some(to), from)).unzip();
        let attempts = listen.drain(..).enumerate().map(|(at, done)| {
            let (happened, begun) = (Rc::clone(&happened), Rc::clone(&begun));
            async move {
                begun.borrow_mut().push(happened.get());
                if done.await.unwrap() { Ok(at) } else { Err(at) }
            }
        });
        let race = first_of(attempts, || late.notified());
        let script = async {
            // Before anything happens, the first attempt begins.
            tokio::task::yield_now().await;
            for &event in events {
                happened.set(happened.get() + 1);
                match event {
                    Late => late.notify_waiters(),
                    Well(at) => tell[at].take().unwrap().send(true).unwrap(),
                    Bad(at) => tell[at].take().unwrap().send(false).unwrap(),
                }
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            biased;
            outcome = race => outcome,
            () = script => unreachable!(),
        };
        (begun.take(), outcome)
    }

    #[tokio::test]
    async fn h14_attempts_are_staggered_and_the_first_to_succeed_wins() {
        for (what, attempts, events, expected) in [
            ("the first is fast", 2, &[Well(0)][..], (vec![0], Ok(0))),
            ("the first is silent", 2, &[Late, Well(1)], (vec![0, 1], Ok(1))),
            ("the first is slow", 2, &[Late, Well(0)], (vec![0, 1], Ok(0))),
            ("the first is refused", 2, &[Bad(0), Well(1)], (vec![0, 1], Ok(1))),
            (
                "while one is silent others fail",
                4,
                &[Late, Bad(1), Bad(2), Well(3)],
                (vec![0, 1, 2, 3], Ok(3)),
            ),
            ("the silent one answers after all", 3, &[Late, Bad(1), Late, Well(0)], (vec![0, 1, 2], Ok(0))),
            ("all fail", 2, &[Late, Bad(1), Bad(0)], (vec![0, 1], Err(vec![1, 0]))),
            ("there is none", 0, &[], (vec![], Err(vec![]))),
        ] {
            assert_eq!(run(attempts, events).await, expected, "{what}");
        }
    }

    #[test]
    fn h14_even_the_last_of_many_has_a_share_of_the_time() {
        let seconds = Duration::from_secs;
        assert_eq!(attempt_delay(2, seconds(3)), ATTEMPT_DELAY);
        assert_eq!(attempt_delay(29, seconds(3)), MS * 100);
        assert_eq!(attempt_delay(2, MS * 300), MS * 100);
        assert_eq!(attempt_delay(3, Duration::ZERO), Duration::ZERO);
    }
}
