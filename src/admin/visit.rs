//! One visitor of the administrator's API: any number of requests over one connection.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::event_stream::EventStream;
use super::guard::DoorGuard;
use super::request::{AdminAnswer, AdminRequest, Answerer};
use super::stream::AnswerBody;
use crate::console::{self, ConsoleMode};
use crate::limits::{ADMIN_BODY, ADMIN_HEAD, ADMIN_PATIENCE, ADMIN_READERS};

/// Who comes, and through which door.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// For the log.
    pub(super) who: Arc<str>,
    /// Judges each request, by the address it comes from; none where whoever may open the door may ask.
    pub(super) guard: Option<(Arc<DoorGuard>, IpAddr)>,
}

/// Who answers.
pub(super) struct Desk {
    pub(super) answer: Answerer,
    pub(super) stream: EventStream,
}

/// Serves a visitor until it leaves, breaks off, or takes too long for a head.
pub(super) async fn visit(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    visitor: Visitor,
    head_within: Duration,
    desk: Arc<Desk>,
) {
    let answering = service_fn(move |request| {
        let (desk, visitor) = (Arc::clone(&desk), visitor.clone());
        async move { Ok::<_, Infallible>(respond(request, visitor, &desk).await) }
    });
    let visit = http1::Builder::new()
        // Whoever has said all there is to say may close that half, and is answered.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .max_buf_size(ADMIN_HEAD)
        .serve_connection(TokioIo::new(stream), answering);
    // Whoever breaks off gets nothing.
    let _gone = visit.await;
}

async fn respond(request: Request<Incoming>, visitor: Visitor, desk: &Desk) -> Response<AnswerBody> {
    let (head, body) = request.into_parts();
    // The console asks for the token itself, and says nothing before.
    if head.method == Method::GET
        && visitor.guard.is_some()
        && let Some(file) = console::file(head.uri.path(), ConsoleMode::Admin)
    {
        let mut response = file.map(AnswerBody::Whole);
        // Strangers may have it, but not keep a place with it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    if let Some((guard, peer)) = &visitor.guard
        && let Err(unwelcome) = guard.judge(&head.headers, *peer, Instant::now())
    {
        let mut response = page(AdminAnswer::error(unwelcome.status, unwelcome.text));
        // Nothing more of it is read.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        if unwelcome.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        return response;
    }
    if EventStream::is_asked(&head.method, head.uri.path(), &head.headers) {
        return match desk.stream.reader() {
            Some(events) => events_page(events),
            None => page(AdminAnswer::error(
                StatusCode::SERVICE_UNAVAILABLE,
                format_args!("{ADMIN_READERS} look on already; close one of their pages"),
            )),
        };
    }
    let answered = match read(body).await {
        Ok(body) => {
            let answer = Arc::clone(&desk.answer);
            let request = request_of(head, visitor.who, body);
            // A panic has been reported by the panic hook.
            spawn_blocking(move || answer(request)).await.unwrap_or_else(|_| {
                AdminAnswer::error(StatusCode::INTERNAL_SERVER_ERROR, "it panicked. Please report this")
            })
        }
        Err(problem) => AdminAnswer::error(StatusCode::BAD_REQUEST, problem),
    };
    page(answered)
}

fn request_of(head: Parts, who: Arc<str>, body: Value) -> AdminRequest {
    let query = head.uri.query().unwrap_or_default().to_owned();
    AdminRequest { method: head.method, path: head.uri.path().to_owned(), query, who, body }
}

fn events_page(events: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(events);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn page(answer: AdminAnswer) -> Response<AnswerBody> {
    let AdminAnswer { status, body, lines } = answer;
    let (body, kind) = match lines {
        Some(lines) => (AnswerBody::Lines(lines), "application/x-ndjson"),
        None => (AnswerBody::Whole(Full::new(Bytes::from(format!("{body}\n")))), "application/json"),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
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
