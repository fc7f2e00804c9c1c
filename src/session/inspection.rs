//! A look at one connection that only its own task can take, for the administrator.

use std::cell::RefCell;
use std::time::Duration;

use tokio::sync::oneshot;

/// What the task of a connection knows of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inspection {
    /// Streams the client has open.
    pub(crate) streams: usize,
    /// Frames it sent so far.
    pub(crate) frames_received: u64,
    /// And their bytes.
    pub(crate) bytes_received: u64,
    /// A round trip, where the transport measures it.
    pub(crate) round_trip: Option<Duration>,
}

/// Where one is asked for. At most one waits: a second one takes its place.
#[derive(Debug, Default)]
pub(crate) struct InspectionSlot(RefCell<Option<oneshot::Sender<Inspection>>>);

impl InspectionSlot {
    /// Asks for one. The connection has to be woken; one that ends gives none.
    pub(crate) fn ask(&self) -> oneshot::Receiver<Inspection> {
        let (asked, answer) = oneshot::channel();
        *self.0.borrow_mut() = Some(asked);
        answer
    }

    /// Gives one, if it is asked for: one branch in each turn of a connection.
    pub(crate) fn give(&self, look: impl FnOnce() -> Inspection) {
        if self.0.borrow().is_some()
            && let Some(asked) = self.0.take()
        {
            let _nobody_waits_any_more = asked.send(look());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_taken_when_it_is_asked_for_and_once() {
        let slot = InspectionSlot::default();
        let look = |streams| Inspection { streams, frames_received: 0, bytes_received: 0, round_trip: None };
        slot.give(|| panic!("nobody asked"));
        let (mut first, mut second) = (slot.ask(), slot.ask());
        slot.give(|| look(3));
        slot.give(|| panic!("it was given"));
        assert!(first.try_recv().is_err(), "the second took its place");
        assert_eq!(second.try_recv().unwrap().streams, 3);
    }
}
