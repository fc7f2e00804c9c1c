//! `/health`, `/ready` and `/metrics` over HTTP/1.1, on a thread of their own: load on the workers cannot starve
//! a health check.
//!
//! A connection serves one request and has a second to ask and a few to read, and few are served at once (rows F12, H21).
//! There is nothing here that changes the gateway.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::metrics::Metrics;
use super::readiness::Readiness;
use super::visitors::{MonitorListener, Place, Visitors};
use crate::console::{self, ConsoleMode};
use crate::limits::{MONITOR_DEADLINE, MONITOR_HEAD, MONITOR_HEAD_DEADLINE};
use crate::owned_thread::OwnedThread;

/// What there is to see, for people and for 404s.
const PAGES: &str = "/         a page with the same numbers, drawn
/health   200 while the process lives
/ready    200 when traffic may be sent here, 503 with the reasons when not
/metrics  counters in Prometheus's text format
";

/// What the page asks for each second.
const SNAPSHOT: &str = "/snapshot";

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Prometheus's text format.
const METRICS_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The monitor could not be started. All of these are faults of the machine or of the caller.
#[derive(Debug, thiserror::Error)]
pub enum MonitorStartError {
    /// The listener that was handed over is of no use.
    #[error("monitor.listen: the socket cannot be used: {0}")]
    Listener(io::Error),
    /// No thread or event queue could be had.
    #[error("monitor: no thread of its own could be started: {0}")]
    Thread(io::Error),
}

/// Owns the monitor's thread. Dropping it stops the server and waits for the thread.
#[derive(Debug)]
pub struct MonitorServer {
    address: SocketAddr,
    _thread: OwnedThread,
}

/// What is shown.
pub(crate) struct Shown {
    metrics: Metrics,
    readiness: Arc<Readiness>,
}

impl Shown {
    pub(crate) const fn new(metrics: Metrics, readiness: Arc<Readiness>) -> Self {
        Self { metrics, readiness }
    }

    /// As JSON.
    fn snapshot(&self) -> String {
        let snapshot = self.metrics.snapshot(&self.readiness, Instant::now());
        serde_json::to_string(&snapshot)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string())
    }
}

impl MonitorServer {
    /// Serves on a listener that is already bound, so that a taken port is the caller's error to report.
    ///
    /// # Errors
    /// [`MonitorStartError`] if the machine gives no thread, event queue or usable socket.
    pub fn start(
        listener: TcpListener,
        metrics: Metrics,
        readiness: Arc<Readiness>,
    ) -> Result<Self, MonitorStartError> {
        listener.set_nonblocking(true).map_err(MonitorStartError::Listener)?;
        let address = listener.local_addr().map_err(MonitorStartError::Listener)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(MonitorStartError::Thread)?;
        let listener = {
            let _entered = runtime.enter();
            MonitorListener::new(listener).map_err(MonitorStartError::Listener)?
        };
        let shown = Arc::new(Shown::new(metrics, readiness));
        let thread = OwnedThread::start("monitor", move |stopped| {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, shown) => {}
                    // Told to stop, or the owner is gone.
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, _thread: thread.map_err(MonitorStartError::Thread)? })
    }

    /// Where it listens; with port 0, the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Ends never: errors are waited out by the listener.
async fn serve(listener: MonitorListener, shown: Arc<Shown>) {
    let visitors = Visitors::new();
    let mut tasks = JoinSet::new();
    for number in 0.. {
        let stream = listener.accept().await;
        // A panic of one has been reported by the panic hook, and ended nothing else.
        while tasks.try_join_next().is_some() {}
        let (place, shown, spare) = (visitors.place(number), Arc::clone(&shown), listener.spare());
        let task = tasks.spawn(async move {
            visit(stream, place, &shown).await;
            spare.refill();
        });
        visitors.is_served(number, task);
    }
}

/// One request: an idle connection would hold a place that a health check may need.
pub(crate) async fn visit(stream: impl AsyncRead + AsyncWrite + Unpin, place: Place, shown: &Shown) {
    let answering = service_fn(async |request| Ok::<_, Infallible>(answer(&request, &place, shown)));
    let visit = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(MONITOR_HEAD_DEADLINE)
        .keep_alive(false)
        .max_buf_size(MONITOR_HEAD)
        .serve_connection(TokioIo::new(stream), answering);
    // Whoever breaks off, or takes too long, gets nothing.
    let _gone = timeout(MONITOR_DEADLINE, visit).await;
}

fn answer(request: &Request<Incoming>, place: &Place, shown: &Shown) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/health" => page(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/ready" => ready(&shown.readiness),
        "/metrics" if place.stays() => page(StatusCode::OK, METRICS_TYPE, shown.metrics.render()),
        "/metrics" => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many read this at once\n".to_owned()),
        SNAPSHOT => page(StatusCode::OK, JSON, shown.snapshot()),
        path => console::file(path, ConsoleMode::Monitor).unwrap_or_else(|| {
            page(StatusCode::NOT_FOUND, TEXT, format!("no such page; there are:\n\n{PAGES}"))
        }),
    }
}

fn ready(readiness: &Readiness) -> Response<Full<Bytes>> {
    let verdict = readiness.verdict(Instant::now());
    let status = if verdict.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": verdict.is_ready(), "reasons": verdict.reasons() });
    page(status, JSON, format!("{body}\n"))
}

fn page(status: StatusCode, of: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::new(Bytes::from(body)));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, of);
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::monitor::metrics::Transport;

    struct RunningMonitor {
        server: MonitorServer,
        metrics: Metrics,
        readiness: Arc<Readiness>,
    }

    fn start() -> RunningMonitor {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = Metrics::new("gate01", 1, Vec::new());
        let readiness = Arc::new(Readiness::new(1, ["login".to_owned()]));
        let server = MonitorServer::start(listener, metrics.clone(), Arc::clone(&readiness)).unwrap();
        RunningMonitor { server, metrics, readiness }
    }

    /// The whole response to one request; the server closes behind it.
    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    #[test]
    fn health_readiness_metrics_and_the_way_to_them() {
        let running = start();
        let address = running.server.address();
        assert!(get(address, "/health").starts_with("HTTP/1.1 200 "));

        let response = get(address, "/ready");
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["ready"], false);
        assert_eq!(body["reasons"].as_array().unwrap().len(), 2);

        running.readiness.worker_started(0);
        running.readiness.service_linked(0, "login");
        let response = get(address, "/ready");
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert!(response.ends_with("{\"ready\":true,\"reasons\":[]}\n"), "{response}");

        running.metrics.worker(0).connection_opened(Transport::Tcp);
        let response = get(address, "/metrics");
        assert!(response.contains("text/plain; version=0.0.4"), "{response}");
        assert!(response.contains("\ngateway_connections{transport=\"tcp\"} 1\n"), "{response}");

        let page = get(address, "/");
        assert!(
            page.contains("content-security-policy: default-src 'none'") && page.contains("monitor"),
            "{page}"
        );
        let response = get(address, "/snapshot");
        assert!(response.contains("\"ready\":true") && response.contains("\"by_transport\":{"), "{response}");
        let response = get(address, "/metric");
        assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
        assert!(response.contains("/metrics"), "a 404 says what there is");
    }

    #[test]
    fn f12_an_endless_url_is_refused() {
        let running = start();
        let mut stream = TcpStream::connect(running.server.address()).unwrap();
        let _ = stream.write_all(b"GET /");
        let chunk = [b'a'; 64 * 1024];
        // 10 MB, unless the server hangs up before: both are fine, an accepted request would not be.
        for _ in 0..160 {
            if stream.write_all(&chunk).is_err() {
                break;
            }
        }
        let _ = stream.write_all(b" HTTP/1.1\r\nhost: test\r\n\r\n");
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        let response = String::from_utf8_lossy(&response);
        assert!(response.is_empty() || response.starts_with("HTTP/1.1 4"), "{response}");
        assert!(get(running.server.address(), "/health").starts_with("HTTP/1.1 200 "));
    }

    #[test]
    fn dropping_the_owner_frees_the_port_even_with_clients_connected() {
        let running = start();
        let address = running.server.address();
        let _idle = TcpStream::connect(address).unwrap();
        drop(running);
        assert!(TcpStream::connect(address).is_err());
    }

    /// How many of these connections the server has ended.
    fn ended(streams: &[TcpStream]) -> usize {
        let is_over = |mut stream: &TcpStream| {
            stream.set_nonblocking(true).unwrap();
            let read = stream.read(&mut [0]);
            read.is_ok() || read.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
        };
        streams.iter().filter(|stream| is_over(stream)).count()
    }

    #[test]
    fn h21_f12_silent_connections_delay_no_health_check_and_end_after_a_second() {
        let running = start();
        let address = running.server.address();
        // More than there are places, and some that began to ask.
        let silent: Vec<_> = (0..128)
            .map(|n| {
                let mut stream = TcpStream::connect(address).unwrap();
                if n % 2 == 0 {
                    stream.write_all(b"GET /health HT").unwrap();
                }
                stream
            })
            .collect();
        let since = Instant::now();
        for page in ["/health", "/ready", "/health"] {
            assert!(get(address, page).starts_with("HTTP/1.1 "));
        }
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        assert!(ended(&silent) >= 128 - 16, "those that were there longest made room");
        let since = Instant::now();
        while ended(&silent) < silent.len() {
            assert!(since.elapsed() < MONITOR_DEADLINE, "{} of {}", ended(&silent), silent.len());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn only_what_reads_is_answered() {
        let running = start();
        let mut stream = TcpStream::connect(running.server.address()).unwrap();
        write!(stream, "POST /health HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 405 ") && response.contains("GET, HEAD"), "{response}");
    }
}
