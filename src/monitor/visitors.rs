//! The monitor's visitors: accepted also when the process has no file left, and few are served at once; who goes when there
//! are too many (rows F12, H21).

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener as Socket;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::limits::{ACCEPT_PAUSE, MONITOR_BRIEF, MONITOR_LONG, MONITOR_SPARE_FILES};
use gateway_net::accept_pause::AcceptPause;

/// The listening socket with its spare files.
pub(super) struct MonitorListener {
    inner: TcpListener,
    spare: Spare,
}

/// Handles to the listening socket, which nobody needs but for their places among the open files.
#[derive(Clone)]
pub(super) struct Spare(Arc<Mutex<Vec<Socket>>>);

impl Spare {
    /// Makes up for those that were used. To be called as soon as a visitor has gone: its file is free for a moment.
    pub(super) fn refill(&self) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The first is never given away: it is what the others are made of.
        while files.len() <= MONITOR_SPARE_FILES
            && let Some(Ok(another)) = files.first().map(Socket::try_clone)
        {
            files.push(another);
        }
    }

    /// Frees a file; false if there is none.
    fn release(&self) -> bool {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.len() > 1 && files.pop().is_some()
    }
}

impl MonitorListener {
    /// Must be called within the monitor's runtime.
    ///
    /// # Errors
    /// The runtime cannot take the socket, or there is no file for another handle to it.
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        let spare = Spare(Arc::new(Mutex::new(vec![socket.try_clone()?])));
        spare.refill();
        Ok(Self { inner: TcpListener::from_std(socket)?, spare })
    }

    pub(super) fn spare(&self) -> Spare {
        self.spare.clone()
    }

    /// The next visitor. Cancel safe.
    pub(super) async fn accept(&self) -> TcpStream {
        let mut pause = AcceptPause::new(ACCEPT_PAUSE);
        loop {
            match self.inner.accept().await {
                Ok((stream, _)) => return stream,
                Err(_) if self.spare.release() => {}
                Err(error) => {
                    if let Some(pause) = pause.after(&error) {
                        sleep(pause).await;
                    }
                    self.spare.refill();
                }
            }
        }
    }
}

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
        let long = Arc::new(Semaphore::new(MONITOR_LONG));
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
        if brief.len() >= MONITOR_BRIEF
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
        let here: Vec<_> = (0..MONITOR_BRIEF as u64).map(&mut come).collect();
        assert!(here[0].0.stays());
        let mut more: Vec<_> = (100..102).map(&mut come).collect();
        tokio::task::yield_now().await;
        let ended: Vec<_> = here.iter().map(|(_, task)| task.is_finished()).collect();
        assert_eq!(ended[..3], [false, true, false], "the first stays, the second was there longest");
        assert_eq!(ended.iter().filter(|ended| **ended).count(), 1);
        more.extend((200..200 + MONITOR_LONG as u64).map(&mut come));
        let stayed = more.iter().filter(|(place, _)| place.stays()).count();
        assert_eq!(stayed, MONITOR_LONG - 1, "with the first");
        tasks.shutdown().await;
        drop((here, more));
        assert_eq!((visitors.brief().len(), visitors.0.long.available_permits()), (0, MONITOR_LONG));
    }

    #[tokio::test]
    async fn h21_spare_files_are_given_away_and_made_up_for() {
        let socket = Socket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = MonitorListener::new(socket).unwrap();
        let spare = listener.spare();
        assert_eq!([0; 4].map(|_| spare.release()), [true, true, false, false]);
        spare.refill();
        assert_eq!([0; 3].map(|_| spare.release()), [true, true, false]);
        let address = listener.inner.local_addr().unwrap();
        let (_theirs, _ours) = tokio::join!(TcpStream::connect(address), listener.accept());
    }
}
