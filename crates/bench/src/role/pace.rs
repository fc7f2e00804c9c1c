//! When the next message of an open loop is due, by a timer of the kernel: those of runtimes and of epoll know milliseconds.

use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::sync::{mpsc, watch};

use crate::error::{BenchError, Trying as _};

/// Shortest wait: none at all would switch the timer off.
const SOON: Duration = Duration::from_micros(1);

/// Messages that are due and wait for a runtime that is late.
const TICKS: usize = 4096;

/// Messages at a rate, each at its time whatever became of the others.
pub(crate) struct Pace {
    timer: TimerFd,
    start: Instant,
    /// Between two messages.
    period: Duration,
    next: u32,
}

impl Pace {
    /// So many messages a second from now on.
    pub(crate) fn new(rate: f64, now: Instant) -> Result<Self, BenchError> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC);
        let timer = timer.doing(|| "cannot make a timer".to_owned())?;
        Ok(Self { timer, start: now, period: Duration::from_secs_f64(1.0 / rate), next: 0 })
    }

    /// The number of the next message and when it was due, if it is.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let due = self.due();
        (due <= now).then(|| {
            self.next += 1;
            (self.next as usize - 1, due)
        })
    }

    /// Rings when the next message is due.
    pub(crate) fn arm(&self, now: Instant) -> Result<(), BenchError> {
        let wait = self.due().saturating_duration_since(now).max(SOON);
        let once = Expiration::OneShot(TimeSpec::from_duration(wait));
        self.timer.set(once, TimerSetTimeFlags::empty()).doing(|| "cannot set a timer".to_owned())
    }

    /// Blocks until it rings, where nobody else watches it.
    pub(crate) fn wait(&self) -> Result<(), BenchError> {
        self.timer.wait().doing(|| "cannot wait for a timer".to_owned())
    }

    fn due(&self) -> Instant {
        self.start + self.period * self.next
    }
}

/// Numbers of messages, each when it is due, until nothing runs any more. A thread of its own: the timers of the runtime
/// know milliseconds.
pub(crate) fn ticker(rate: f64, running: watch::Receiver<bool>) -> mpsc::Receiver<(usize, Instant)> {
    let (sender, receiver) = mpsc::channel(TICKS);
    thread::spawn(move || -> Result<(), BenchError> {
        let mut pace = Pace::new(rate, Instant::now())?;
        while *running.borrow() {
            while let Some(due) = pace.take(Instant::now()) {
                if sender.blocking_send(due).is_err() {
                    return Ok(());
                }
            }
            pace.arm(Instant::now())?;
            pace.wait()?;
        }
        Ok(())
    });
    receiver
}

impl AsRawFd for Pace {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_one_period_apart_and_none_is_left_out() {
        let start = Instant::now();
        let mut pace = Pace::new(1000.0, start).unwrap();
        assert_eq!(pace.take(start), Some((0, start)));
        assert_eq!(pace.take(start), None);
        let late = start + Duration::from_millis(2);
        assert_eq!(pace.take(late), Some((1, start + Duration::from_millis(1))));
        assert_eq!(pace.take(late), Some((2, late)));
        assert_eq!(pace.take(late), None);
    }
}
