//! The handle a program holds of a session that lasts.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::answer::{Answer, Login, NotSent, RequestError};
use crate::handle::MAX_BODY;
use crate::requests::Requests;
use crate::resilient::driver::{DriverArgs, SessionDriver};
use crate::resilient::events::{End, EventSender, Events, Phase};
use crate::resilient::options::ResilientOptions;
use crate::resilient::pushes::{self, ResilientPushes};
use crate::resilient::request_queue::QueuedRequest;
use crate::resilient::state_machine::{Plan, StateMachine};
use crate::resilient::tokens::Tokens;
use gateway_net::rng::Rng;
use gateway_wire::close::CloseReason;
use gateway_wire::pb;

/// Requests without an answer, waiting or under way; then callers wait, or are refused while there is no connection. As many as one connection has in flight.
const MAX_REQUESTS: usize = 1024;

/// Bytes of their bodies: one of the largest.
const MAX_BYTES: usize = MAX_BODY;

/// A session of one account that lasts over any number of connections. Clones share it; the last one dropped ends it.
///
/// * It comes back after every close with a code of 3000–3499, and after a connection that was lost or cut: after a
///   pause with exponential backoff and full jitter ([`Backoff`](crate::Backoff)); after 3000 *draining*, which
///   all clients of a gateway get together, within one second and at another gateway if there is one. After a code
///   of 3500–3999 it does not come back, and says why ([`Event::Over`](crate::Event::Over)); for 3500 and 3507,
///   and when a login is refused with 105, it asks for another token, once.
/// * When the gateway announces that it goes away, the session moves in the first half of the time it was given, at
///   a random moment: it shakes hands elsewhere (first, and once, at the gateway that this one names, if it does) while
///   requests are still served, then lets what is under way be answered, says bye, and signs in there. Requests made meanwhile wait, and are sent there. If it has not found
///   another gateway half a second before the announced close, they wait from then on, so that none is on its way when
///   the close comes.
/// * A request is *handed over* once its bytes may have been written to a connection. Until then it waits, for at most
///   its deadline, and goes out on the next connection, in the order in which it was made. Handed over, it is never
///   sent again: without an answer it ends with an error for which
///   [`RequestError::is_outcome_unknown`] holds. The exception is an answer 300, by which the gateway says that nothing
///   was handed to a service: it is tried again after a pause while its deadline lasts
///   ([`ResilientOptions::retry_refused`]).
#[derive(Debug, Clone)]
pub struct ResilientClient {
    inner: Arc<ResilientClientInner>,
}

#[derive(Debug)]
struct ResilientClientInner {
    options: Arc<ResilientOptions>,
    requests: mpsc::Sender<QueuedRequest>,
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    phase: watch::Receiver<Phase>,
    account: Arc<OnceLock<String>>,
    stop: Arc<Notify>,
    _keeper: AbortOnDropHandle<()>,
}

impl ResilientClient {
    /// Begins a session and returns at once: it connects in the background, for as long as it takes. Must be called on
    /// a tokio runtime.
    pub fn start(options: ResilientOptions, tokens: impl Tokens) -> (Self, ResilientPushes, Events) {
        Self::begin(options, tokens, false, Rng::default())
    }

    /// Begins a session and waits until it has signed in once. Every server is tried once, the first of them first.
    /// Dropped halfway, nothing is left behind.
    ///
    /// # Errors
    /// What the last try failed with: [`End::Connect`], [`End::Login`] or [`End::Token`].
    pub async fn connect(
        options: ResilientOptions,
        tokens: impl Tokens,
    ) -> Result<(Self, ResilientPushes, Events), Arc<End>> {
        let (client, pushes, events) = Self::begin(options, tokens, true, Rng::default());
        let mut phase = client.phase();
        let first = phase.wait_for(|phase| !matches!(phase, Phase::Away)).await.map(|phase| phase.clone());
        match first {
            Ok(Phase::Over(end)) => Err(end),
            _ => Ok((client, pushes, events)),
        }
    }

    pub(super) fn begin(
        options: ResilientOptions,
        tokens: impl Tokens,
        must_begin: bool,
        rng: Rng,
    ) -> (Self, ResilientPushes, Events) {
        let options = Arc::new(options);
        let (event_sender, events, phase) = EventSender::new();
        let (buffer, pushes) = pushes::channel();
        let (requests, queue) = mpsc::channel(MAX_REQUESTS);
        let stop = Arc::new(Notify::new());
        let plan =
            Plan { servers: options.count(), backoff: options.backoff, once: options.once, must_begin };
        let machine = StateMachine::new(plan, rng.clone());
        let account = Arc::default();
        let args = DriverArgs {
            requests: queue,
            stop: Arc::clone(&stop),
            event_sender,
            pushes: buffer,
            account: Arc::clone(&account),
        };
        let driver = SessionDriver::new(Arc::clone(&options), tokens, machine, rng, args);
        let inner = ResilientClientInner {
            options,
            requests,
            places: Arc::new(Semaphore::new(MAX_REQUESTS)),
            bytes: Arc::new(Semaphore::new(MAX_BYTES)),
            phase,
            account,
            stop,
            _keeper: AbortOnDropHandle::new(tokio::spawn(driver.run())),
        };
        (Self { inner: Arc::new(inner) }, pushes, events)
    }

    fn is_full(&self) -> bool {
        self.inner.places.available_permits() == 0 || self.inner.bytes.available_permits() == 0
    }

    async fn room(&self, len: usize) -> Result<[OwnedSemaphorePermit; 2], RequestError> {
        let over = |_| RequestError::NotSent(NotSent::Over);
        let cost = u32::try_from(len.max(1)).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.inner.places).acquire_owned().await.map_err(over)?;
        let bytes = Arc::clone(&self.inner.bytes).acquire_many_owned(cost).await.map_err(over)?;
        Ok([place, bytes])
    }

    /// How the session stands, and every change of it.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.inner.phase.clone()
    }

    /// Waits until the session has signed in, which it may have already.
    ///
    /// # Errors
    /// Why it is over.
    pub async fn online(&self) -> Result<(), Arc<End>> {
        let mut phase = self.phase();
        match phase.wait_for(|phase| !matches!(phase, Phase::Away)).await {
            Ok(phase) => match &*phase {
                Phase::Over(end) => Err(Arc::clone(end)),
                Phase::Away | Phase::Online(_) => Ok(()),
            },
            Err(_) => Err(Arc::new(End::Stopped)),
        }
    }

    /// The login of the connection at hand; `None` while there is none.
    pub fn session(&self) -> Option<Login> {
        match &*self.inner.phase.borrow() {
            Phase::Online(online) => Some(online.login.clone()),
            Phase::Away | Phase::Over(_) => None,
        }
    }

    /// Waits until the session is over for good and says why. Cancel safe.
    pub async fn over(&self) -> Arc<End> {
        let mut phase = self.phase();
        match phase.wait_for(|phase| matches!(phase, Phase::Over(_))).await.map(|phase| phase.clone()) {
            Ok(Phase::Over(end)) => end,
            _ => Arc::new(End::Closed(CloseReason::InternalError)),
        }
    }

    /// Ends the session in order, like [`Client::close`](crate::Client::close). Requests that were not sent
    /// never are.
    pub async fn close(&self) -> Arc<End> {
        self.inner.stop.notify_one();
        self.over().await
    }
}

impl Requests for ResilientClient {
    type Pending = PendingReply;

    /// Fails with [`RequestError::TooLarge`], or with [`RequestError::NotSent`]: too many requests wait, or the session is
    /// over.
    async fn send(
        &self,
        command: &str,
        dest: &str,
        body: impl Into<Bytes> + Send,
    ) -> Result<PendingReply, RequestError> {
        let body = body.into();
        if body.len() > MAX_BODY {
            return Err(RequestError::TooLarge(body.len()));
        }
        let deadline = Instant::now() + self.inner.options.request_deadline;
        let full = RequestError::NotSent(NotSent::QueueFull);
        // With a connection the queue moves, and waiting helps.
        if self.is_full() && matches!(*self.inner.phase.borrow(), Phase::Away) {
            return Err(full);
        }
        let room = timeout_at(deadline, self.room(body.len())).await.map_err(|_| full)??;
        let header =
            pb::Header { command: command.to_owned(), dest: dest.to_owned(), ..pb::Header::default() };
        let (reply, result) = oneshot::channel();
        let queued = QueuedRequest { header, body, deadline, reply, refused: None, refusals: 0, _room: room };
        // As many fit into it as there are places.
        self.inner.requests.try_send(queued).map_err(|_| RequestError::NotSent(NotSent::Over))?;
        Ok(PendingReply(result))
    }

    fn account(&self) -> Option<String> {
        self.inner.account.get().cloned()
    }
}

/// The answer to a request of a session that lasts: a future. It always ends, by the request's deadline and a moment.
#[derive(Debug)]
pub struct PendingReply(oneshot::Receiver<Result<Answer, RequestError>>);

impl Future for PendingReply {
    type Output = Result<Answer, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Without a word it ends when the last handle is dropped, maybe halfway.
        let dropped = |_| Err(RequestError::Closed(CloseReason::Bye));
        Pin::new(&mut self.0).poll(cx).map(|result| result.unwrap_or_else(dropped))
    }
}
