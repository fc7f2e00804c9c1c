//! Who is served by the monitor at once, and who goes when there are too many (rows F12, H21).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

/// Visitors that have not asked yet, or ask for a few bytes. A health check is among them for milliseconds; when one more
/// comes, the one that is there longest goes, so that those who say nothing delay nobody.
const BRIEF: usize = 16;

/// Visitors that are given the metrics, which can take a while to read. A few scrapers need one each.
const LONG: usize = 8;

/// All of them.
#[derive(Debug, Clone)]
pub(crate) struct Visitors(Arc<Places>);

#[derive(Debug)]
struct Places {
    /// In the order in which they came.
    brief: Mutex<VecDeque<(u64, AbortHandle)>>,
    long: Arc<Semaphore>,
}

/// One visitor's place. Its drop frees it.
#[derive(Debug)]
pub(crate) struct Place {
    visitors: Visitors,
    number: u64,
    long: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Visitors {
    pub(crate) fn new() -> Self {
        let long = Arc::new(Semaphore::new(LONG));
        Self(Arc::new(Places { brief: Mutex::default(), long }))
    }

    /// Another one, whose number is above those before; it is not served yet.
    pub(crate) fn place(&self, number: u64) -> Place {
        Place { visitors: self.clone(), number, long: Mutex::default() }
    }

    /// It is served by this task now. The longest there ends if they are too many.
    pub(super) fn is_served(&self, number: u64, task: AbortHandle) {
        let mut brief = self.brief();
        if task.is_finished() {
            return;
        }
        if brief.len() >= BRIEF
            && let Some((_, longest)) = brief.pop_front()
        {
            longest.abort();
        }
        brief.push_back((number, task));
    }

    fn brief(&self) -> MutexGuard<'_, VecDeque<(u64, AbortHandle)>> {
        self.0.brief.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// It asks for something that can take a while: nobody pushes it out any more. False if too many do.
    pub(super) fn stays(&self) -> bool {
        let Ok(permit) = Arc::clone(&self.visitors.0.long).try_acquire_owned() else { return false };
        *self.long.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        self.leave_brief();
        true
    }

    fn leave_brief(&self) {
        self.visitors.brief().retain(|(number, _)| *number != self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave_brief();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn h21_one_more_pushes_out_the_one_that_is_there_longest_and_nobody_who_stays() {
        let visitors = Visitors::new();
        let mut tasks = JoinSet::new();
        let mut come = |number| {
            let place = Arc::new(visitors.place(number));
            let held = Arc::clone(&place);
            let task = tasks.spawn(async move {
                let _held = held;
                pending::<()>().await;
            });
            visitors.is_served(number, task.clone());
            (place, task)
        };
        let here: Vec<_> = (0..BRIEF as u64).map(&mut come).collect();
        assert!(here[0].0.stays());
        let mut more: Vec<_> = (100..102).map(&mut come).collect();
        tokio::task::yield_now().await;
        let ended: Vec<_> = here.iter().map(|(_, task)| task.is_finished()).collect();
        assert_eq!(ended[..3], [false, true, false], "the first stays, the second was there longest");
        assert_eq!(ended.iter().filter(|ended| **ended).count(), 1);
        more.extend((200..200 + LONG as u64).map(&mut come));
        let stayed = more.iter().filter(|(place, _)| place.stays()).count();
        assert_eq!(stayed, LONG - 1, "with the first");
        tasks.shutdown().await;
        drop((here, more));
        assert_eq!((visitors.brief().len(), visitors.0.long.available_permits()), (0, LONG));
    }
}
