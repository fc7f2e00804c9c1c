//! Two ways to one end: the second begins late, and who is done first is used.

use std::future::Future;

/// Runs `first`, and `second` beside it when its head start is over, or at once when it has failed. The loser
/// is dropped, and its error returned if it had failed before; when both are done, `first` has won. Cancel safe as far
/// as both are.
///
/// # Errors
/// Both errors, that of `first` first, when both have failed.
pub(super) async fn race<T, E>(
    first: impl Future<Output = Result<T, E>>,
    second: impl Future<Output = Result<T, E>>,
    head_start: impl Future<Output = ()>,
) -> Result<(T, Option<E>), (E, E)> {
    tokio::pin!(first, second);
    let early = tokio::select! {
        biased;
        done = &mut first => Some(done),
        () = head_start => None,
    };
    // What came of one, and whether it is the first.
    let (done, is_first) = match early {
        Some(done) => (done, true),
        None => tokio::select! {
            biased;
            done = &mut first => (done, true),
            done = &mut second => (done, false),
        },
    };
    match (done, is_first) {
        (Ok(won), _) => Ok((won, None)),
        (Err(lost), true) => match second.await {
            Ok(won) => Ok((won, Some(lost))),
            Err(error) => Err((lost, error)),
        },
        (Err(lost), false) => match first.await {
            Ok(won) => Ok((won, Some(lost))),
            Err(error) => Err((error, lost)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::sync::oneshot;

    type Done = Result<&'static str, &'static str>;

    /// What happens, in this order.
    #[derive(Clone, Copy)]
    enum Event {
        /// The head start is over.
        Late,
        First(Done),
        Second(Done),
    }
    use Event::{First, Late, Second};

    /// Lets these things happen, and says how the race ended, and after how many of them the second had begun.
    async fn run(
        events: &[Event],
    ) -> (Result<(&'static str, Option<&'static str>), (&'static str, &'static str)>, Option<usize>) {
        let (late, is_late) = oneshot::channel::<()>();
        let (first, first_done) = oneshot::channel::<Done>();
        let (second, second_done) = oneshot::channel::<Done>();
        let (happened, begun) = (Cell::new(0), Cell::new(None));
        let script = async {
            let (mut late, mut first, mut second) = (Some(late), Some(first), Some(second));
            for &event in events {
                // Who has lost no longer listens.
                match event {
                    Late => drop(late.take().unwrap().send(())),
                    First(done) => drop(first.take().unwrap().send(done)),
                    Second(done) => drop(second.take().unwrap().send(done)),
                }
                happened.set(happened.get() + 1);
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        };
        let race = race(
            async { first_done.await.unwrap() },
            async {
                begun.set(Some(happened.get()));
                second_done.await.unwrap()
            },
            async { is_late.await.unwrap() },
        );
        tokio::select! {
            biased;
            ended = race => (ended, begun.get()),
            () = script => unreachable!(),
        }
    }

    #[tokio::test]
    async fn who_is_done_first_wins_and_the_second_begins_late() {
        let (one, two) = (Ok("1"), Ok("2"));
        let (no_one, no_two) = (Err("no 1"), Err("no 2"));
        let won = |who, lost: Option<&'static str>| Ok((who, lost));
        for (what, events, ended, begun) in [
            ("the first is fast", &[First(one)][..], won("1", None), None),
            ("the first is late", &[Late, First(one)], won("1", None), Some(1)),
            ("the first is silent", &[Late, Second(two)], won("2", None), Some(1)),
            ("the first fails early", &[First(no_one), Second(two)], won("2", Some("no 1")), Some(1)),
            ("the first fails late", &[Late, First(no_one), Second(two)], won("2", Some("no 1")), Some(1)),
            ("the second fails", &[Late, Second(no_two), First(one)], won("1", Some("no 2")), Some(1)),
            ("both fail, early", &[First(no_one), Second(no_two)], Err(("no 1", "no 2")), Some(1)),
            ("both fail", &[Late, First(no_one), Second(no_two)], Err(("no 1", "no 2")), Some(1)),
            (
                "both fail, the other first",
                &[Late, Second(no_two), First(no_one)],
                Err(("no 1", "no 2")),
                Some(1),
            ),
        ] {
            assert_eq!(run(events).await, (ended, begun), "{what}");
        }
    }

    #[tokio::test]
    async fn in_a_draw_the_first_wins() {
        let ended = race::<_, ()>(async { Ok(1) }, async { Ok(2) }, async {}).await;
        assert_eq!(ended, Ok((1, None)));
        let mut looks = 0;
        let first = std::future::poll_fn(|_| {
            looks += 1;
            if looks == 1 { std::task::Poll::Pending } else { std::task::Poll::Ready(Ok(1)) }
        });
        assert_eq!(race::<_, ()>(first, async { Ok(2) }, async {}).await, Ok((1, None)));
    }
}
