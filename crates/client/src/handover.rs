//! Who has a request that is queued: the writer, who may put it on the wire, or its sender, who wants it back.

use std::sync::atomic::{AtomicU8, Ordering};

/// Neither has taken it.
const QUEUED: u8 = 0;
/// Its bytes may have been written.
const HANDED_OVER: u8 = 1;
/// It is never written.
const WITHDRAWN: u8 = 2;

/// Taken once, by whoever is first (G4): what was withdrawn is never written, and what may have been written is
/// never withdrawn.
#[derive(Debug, Default)]
pub(super) struct Handover(AtomicU8);

impl Handover {
    /// The writer is about to write it; false when it must not.
    pub(super) fn hand_over(&self) -> bool {
        self.0.compare_exchange(QUEUED, HANDED_OVER, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The sender wants it back; false when it may have been written.
    pub(super) fn withdraw(&self) -> bool {
        let taken = self.0.compare_exchange(QUEUED, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire);
        matches!(taken, Ok(_) | Err(WITHDRAWN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g4_a_request_is_written_or_withdrawn_and_never_both() {
        let written = Handover::default();
        assert!(written.hand_over());
        assert!(!written.withdraw());
        let withdrawn = Handover::default();
        assert!(withdrawn.withdraw() && withdrawn.withdraw());
        assert!(!withdrawn.hand_over());
    }
}
