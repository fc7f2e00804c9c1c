//! The administrator's side door: HTTP/1.1 with JSON over a Unix socket that only the gateway's user may open. It is a
//! thread of its own; what is asked there may take as long as it takes, and nobody else waits for it.

mod error;
pub(crate) mod listing;
pub(crate) mod mailbox;
pub(crate) mod model;
pub(crate) mod orders;
pub(crate) mod query;
mod socket;
mod stream;

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

pub(crate) use self::error::AdminStartError;
use self::socket::BoundSocket;
use self::stream::AnswerBody;
pub(crate) use self::stream::LineStream;
use crate::limits::{ACCEPT_PAUSE, ADMIN_BODY, ADMIN_HEAD, ADMIN_PATIENCE, ADMIN_VISITORS};
use crate::owned_thread::OwnedThread;

/// What somebody asks for.
#[derive(Debug)]
pub(crate) struct AdminRequest {
    pub(crate) method: Method,
    /// Without the query.
    pub(crate) path: String,
    /// Without the question mark; empty where there is none.
    pub(crate) query: String,
    /// The way in and who came by it, for the log.
    pub(crate) who: Arc<str>,
    /// [`Value::Null`] where there was no body.
    pub(crate) body: Value,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct AdminAnswer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    /// Goes out in place of the body.
    pub(crate) lines: Option<LineStream>,
}

impl AdminAnswer {
    /// It went well.
    pub(crate) const fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body, lines: None }
    }

    /// It goes well for as long as lines come.
    pub(crate) const fn stream(lines: LineStream) -> Self {
        Self { status: StatusCode::OK, body: Value::Null, lines: Some(lines) }
    }

    /// It did not.
    pub(crate) fn error(status: StatusCode, error: impl fmt::Display) -> Self {
        Self { status, body: json!({ "error": error.to_string() }), lines: None }
    }
}

/// Answers requests, on a thread that may block.
pub(crate) type Answerer = Arc<dyn Fn(AdminRequest) -> AdminAnswer + Send + Sync>;

/// Owns the thread and the file of the socket. Dropping it ends both.
#[derive(Debug)]
pub(crate) struct AdminServer {
    // Ends before the file goes.
    _thread: OwnedThread,
    _socket: BoundSocket,
}

impl AdminServer {
    /// Listens there.
    ///
    /// # Errors
    /// [`AdminStartError`].
    pub(crate) fn start(path: &Path, answer: Answerer) -> Result<Self, AdminStartError> {
        let (socket, listener) = BoundSocket::bind(path)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AdminStartError::Thread)?;
        let listener = {
            let _entered = runtime.enter();
            UnixListener::from_std(listener).map_err(AdminStartError::Thread)?
        };
        let thread = OwnedThread::start("admin", move |stopped| {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, answer) => {}
                    _owner_is_gone = stopped => {}
                }
            });
            // What still blocks in it is left behind.
            runtime.shutdown_background();
        })
        .map_err(AdminStartError::Thread)?;
        Ok(Self { _thread: thread, _socket: socket })
    }
}

/// Ends never.
async fn serve(listener: UnixListener, answer: Answerer) {
    let places = Arc::new(Semaphore::new(ADMIN_VISITORS));
    let mut visits = JoinSet::new();
    loop {
        while visits.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = Arc::clone(&answer);
                visits.spawn(async move {
                    visit(stream, answer).await;
                    drop(place);
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE.1).await,
        }
    }
}

/// Any number of requests, one after the other, for a while.
async fn visit(stream: UnixStream, answer: Answerer) {
    // The gateway's user and root may open the socket: which of them it was.
    let who: Arc<str> = match stream.peer_cred() {
        Ok(peer) => format!("socket, uid {}", peer.uid()).into(),
        Err(_) => "socket".into(),
    };
    let answering = service_fn(move |request| {
        let (answer, who) = (Arc::clone(&answer), Arc::clone(&who));
        async move { Ok::<_, Infallible>(respond(request, who, answer).await) }
    });
    let visit = http1::Builder::new()
        // Whoever has said all there is to say may close that half, and is answered.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_PATIENCE)
        .max_buf_size(ADMIN_HEAD)
        .serve_connection(TokioIo::new(stream), answering);
    // Whoever breaks off gets nothing.
    let _gone = visit.await;
}

async fn respond(request: Request<Incoming>, who: Arc<str>, answer: Answerer) -> Response<AnswerBody> {
    let (head, body) = request.into_parts();
    let AdminAnswer { status, body, lines } = match read(body).await {
        Ok(body) => {
            let query = head.uri.query().unwrap_or_default().to_owned();
            let request =
                AdminRequest { method: head.method, path: head.uri.path().to_owned(), query, who, body };
            // A panic has been reported by the panic hook.
            spawn_blocking(move || answer(request)).await.unwrap_or_else(|_| {
                AdminAnswer::error(StatusCode::INTERNAL_SERVER_ERROR, "it panicked. Please report this")
            })
        }
        Err(problem) => AdminAnswer::error(StatusCode::BAD_REQUEST, problem),
    };
    let (body, kind) = match lines {
        Some(lines) => (AnswerBody::Lines(lines), "application/x-ndjson"),
        None => (AnswerBody::Whole(Full::new(Bytes::from(format!("{body}\n")))), "application/json"),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The JSON of a body; null where there is none.
async fn read(body: Incoming) -> Result<Value, &'static str> {
    let reading = timeout(ADMIN_PATIENCE, Limited::new(body, ADMIN_BODY).collect());
    let body = reading.await.map_err(|_| "the body did not come in time")?;
    let body = body.map_err(|_| "the body is too large, or broke off")?.to_bytes();
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|_| "the body is not JSON")
}

#[cfg(test)]
mod tests;
