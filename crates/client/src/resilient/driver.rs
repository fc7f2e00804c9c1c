//! The task that keeps a session up: it does what the [`StateMachine`] decides, and carries requests.

use std::future::pending;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::answer::{Answer, Login, NotSent, RequestError};
use crate::connected::Connected;
use crate::go_away::GoAway;
use crate::handle::{Client, ClientStream, Room};
use crate::resilient::doing::{Doing, Done, Made, NotMade};
use crate::resilient::events::{End, Event, EventSender, Online};
use crate::resilient::named_server::NamedServer;
use crate::resilient::options::ResilientOptions;
use crate::resilient::pushes::PushBuffer;
use crate::resilient::renewal::TokenRenewal;
use crate::resilient::request_queue::{QueuedRequest, RequestQueue};
use crate::resilient::retry_policy::{Retry, of_connect, of_login};
use crate::resilient::state_machine::StateMachine;
use crate::resilient::step::{Act, Input, Why};
use crate::resilient::tokens::{Need, NoToken, TOKEN_TIMEOUT, Tokens};
use gateway_net::backoff::Backoff;
use gateway_net::rng::Rng;
use gateway_wire::close::CloseReason;
use gateway_wire::pb::{self, Status};

/// Between an answer 300 and the next try: an instance that comes back is up within seconds.
const REFUSED: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));

/// A request that went out, and what came of it.
struct Outcome {
    ticket: u64,
    queued: QueuedRequest,
    result: Result<Answer, RequestError>,
    /// Nothing of it was written, and nothing will be.
    is_withdrawn: bool,
}

/// What the driver wakes up for.
enum Wake {
    Done(Done),
    /// `None`: no handle is left.
    QueuedRequest(Option<QueuedRequest>),
    Room(Result<Room, RequestError>),
    Outcome(Outcome),
    Closed(CloseReason),
    GoAway(GoAway),
    Alarm,
    Stop,
}

/// See the module. Dropped, it drops its connections.
pub(super) struct SessionDriver<T> {
    options: Arc<ResilientOptions>,
    tokens: Arc<T>,
    renewal: TokenRenewal<T>,
    machine: StateMachine,
    rng: Rng,
    requests: mpsc::Receiver<QueuedRequest>,
    stop: Arc<Notify>,
    queue: RequestQueue,
    under_way: JoinSet<Outcome>,
    /// Signed in.
    current: Option<Client>,
    /// That it goes away, as it said last.
    told: Option<GoAway>,
    named: NamedServer,
    /// Made, and not signed in.
    made: Option<Made>,
    doing: Option<Doing>,
    last_error: Option<End>,
    event_sender: EventSender,
    pushes: PushBuffer,
    account: Arc<OnceLock<String>>,
}

/// What comes from the handle.
pub(super) struct DriverArgs {
    pub(super) requests: mpsc::Receiver<QueuedRequest>,
    pub(super) stop: Arc<Notify>,
    pub(super) event_sender: EventSender,
    pub(super) pushes: PushBuffer,
    pub(super) account: Arc<OnceLock<String>>,
}

impl<T: Tokens> SessionDriver<T> {
    pub(super) fn new(
        options: Arc<ResilientOptions>,
        tokens: T,
        machine: StateMachine,
        rng: Rng,
        args: DriverArgs,
    ) -> Self {
        let DriverArgs { requests, stop, event_sender, pushes, account } = args;
        let tokens = Arc::new(tokens);
        Self {
            renewal: TokenRenewal::new(Arc::clone(&tokens), &options),
            options,
            tokens,
            machine,
            rng,
            requests,
            stop,
            queue: RequestQueue::default(),
            under_way: JoinSet::new(),
            current: None,
            told: None,
            named: NamedServer::default(),
            made: None,
            doing: None,
            last_error: None,
            event_sender,
            pushes,
            account,
        }
    }

    /// Runs until the session is over for good.
    pub(super) async fn run(mut self) {
        self.input(Input::Begin);
        while !self.machine.is_over() {
            if self.machine.awaits_idle() && self.under_way.is_empty() {
                self.input(Input::Idle);
                continue;
            }
            match self.wake().await {
                Wake::Done(done) => self.done(done).await,
                Wake::QueuedRequest(Some(queued)) => self.queue.accept(queued),
                Wake::QueuedRequest(None) | Wake::Stop => self.input(Input::Stop),
                Wake::Room(Ok(room)) => self.send(room),
                Wake::Room(Err(RequestError::Closed(reason))) | Wake::Closed(reason) => {
                    self.closed(reason).await
                }
                Wake::Room(Err(_)) => self.input(Input::Broken),
                Wake::Outcome(outcome) => self.complete_or_retry(outcome),
                Wake::GoAway(told) => {
                    if self.told.replace(told).is_none() {
                        let server = self.options.server(self.machine.server());
                        self.named.note(told, self.current.as_ref(), server);
                    }
                    self.input(Input::GoAway(told));
                }
                Wake::Alarm => {
                    let late = self.queue.expire(Instant::now());
                    late.into_iter().for_each(|queued| queued.give_up(NotSent::TimedOut));
                    self.input(Input::Alarm);
                }
            }
        }
        self.finish().await;
    }

    async fn wake(&mut self) -> Wake {
        let sends = self.machine.may_send() && self.queue.is_ready();
        let alarm = self.machine.alarm().into_iter().chain(self.queue.alarm()).min();
        let (current, known) = (self.current.as_ref(), self.told);
        let doing = async {
            match &mut self.doing {
                Some(doing) => doing.await,
                None => pending().await,
            }
        };
        let (closed, going) = (
            async { if let Some(client) = current { client.closed().await } else { pending().await } },
            async {
                if let Some(client) = current {
                    client.going_away_after(known).await
                } else {
                    pending().await
                }
            },
        );
        let room = async {
            if let Some(client) = current {
                client.room(ClientStream::Messages).await
            } else {
                pending().await
            }
        };
        let renewal = self.renewal.run(current);
        // Leaving, the close is our own.
        let is_watched = !self.machine.is_leaving();
        tokio::select! {
            () = self.stop.notified() => Wake::Stop,
            done = doing => Wake::Done(done),
            queued = self.requests.recv() => Wake::QueuedRequest(queued),
            Some(Ok(outcome)) = self.under_way.join_next() => Wake::Outcome(outcome),
            reason = closed, if is_watched => Wake::Closed(reason),
            told = going => Wake::GoAway(told),
            room = room, if sends => Wake::Room(room),
            () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => Wake::Alarm,
            never = renewal => match never {},
        }
    }

    /// Tells the machine, and does what it says.
    fn input(&mut self, input: Input) {
        for act in self.machine.take(Instant::now(), input) {
            match act {
                Act::Connect { server, renew } => self.connect(server, renew),
                Act::SignIn => self.sign_in(),
                Act::Leave => {
                    // A handshake that is under way was for the move that is not made now.
                    let leave = |client: Client| -> Doing {
                        Box::pin(async move { Done::Left(client.close().await) })
                    };
                    self.doing = self.current.clone().map(leave);
                }
                Act::Draining(told) => self.event_sender.say(Event::Draining(told)),
                Act::Lost(reason) => self.event_sender.say(Event::Lost(reason)),
                Act::Kicked => self.event_sender.say(Event::Kicked),
                Act::Reconnecting { attempt, after, server } => {
                    let server = self.named.next_or(self.options.server(server)).name().to_owned();
                    self.event_sender.say(Event::Reconnecting { attempt, after, server });
                }
                Act::Over(why) => {
                    let end = match why {
                        Why::Stopped => End::Stopped,
                        Why::Closed(reason) => End::Closed(reason),
                        Why::LastError => self.last_error.take().unwrap_or(End::Stopped),
                    };
                    self.last_error = Some(end);
                }
            }
        }
    }

    fn connect(&mut self, server: usize, renew: bool) {
        let named = self.named.begin();
        let (options, tokens) = (Arc::clone(&self.options), Arc::clone(&self.tokens));
        let need = if renew { Need::Renewed } else { Need::Login };
        self.made = None;
        self.doing = Some(Box::pin(async move {
            let late = |_| Err(NoToken::NotNow("it took too long".to_owned()));
            let token = timeout(TOKEN_TIMEOUT, tokens.token(need)).await.unwrap_or_else(late);
            Done::Connected(match token {
                Err(error) => Err(NotMade::Token(error)),
                Ok(token) => match named.as_ref().unwrap_or_else(|| options.server(server)).connect().await {
                    Ok(connected) => Ok(Made { connected, token }),
                    Err(error) => Err(NotMade::Connect(error)),
                },
            })
        }));
    }

    fn sign_in(&mut self) {
        let Some(made) = &self.made else { return };
        let client = made.connected.client.clone();
        let mut request = pb::LoginReq { token: made.token.clone(), ..self.options.login.clone() };
        for own in client.own_tags() {
            if !request.tags.iter().any(|tag| tag == own) {
                request.tags.push(own.to_owned());
            }
        }
        self.doing = Some(Box::pin(async move { Done::SignedIn(client.login_with(request).await) }));
    }

    async fn done(&mut self, done: Done) {
        self.doing = None;
        match done {
            Done::Connected(Ok(made)) => {
                self.made = Some(made);
                self.input(Input::Connected);
            }
            Done::Connected(Err(NotMade::Connect(error))) => {
                let verdict = self.named.judge(of_connect(&error));
                self.last_error = Some(End::Connect(error));
                self.input(Input::ConnectFailed(verdict));
            }
            Done::Connected(Err(NotMade::Token(error))) => {
                self.named.put_back();
                let verdict = if matches!(error, NoToken::Never(_)) { Retry::Never } else { Retry::Again };
                // A token that was refused says more than that there is no other.
                let is_known = matches!(self.last_error, Some(End::Login(_) | End::Closed(_)));
                if verdict != Retry::Never || !is_known {
                    self.last_error = Some(End::Token(error));
                }
                self.input(Input::NoToken(verdict));
            }
            Done::SignedIn(Ok(login)) => self.signed_in(login),
            Done::SignedIn(Err(error)) => {
                self.made = None;
                let verdict = self.named.judge(of_login(&error));
                self.last_error = Some(End::Login(error));
                self.input(Input::SignInFailed(verdict));
            }
            Done::Left(reason) => {
                self.current = None;
                self.collect().await;
                self.input(Input::Left(reason));
            }
        }
    }

    fn signed_in(&mut self, login: Login) {
        let Some(Made { connected: Connected { client, pushes, failed }, token }) = self.made.take() else {
            return;
        };
        self.renewal.begin(&token);
        let transport = client.transport();
        let server = self.named.arrive(self.options.server(self.machine.server())).address(transport);
        self.input(Input::SignedIn);
        self.current = Some(client);
        (self.told, self.last_error) = (None, None);
        let _ = self.account.set(login.account.clone());
        self.pushes.put(pushes);
        self.event_sender.say(Event::Connected(Arc::new(Online { login, transport, server, failed })));
    }

    async fn closed(&mut self, reason: CloseReason) {
        self.current = None;
        self.collect().await;
        self.last_error = Some(End::Closed(reason));
        self.input(Input::Closed(reason));
    }

    /// The connection is over: everything that was under way on it has ended, or ends in this turn.
    async fn collect(&mut self) {
        while let Some(outcome) = self.under_way.join_next().await {
            if let Ok(outcome) = outcome {
                self.complete_or_retry(outcome);
            }
        }
    }

    /// Queues the oldest request on the connection.
    fn send(&mut self, room: Room) {
        let Some(client) = &self.current else { return };
        let Some((ticket, queued)) = self.queue.take() else { return };
        let deadline = queued.deadline.min(Instant::now() + client.request_timeout());
        match client.send_in(room, queued.header.clone(), queued.body.clone(), deadline) {
            Ok(mut answer) => {
                self.under_way.spawn(async move {
                    let result = (&mut answer).await;
                    let is_withdrawn = result.is_err() && answer.withdraw();
                    Outcome { ticket, queued, result, is_withdrawn }
                });
            }
            // Nothing was queued; the end of the connection is seen next.
            Err(_) => self.queue.put_back(ticket, queued),
        }
    }

    /// Ends a request, or lets it wait for another try.
    fn complete_or_retry(&mut self, outcome: Outcome) {
        let Outcome { ticket, mut queued, result, is_withdrawn } = outcome;
        let is_lost = matches!(result, Err(RequestError::StreamEnded));
        match result {
            Ok(answer) if answer.status == Status::SystemException as i32 && self.options.retry_refused => {
                let at = Instant::now() + REFUSED.pause(queued.refusals, &mut self.rng);
                queued.refusals = queued.refusals.saturating_add(1);
                if at < queued.deadline {
                    queued.refused = Some(answer);
                    self.queue.put_off(ticket, queued, at);
                } else {
                    queued.end(Ok(answer));
                }
            }
            // Its time may be over: then it ends with the next alarm, which is at once.
            Err(_) if is_withdrawn => self.queue.put_back(ticket, queued),
            result => queued.end(result),
        }
        if is_lost && self.current.as_ref().is_some_and(|client| client.close_reason().is_none()) {
            self.input(Input::Broken);
        }
    }

    /// Leaves, and tells everyone who waits.
    async fn finish(mut self) {
        (self.doing, self.made) = (None, None);
        if let Some(client) = self.current.take() {
            client.close().await;
        }
        self.collect().await;
        self.requests.close();
        while let Some(queued) = self.requests.recv().await {
            queued.give_up(NotSent::Over);
        }
        self.queue.clear().for_each(|queued| queued.give_up(NotSent::Over));
        let end = self.last_error.take().unwrap_or(End::Stopped);
        self.event_sender.say(Event::Over(Arc::new(end)));
    }
}
