//! The handle a program holds: login, requests, heartbeats, close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::answer::{CallError, Login, LoginError, RequestError};
use crate::go_away::{GO_AWAY_TAG, GoAway};
use crate::options::{Heartbeat, Transport};
use crate::pending::Refusal;
use crate::pending_answer::PendingAnswer;
use crate::requests::Requests;
use crate::state::{CLOSE_FOLLOWS, ConnectionState, Counts};
use crate::stream::{MAX_FRAME, Write};
use gateway_net::limits::KIB;
use gateway_wire::close::CloseReason;
use gateway_wire::dialect::Dialect;
use gateway_wire::frame::{self, Opcode};
use gateway_wire::packet::{AUTO_TAG, BASIC_PING, Encoded, encode_basic, encode_message};
use gateway_wire::{command, pb};

/// Room kept for the header in the largest frame, bytes.
const HEADER_ROOM: usize = 64 * KIB;

/// Largest body of a request, bytes.
pub(super) const MAX_BODY: usize = MAX_FRAME - HEADER_ROOM;

/// The parts of an orderly close, a second at most each: what is queued is written, the peer closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection to a gateway. Clones share it; the last one dropped closes it.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<ClientInner>,
}

#[derive(Debug)]
pub(super) struct ClientInner {
    pub(super) state: Arc<ConnectionState>,
    pub(super) queues: StreamQueues,
    pub(super) login_timeout: Duration,
    pub(super) request_timeout: Duration,
    /// Asks the driver for an orderly close.
    pub(super) stop: Arc<Notify>,
    pub(super) transport: Transport,
    /// It is what got through, and QUIC would have been liked better.
    pub(super) is_auto: AtomicBool,
    #[cfg(feature = "quic")]
    pub(super) connection: Option<quinn::Connection>,
    pub(super) _driver: AbortOnDropHandle<()>,
}

/// The right to queue one request.
pub(super) struct Room {
    slot: OwnedSemaphorePermit,
    place: mpsc::OwnedPermit<Write>,
    stream: usize,
}

/// Which of the client's streams something goes out on. With one stream, and on TCP, all are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientStream {
    /// Stream 0.
    Login,
    /// The second stream.
    Heartbeat,
    /// The third stream.
    Messages,
}

/// The queues towards the writers: one, or one per stream.
#[derive(Debug, Clone)]
pub(super) struct StreamQueues(pub(super) Vec<mpsc::Sender<Write>>);

impl StreamQueues {
    fn index(&self, stream: ClientStream) -> usize {
        if self.0.len() == 1 { 0 } else { stream as usize }
    }

    pub(super) fn of(&self, stream: ClientStream) -> &mpsc::Sender<Write> {
        &self.0[self.index(stream)]
    }
}

impl Client {
    pub(super) fn new(inner: ClientInner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// `Auto` chose the transport; its logins say so.
    #[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
    pub(super) fn set_auto(&self) {
        self.inner.is_auto.store(true, Relaxed);
    }

    /// What the library says of itself when it signs in.
    pub(super) fn own_tags(&self) -> impl Iterator<Item = &'static str> {
        [GO_AWAY_TAG].into_iter().chain(self.inner.is_auto.load(Relaxed).then_some(AUTO_TAG))
    }

    /// Signs in with a token, without isp and zone; the tag `goaway` says that this library understands it, and `auto` that
    /// `Auto` chose the transport. See [`login_with`](Self::login_with), which adds no tag.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login(&self, token: &str) -> Result<Login, LoginError> {
        let tags = self.own_tags().map(str::to_owned).collect();
        self.login_with(pb::LoginReq { token: token.to_owned(), tags, ..Default::default() }).await
    }

    /// Signs in. Not cancel safe: a login that is dropped halfway leaves a connection without use.
    ///
    /// # Errors
    /// [`LoginError`]: refused (the connection then closes by itself), closed, not answered in time.
    pub async fn login_with(&self, request: pb::LoginReq) -> Result<Login, LoginError> {
        let answer = self.send_login(&request).await?.await?;
        if !answer.is_success() {
            return Err(LoginError::Refused { status: answer.status, message: answer.message() });
        }
        self.inner.state.login().cloned().ok_or(LoginError::BadAnswer)
    }

    /// Sends a login and does not wait for its answer: requests may be pipelined behind it.
    ///
    /// # Errors
    /// [`RequestError`] when it cannot be sent.
    pub async fn send_login(&self, request: &pb::LoginReq) -> Result<PendingAnswer, RequestError> {
        let header = pb::Header { command: command::LOGIN_SIGNIN.to_owned(), ..Default::default() };
        self.send_header(ClientStream::Login, header, request.encode_to_vec()).await
    }

    /// Gives the session another token of the same app and account, so that it lasts as long as that one.
    ///
    /// # Errors
    /// [`CallError`]: refused with 105, and nothing changed; with 300, to be tried again later; with 103, by a gateway that
    /// does not know how; or not answered.
    pub async fn renew(&self, token: &str) -> Result<(), CallError> {
        let request = pb::LoginReq { token: token.to_owned(), ..Default::default() };
        let answer = self.request(command::LOGIN_RENEW, "", request.encode_to_vec()).await?;
        if answer.is_success() {
            return Ok(());
        }
        Err(CallError::Refused { status: answer.status, message: answer.message() })
    }

    /// Sends a request with any header on any stream. Sequence 0 is replaced by the next one.
    ///
    /// # Errors
    /// As [`send`](Requests::send), and [`RequestError::SequenceInUse`].
    pub async fn send_header(
        &self,
        stream: ClientStream,
        header: pb::Header,
        body: impl Into<Bytes>,
    ) -> Result<PendingAnswer, RequestError> {
        let inner = &self.inner;
        let body = body.into();
        if body.len() > MAX_BODY {
            return Err(RequestError::TooLarge(body.len()));
        }
        let login = header.command == command::LOGIN_SIGNIN;
        let deadline = Instant::now() + if login { inner.login_timeout } else { inner.request_timeout };
        let room = timeout_at(deadline, self.room(stream)).await.map_err(|_| RequestError::TimedOut)??;
        match self.send_in(room, header, body, deadline) {
            Err(RequestError::StreamEnded) => Err(self.closed_or_ended().await),
            sent => sent,
        }
    }

    /// Waits until one more request can be queued. Cancel safe.
    pub(super) async fn room(&self, stream: ClientStream) -> Result<Room, RequestError> {
        let inner = &self.inner;
        let (Ok(slot), Ok(place)) =
            (inner.state.pending.slot().await, inner.queues.of(stream).clone().reserve_owned().await)
        else {
            return Err(self.closed_or_ended().await);
        };
        Ok(Room { slot, place, stream: inner.queues.index(stream) })
    }

    /// Queues a request. [`RequestError::StreamEnded`] also when the whole connection is over.
    pub(super) fn send_in(
        &self,
        room: Room,
        mut header: pb::Header,
        body: Bytes,
        deadline: Instant,
    ) -> Result<PendingAnswer, RequestError> {
        let state = &self.inner.state;
        let place = match state.pending.register(room.slot, header.sequence, &header.command, room.stream) {
            Ok(place) => place,
            Err(Refusal::InUse) => return Err(RequestError::SequenceInUse(header.sequence)),
            Err(Refusal::Ended) => return Err(RequestError::StreamEnded),
        };
        header.sequence = place.sequence;
        let pending = PendingAnswer::new(place, Arc::clone(state), deadline);
        let frame = encode_message(state.dialect, &header, body);
        room.place.send(Write::Request { frame, handover: pending.handover() });
        Ok(pending)
    }

    /// What a request may wait for its answer.
    pub(super) fn request_timeout(&self) -> Duration {
        self.inner.request_timeout
    }

    /// Waits until the gateway says that it will close this connection; until it does, requests are served. Cancel
    /// safe. Most gateways never say it: wait for it beside other things. It may say so again; then the word whose close is
    /// nearer counts.
    pub async fn going_away(&self) -> GoAway {
        self.going_away_after(None).await
    }

    /// Waits for another word than this one.
    pub(super) async fn going_away_after(&self, known: Option<GoAway>) -> GoAway {
        self.inner.state.going_away(known).await
    }

    /// The `host:port` of the gateway to which [`Self::going_away`] said to go at first; none if it did not say. It is meant for the
    /// same transport.
    pub fn go_to(&self) -> Option<&str> {
        self.inner.state.go_to()
    }

    /// Sends bytes as they stand: for tests of a gateway.
    ///
    /// # Errors
    /// [`RequestError`] when the connection or the stream is over.
    pub async fn send_raw(&self, stream: ClientStream, bytes: impl Into<Bytes>) -> Result<(), RequestError> {
        let frame = Write::Packet(Encoded::whole(bytes.into()));
        match self.inner.queues.of(stream).send(frame).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.closed_or_ended().await),
        }
    }

    /// Sends one heartbeat ([`Heartbeat::Both`]: both) and waits for its pong. Returns the round trip.
    ///
    /// # Errors
    /// [`RequestError`] when no pong comes within the request timeout, or the connection ends.
    pub async fn ping(&self, kind: Heartbeat) -> Result<Duration, RequestError> {
        let inner = &self.inner;
        let start = Instant::now();
        let before = inner.state.counts();
        for frame in heartbeats(kind, inner.state.dialect) {
            self.send_raw(ClientStream::Heartbeat, frame).await?;
        }
        let (frame, basic) = (kind != Heartbeat::Basic, kind != Heartbeat::Frame);
        let pong = inner.state.counted(|counts| {
            (!frame || counts.frame_pongs > before.frame_pongs)
                && (!basic || counts.basic_pongs > before.basic_pongs)
        });
        tokio::select! {
            biased;
            () = pong => Ok(start.elapsed()),
            reason = inner.state.closed() => Err(RequestError::Closed(reason)),
            () = sleep_until(start + inner.request_timeout) => Err(RequestError::TimedOut),
        }
    }

    /// What carries this connection.
    pub fn transport(&self) -> Transport {
        self.inner.transport
    }

    /// The login of this connection, once it succeeded.
    pub fn session(&self) -> Option<&Login> {
        self.inner.state.login()
    }

    /// What happened beside requests and pushes.
    pub fn counts(&self) -> Counts {
        self.inner.state.counts()
    }

    #[cfg(feature = "quic")]
    /// The QUIC connection below, for tests; `None` on TCP.
    pub fn quic(&self) -> Option<&quinn::Connection> {
        self.inner.connection.as_ref()
    }

    /// Waits until the connection is over and says why. Cancel safe. On TCP the end is seen only behind what
    /// arrived before it: it waits for a consumer that does not take its pushes.
    pub async fn closed(&self) -> CloseReason {
        self.inner.state.closed().await
    }

    /// Why the connection is over; `None` while it is not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.inner.state.close_reason()
    }

    /// Ends the session in order: what is queued is written and then `bye`, a close frame on the login stream, in front of
    /// the QUIC close code 0 or the FIN. What does not get through within a second is dropped. Waits at most 3 s.
    /// Answers that are still owed are not waited for. Returns why it ended: `bye`, unless the gateway was faster.
    pub async fn close(&self) -> CloseReason {
        self.inner.stop.notify_one();
        let closed = timeout(CLOSE_TIMEOUT, self.closed()).await;
        closed.unwrap_or_else(|_| {
            self.inner.state.end(CloseReason::Bye);
            CloseReason::Bye
        })
    }

    /// A queue or the table is closed: the reason follows at once if the whole connection is over.
    async fn closed_or_ended(&self) -> RequestError {
        match timeout(CLOSE_FOLLOWS, self.closed()).await {
            Ok(reason) => RequestError::Closed(reason),
            Err(_) => RequestError::StreamEnded,
        }
    }
}

impl Requests for Client {
    type Pending = PendingAnswer;

    /// On the stream for messages, within the request timeout.
    async fn send(
        &self,
        command: &str,
        dest: &str,
        body: impl Into<Bytes> + Send,
    ) -> Result<PendingAnswer, RequestError> {
        let header =
            pb::Header { command: command.to_owned(), dest: dest.to_owned(), ..pb::Header::default() };
        self.send_header(ClientStream::Messages, header, body).await
    }

    fn account(&self) -> Option<String> {
        self.session().map(|login| login.account.clone())
    }
}

/// The frames of a heartbeat.
pub(super) fn heartbeats(kind: Heartbeat, dialect: Dialect) -> impl Iterator<Item = Bytes> {
    let frame = (kind != Heartbeat::Basic).then(|| frame::encode(Opcode::Ping, &[]));
    let basic = (kind != Heartbeat::Frame).then(|| encode_basic(dialect, BASIC_PING));
    frame.into_iter().chain(basic)
}
