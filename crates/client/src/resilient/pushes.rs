//! The pushes of one connection after the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::pushes::{Push, Pushes};

/// Connections whose pushes wait for a consumer that is behind. The oldest are over, and what was not taken of them can
/// be fetched again; each holds at most 1 MiB, and a stream window more when it has ended.
const MAX_BEHIND: usize = 4;

#[derive(Debug, Default)]
struct SharedBuffer {
    connections: Mutex<Connections>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Connections {
    waiting: VecDeque<Pushes>,
    /// No further one comes.
    is_over: bool,
    /// Nobody takes any.
    is_unwanted: bool,
}

impl SharedBuffer {
    fn connections(&self) -> MutexGuard<'_, Connections> {
        // A panic elsewhere cannot leave it half changed: nothing in here panics between two changes.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pushes of a session, over all its connections, in the order in which they arrived.
///
/// What was pushed while there was no connection is not among them: after every
/// [`Event::Connected`](crate::Event::Connected) ask for what was missed. A consumer that stops taking pushes
/// stops the reading of the stream they come on; one that does not want them drops this, and they are discarded.
#[derive(Debug)]
pub struct ResilientPushes {
    buffer: Arc<SharedBuffer>,
    current: Option<Pushes>,
}

impl ResilientPushes {
    /// The next push, or `None` when the session is over and all that arrived was taken. Cancel safe.
    pub async fn recv(&mut self) -> Option<Push> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(push) = current.recv().await {
                    return Some(push);
                }
                self.current = None;
            }
            let is_over = {
                let mut connections = self.buffer.connections();
                self.current = connections.waiting.pop_front();
                connections.is_over
            };
            if self.current.is_none() {
                if is_over {
                    return None;
                }
                self.buffer.changed.notified().await;
            }
        }
    }
}

impl Drop for ResilientPushes {
    fn drop(&mut self) {
        let mut connections = self.buffer.connections();
        connections.is_unwanted = true;
        connections.waiting.clear();
    }
}

/// The end that gives the pushes of each connection.
#[derive(Debug)]
pub(super) struct PushBuffer(Arc<SharedBuffer>);

impl PushBuffer {
    pub(super) fn put(&self, pushes: Pushes) {
        let mut connections = self.0.connections();
        if connections.is_unwanted {
            return;
        }
        if connections.waiting.len() >= MAX_BEHIND {
            connections.waiting.pop_front();
        }
        connections.waiting.push_back(pushes);
        drop(connections);
        self.0.changed.notify_one();
    }
}

impl Drop for PushBuffer {
    fn drop(&mut self) {
        self.0.connections().is_over = true;
        self.0.changed.notify_one();
    }
}

/// Both ends.
pub(super) fn channel() -> (PushBuffer, ResilientPushes) {
    let buffer = Arc::new(SharedBuffer::default());
    (PushBuffer(Arc::clone(&buffer)), ResilientPushes { buffer, current: None })
}
