//! What a session that lasts tells its program.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use crate::answer::{Login, LoginError};
use crate::connect_error::ConnectError;
use crate::go_away::GoAway;
use crate::options::Transport;
use crate::resilient::tokens::NoToken;
use gateway_wire::close::CloseReason;

/// Events held for a consumer that is busy; the oldest are dropped and counted.
pub(super) const MAX_EVENTS: usize = 64;

/// A connection that has signed in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Online {
    /// Channel and account.
    pub login: Login,
    /// What carries it.
    pub transport: Transport,
    /// Where it goes, `host:port`.
    pub server: String,
    /// Transports that failed before, with `Auto`.
    pub failed: Vec<(Transport, ConnectError)>,
}

/// Something happened to the session.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Signed in, the first time or again. What was pushed meanwhile must be asked for.
    Connected(Arc<Online>),
    /// The gateway will close the connection. Another one is made within the time it gave; requests go on.
    Draining(GoAway),
    /// The connection is over.
    Lost(CloseReason),
    /// The next try.
    Reconnecting {
        /// Since the session was online, from 1.
        attempt: u32,
        /// How long it pauses first.
        after: Duration,
        /// Where it goes, `host:port`.
        server: String,
    },
    /// The account signed in elsewhere. [`Over`](Self::Over) follows: two clients of an account must not push each other
    /// out for ever.
    Kicked,
    /// The session is over for good.
    Over(Arc<End>),
    /// So many events were dropped here because they were not taken in time.
    Missed(u64),
}

/// How a session stands.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Phase {
    /// There is no connection that has signed in; requests wait.
    Away,
    /// Signed in.
    Online(Arc<Online>),
    /// Over for good.
    Over(Arc<End>),
}

/// Why a session is over for good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// The program closed it.
    #[error("closed by this program")]
    Stopped,
    /// The gateway closed it, and it must not come back as it is.
    #[error("the gateway ended the session: {0}")]
    Closed(CloseReason),
    /// No connection came about, the first time or for a reason that lasts.
    #[error(transparent)]
    Connect(ConnectError),
    /// The login failed, the first time or for a reason that lasts.
    #[error(transparent)]
    Login(LoginError),
    /// There is no token.
    #[error(transparent)]
    Token(NoToken),
}

/// The events of a session, from the moment it was started.
#[derive(Debug)]
pub struct Events {
    events: broadcast::Receiver<Event>,
}

impl Events {
    /// The next event, or `None` when the session is over and all were taken. Never holds the session up. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Tells events and the phase.
#[derive(Debug)]
pub(super) struct EventSender {
    events: broadcast::Sender<Event>,
    phase: watch::Sender<Phase>,
}

impl EventSender {
    pub(super) fn new() -> (Self, Events, watch::Receiver<Phase>) {
        let (sender, events) = broadcast::channel(MAX_EVENTS);
        let (phase, phases) = watch::channel(Phase::Away);
        (Self { events: sender, phase }, Events { events }, phases)
    }

    /// Nobody may listen, which is no error.
    pub(super) fn say(&self, event: Event) {
        let phase = match &event {
            Event::Connected(online) => Some(Phase::Online(Arc::clone(online))),
            Event::Lost(_) | Event::Reconnecting { .. } => Some(Phase::Away),
            Event::Over(end) => Some(Phase::Over(Arc::clone(end))),
            Event::Draining(_) | Event::Kicked | Event::Missed(_) => None,
        };
        if let Some(phase) = phase {
            self.phase.send_replace(phase);
        }
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_consumer_that_is_busy_loses_the_oldest_events_and_is_told_how_many() {
        let (event_sender, mut events, phase) = EventSender::new();
        for attempt in 1..=MAX_EVENTS as u32 + 3 {
            event_sender.say(Event::Reconnecting { attempt, after: Duration::ZERO, server: String::new() });
        }
        event_sender.say(Event::Over(Arc::new(End::Stopped)));
        assert!(matches!(*phase.borrow(), Phase::Over(_)), "the phase is up to date all the same");
        assert!(matches!(events.recv().await, Some(Event::Missed(4))));
        assert!(matches!(events.recv().await, Some(Event::Reconnecting { attempt: 5, .. })));
        drop(event_sender);
        let mut last = None;
        while let Some(event) = events.recv().await {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::Over(_))));
    }
}
