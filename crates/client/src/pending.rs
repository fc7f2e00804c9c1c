//! Requests in flight: which answer belongs to which request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::answer::Answer;

/// Requests of one client without an answer; further ones wait for a place. Four times what the gateway takes,
/// so that its own limit is the one that is felt.
const MAX_IN_FLIGHT: usize = 1024;

/// The gateway echoes a malformed command only up to this many bytes (protocol §9).
const MAX_ECHO: usize = 256;

/// The table of requests without an answer.
#[derive(Debug)]
pub(super) struct PendingRequests {
    slots: Arc<Semaphore>,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// The sequence to try next; never 0.
    next: u32,
    /// Tells a request from a later one that got its sequence after a wrap.
    tickets: u64,
    waiting: HashMap<u32, Waiter>,
    /// The connection is over: nothing is taken any more.
    ended: bool,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    command: String,
    /// Which byte stream the request went out on.
    stream: usize,
    answer: oneshot::Sender<Answer>,
    _slot: OwnedSemaphorePermit,
}

/// A place taken in the table.
pub(super) struct RequestPlace {
    pub(super) sequence: u32,
    pub(super) ticket: u64,
    pub(super) answer: oneshot::Receiver<Answer>,
}

/// Why a request was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The connection is over.
    Ended,
    /// The sequence the caller chose is in use.
    InUse,
}

impl PendingRequests {
    pub(super) fn new() -> Self {
        let table = Table { next: 1, tickets: 0, waiting: HashMap::new(), ended: false };
        Self { slots: Arc::new(Semaphore::new(MAX_IN_FLIGHT)), table: Mutex::new(table) }
    }

    /// Waits for a place. Cancel safe.
    pub(super) async fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.slots).acquire_owned().await.map_err(|_| Refusal::Ended)
    }

    /// Takes the place of a request that is about to be sent. Sequence 0 asks for the next free one.
    pub(super) fn register(
        &self,
        slot: OwnedSemaphorePermit,
        sequence: u32,
        command: &str,
        stream: usize,
    ) -> Result<RequestPlace, Refusal> {
        let mut table = self.table();
        if table.ended {
            return Err(Refusal::Ended);
        }
        let sequence = if sequence == 0 { table.take_sequence() } else { sequence };
        if table.waiting.contains_key(&sequence) {
            return Err(Refusal::InUse);
        }
        table.tickets += 1;
        let ticket = table.tickets;
        let (sender, answer) = oneshot::channel();
        let waiting = Waiter { ticket, command: command.to_owned(), stream, answer: sender, _slot: slot };
        table.waiting.insert(sequence, waiting);
        Ok(RequestPlace { sequence, ticket, answer })
    }

    /// Gives an answer to its request; false when it matches none by sequence and command.
    pub(super) fn answer(&self, answer: Answer) -> bool {
        let mut table = self.table();
        let sequence = answer.header.sequence;
        let matches = table
            .waiting
            .get(&sequence)
            .is_some_and(|waiting| echoes(&waiting.command, &answer.header.command));
        if !matches {
            return false;
        }
        let waiting = table.waiting.remove(&sequence);
        drop(table);
        waiting.is_some_and(|waiting| waiting.answer.send(answer).is_ok())
    }

    /// Returns `true` if this is the command of a request in flight.
    pub(super) fn expects(&self, sequence: u32, command: &str) -> bool {
        self.table().waiting.get(&sequence).is_some_and(|waiting| waiting.command == command)
    }

    /// Nobody waits for this answer any more.
    pub(super) fn forget(&self, sequence: u32, ticket: u64) {
        let mut table = self.table();
        if table.waiting.get(&sequence).is_some_and(|waiting| waiting.ticket == ticket) {
            table.waiting.remove(&sequence);
        }
    }

    /// A byte stream is over: its requests get no answer.
    pub(super) fn fail_stream(&self, stream: usize) {
        self.table().waiting.retain(|_, waiting| waiting.stream != stream);
    }

    /// The connection is over: no request gets an answer, and none is taken.
    pub(super) fn end(&self) {
        self.slots.close();
        let mut table = self.table();
        table.ended = true;
        table.waiting.clear();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere cannot leave the table half changed: no call in here panics between two changes.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The next sequence that is not in flight; ends because fewer requests are in flight than there are sequences.
    fn take_sequence(&mut self) -> u32 {
        loop {
            let sequence = self.next;
            self.next = self.next.checked_add(1).unwrap_or(1);
            if !self.waiting.contains_key(&sequence) {
                return sequence;
            }
        }
    }
}

fn echoes(command: &str, echo: &str) -> bool {
    command == echo || (command.len() > MAX_ECHO && !echo.is_empty() && command.starts_with(echo))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_wire::pb;

    fn answer(sequence: u32, command: &str) -> Answer {
        let header = pb::Header { sequence, command: command.to_owned(), ..Default::default() };
        Answer::new(header, bytes::Bytes::new())
    }

    async fn register(pending: &PendingRequests, sequence: u32) -> Result<RequestPlace, Refusal> {
        pending.register(pending.slot().await?, sequence, "chat.user.talk", 0)
    }

    #[tokio::test]
    async fn sequences_start_at_one_wrap_without_zero_and_skip_what_is_in_flight() {
        let pending = PendingRequests::new();
        let first = register(&pending, 0).await.unwrap();
        assert_eq!(first.sequence, 1);
        pending.table().next = u32::MAX;
        assert_eq!(register(&pending, 0).await.unwrap().sequence, u32::MAX);
        assert_eq!(register(&pending, 0).await.unwrap().sequence, 2);
        assert_eq!(register(&pending, 1).await.err(), Some(Refusal::InUse));
        drop(first);
    }

    #[tokio::test]
    async fn g1_an_answer_matches_by_sequence_and_command_and_only_once() {
        let pending = PendingRequests::new();
        let mut place = register(&pending, 0).await.unwrap();
        assert!(!pending.answer(answer(place.sequence, "chat.talk.ack")));
        assert!(!pending.answer(answer(place.sequence + 1, "chat.user.talk")));
        assert!(pending.answer(answer(place.sequence, "chat.user.talk")));
        assert!(!pending.answer(answer(place.sequence, "chat.user.talk")));
        assert_eq!(place.answer.try_recv().unwrap().header.sequence, place.sequence);
    }

    #[tokio::test]
    async fn forgetting_an_old_request_leaves_a_newer_one_of_its_sequence_alone() {
        let pending = PendingRequests::new();
        let old = register(&pending, 7).await.unwrap();
        assert!(pending.answer(answer(7, "chat.user.talk")));
        let _new = register(&pending, 7).await.unwrap();
        pending.forget(7, old.ticket);
        assert!(pending.expects(7, "chat.user.talk"));
    }

    #[tokio::test]
    async fn g6_requests_in_flight_are_bounded_and_the_end_frees_all() {
        let pending = PendingRequests::new();
        let mut places = Vec::new();
        for _ in 0..MAX_IN_FLIGHT {
            places.push(register(&pending, 0).await.unwrap());
        }
        assert_eq!(pending.slots.available_permits(), 0);
        pending.end();
        assert!(places.into_iter().all(|mut place| place.answer.try_recv().is_err()));
        assert_eq!(register(&pending, 0).await.err(), Some(Refusal::Ended));
    }
}
