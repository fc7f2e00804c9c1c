//! The wait for an answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::answer::{Answer, RequestError};
use crate::handover::Handover;
use crate::pending::RequestPlace;
use crate::state::ConnectionState;

/// The answer of a request that was sent: a future. Dropped, the answer is not waited for and counts as unmatched.
#[derive(Debug)]
pub struct PendingAnswer {
    sequence: u32,
    ticket: u64,
    answer: oneshot::Receiver<Answer>,
    deadline: Pin<Box<Sleep>>,
    handover: Arc<Handover>,
    state: Arc<ConnectionState>,
}

impl PendingAnswer {
    pub(super) fn new(place: RequestPlace, state: Arc<ConnectionState>, deadline: Instant) -> Self {
        let RequestPlace { sequence, ticket, answer } = place;
        let deadline = Box::pin(sleep_until(deadline));
        Self { sequence, ticket, answer, deadline, handover: Arc::default(), state }
    }

    /// For the writer.
    pub(super) fn handover(&self) -> Arc<Handover> {
        Arc::clone(&self.handover)
    }

    /// Takes the request back; false when it may have been written.
    pub(super) fn withdraw(&self) -> bool {
        self.handover.withdraw()
    }

    /// The sequence the request went out with.
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }
}

impl Future for PendingAnswer {
    type Output = Result<Answer, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.answer).poll(cx) {
            Poll::Ready(Ok(answer)) => return Poll::Ready(Ok(answer)),
            Poll::Ready(Err(_)) => {
                let reason = self.state.close_reason();
                return Poll::Ready(Err(reason.map_or(RequestError::StreamEnded, RequestError::Closed)));
            }
            Poll::Pending => {}
        }
        self.deadline.as_mut().poll(cx).map(|()| Err(RequestError::TimedOut))
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        self.state.pending.forget(self.sequence, self.ticket);
    }
}
