//! Who may connect: the process-wide bound on connections, and the gauge that counts them.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::monitor::metrics::{Reject, Transport, WorkerMetrics};
use crate::wire::close::CloseReason;

/// Connections of the whole process: one atomic, touched once per connect and once per close.
#[derive(Debug)]
pub(crate) struct Admission {
    open: AtomicUsize,
    max: usize,
}

impl Admission {
    pub(crate) const fn new(max: usize) -> Self {
        Self { open: AtomicUsize::new(0), max }
    }

    /// The bound.
    pub(crate) const fn max(&self) -> usize {
        self.max
    }

    /// Admits one more connection; none when the process is full.
    pub(crate) fn admit(
        self: &Arc<Self>,
        transport: Transport,
        metrics: &Arc<WorkerMetrics>,
    ) -> Option<Admitted> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            metrics.reject(Reject::Connections);
            return None;
        }
        metrics.connection_opened(transport);
        let (admission, metrics) = (Arc::clone(self), Arc::clone(metrics));
        Some(Admitted { admission, metrics, transport, reason: Cell::new(CloseReason::InternalError) })
    }
}

/// One connection's place. Its drop counts the close, on every path.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    metrics: Arc<WorkerMetrics>,
    transport: Transport,
    reason: Cell<CloseReason>,
}

impl Admitted {
    /// Why the connection ends.
    pub(crate) fn set_reason(&self, reason: CloseReason) {
        self.reason.set(reason);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connection_closed(self.transport, self.reason.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::fixtures::Books;

    fn open(books: &Books) -> (i64, i64) {
        let of = |transport| books.value(&format!("gateway_connections{{transport=\"{transport}\"}}"));
        (of("quic"), of("tcp"))
    }

    fn closes(books: &Books, reason: CloseReason) -> i64 {
        books.value(&format!("gateway_closes_total{{reason=\"{}\",transport=\"tcp\"}}", reason.token()))
    }

    #[test]
    fn g6_the_process_is_full_at_its_bound_and_has_room_again_after_a_close() {
        let books = Books::new();
        let admission = Arc::new(Admission::new(2));
        let first = admission.admit(Transport::Tcp, &books.worker).unwrap();
        let second = admission.admit(Transport::Quic, &books.worker).unwrap();
        for _ in 0..3 {
            assert!(admission.admit(Transport::Tcp, &books.worker).is_none(), "transports share the bound");
        }
        assert_eq!(books.rejects(Reject::Connections), 3);
        assert_eq!(open(&books), (1, 1));
        drop(second);
        assert_eq!(open(&books), (0, 1));
        let third = admission.admit(Transport::Tcp, &books.worker).unwrap();
        assert!(admission.admit(Transport::Tcp, &books.worker).is_none(), "refusals took no place");
        drop((first, third));
        assert_eq!(open(&books), (0, 0));
    }

    #[test]
    fn f10_a_close_without_a_reason_is_the_gateways_own_fault() {
        let books = Books::new();
        let admission = Arc::new(Admission::new(2));
        let crashed = admission.admit(Transport::Tcp, &books.worker).unwrap();
        let orderly = admission.admit(Transport::Tcp, &books.worker).unwrap();
        orderly.set_reason(CloseReason::Kicked);
        orderly.set_reason(CloseReason::Bye);
        drop((crashed, orderly));
        assert_eq!(closes(&books, CloseReason::InternalError), 1);
        assert_eq!((closes(&books, CloseReason::Bye), closes(&books, CloseReason::Kicked)), (1, 0));
    }

    #[test]
    fn workers_share_one_bound() {
        let (one, other) = (Books::new(), Books::new());
        let admission = Arc::new(Admission::new(1));
        let held = admission.admit(Transport::Tcp, &one.worker).unwrap();
        assert!(admission.admit(Transport::Tcp, &other.worker).is_none());
        assert_eq!((one.rejects(Reject::Connections), other.rejects(Reject::Connections)), (0, 1));
        drop(held);
        assert!(admission.admit(Transport::Tcp, &other.worker).is_some());
    }
}
