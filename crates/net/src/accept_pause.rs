//! What a listener does about an error: nothing, or a pause.

use std::io;
use std::time::Duration;

use super::backoff::Backoff;

/// Counts the errors since the last connection that was accepted. The caller waits.
#[derive(Debug)]
pub struct AcceptPause {
    backoff: Backoff,
    errors: u32,
}

impl AcceptPause {
    /// Pauses double from the first of these to the second.
    pub const fn new((first, longest): (Duration, Duration)) -> Self {
        Self { backoff: Backoff::new(first, longest), errors: 0 }
    }

    /// A connection was accepted: the next pause is the first again.
    pub const fn reset(&mut self) {
        self.errors = 0;
    }

    /// How long to wait before the next accept; `None` if the error is that of one connection, and the next may well be
    /// accepted. What the process lacks, files or memory, it lacks for a while: without a pause the loop would be busy.
    pub fn after(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
            return None;
        }
        let pause = self.backoff.unjittered(self.errors);
        self.errors = self.errors.saturating_add(1);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn d5_pauses_double_while_files_are_missing_and_begin_anew_with_a_connection() {
        let no_files = io::Error::from_raw_os_error(24);
        let mut pause = AcceptPause::new((MS * 10, MS * 1000));
        for expected in [10, 20, 40, 80, 160, 320, 640, 1000, 1000] {
            assert_eq!(pause.after(&no_files), Some(MS * expected));
        }
        pause.reset();
        assert_eq!(pause.after(&no_files), Some(MS * 10));
    }

    #[test]
    fn a_connection_that_failed_is_its_peers_affair() {
        let mut pause = AcceptPause::new((MS, MS * 2));
        for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset] {
            assert_eq!(pause.after(&kind.into()), None);
        }
        assert_eq!(pause.after(&io::ErrorKind::OutOfMemory.into()), Some(MS), "it was not counted");
    }
}
