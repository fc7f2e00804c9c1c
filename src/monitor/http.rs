//! `/health`, `/ready` and `/metrics` over HTTP/1.1, on a thread of their own: load on the workers cannot starve
//! a health check.
//!
//! A connection serves one request and has a few seconds for it, and few are served at once (row F12). There is
//! nothing here that changes the gateway.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::sync::oneshot;

use super::listener::BoundedListener;
use super::metrics::Metrics;
use super::readiness::Readiness;

/// Connections served at once. A health checker and a few scrapers need one each; more wait in the backlog.
const MAX_CONNECTIONS: usize = 32;

/// From accept to the last byte of the response. Prometheus gives up after 10 s by default.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(5);

/// What there is to see, for people and for 404s.
const PAGES: &str = "/health   200 while the process lives
/ready    200 when traffic may be sent here, 503 with the reasons when not
/metrics  counters in Prometheus's text format
";

/// Prometheus's text format.
const METRICS_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The monitor could not be started. All of these are faults of the machine or of the caller.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
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
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    readiness: Arc<Readiness>,
}

impl MonitorServer {
    /// Serves on a listener that is already bound, so that a taken port is the caller's error to report.
    ///
    /// # Errors
    /// [`StartError`] if the machine gives no thread, event queue or usable socket.
    pub fn start(
        listener: TcpListener,
        metrics: Metrics,
        readiness: Arc<Readiness>,
    ) -> Result<Self, StartError> {
        listener.set_nonblocking(true).map_err(StartError::Listener)?;
        let address = listener.local_addr().map_err(StartError::Listener)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(StartError::Listener)?
        };
        let listener = BoundedListener::new(listener, MAX_CONNECTIONS, CONNECTION_DEADLINE);
        let router = router(Shared { metrics, readiness });
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("monitor".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        // Ends never: accept errors are waited out by the listener.
                        _ = axum::serve(listener, router) => {}
                        // Told to stop, or the owner is gone.
                        _ = stopped => {}
                    }
                });
            })
            .map_err(StartError::Thread)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens; with port 0, the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MonitorServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by the panic hook; there is nothing left to end.
            let _ = thread.join();
        }
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/", get(async || format!("gateway {}\n\n{PAGES}", env!("CARGO_PKG_VERSION"))))
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .layer(map_response(close_and_never_cache))
        .with_state(shared)
}

async fn ready(State(shared): State<Shared>) -> Response {
    let verdict = shared.readiness.verdict(Instant::now());
    let status = if verdict.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": verdict.is_ready(), "reasons": verdict.reasons() });
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], format!("{body}\n"))
        .into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], shared.metrics.render()).into_response()
}

async fn not_found(_: Uri) -> Response {
    (StatusCode::NOT_FOUND, format!("no such page; there are:\n\n{PAGES}")).into_response()
}

/// One request per connection: an idle one would hold a place that a health check may need.
async fn close_and_never_cache(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::monitor::metrics::Transport;

    struct Running {
        server: MonitorServer,
        metrics: Metrics,
        readiness: Arc<Readiness>,
    }

    fn start() -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = Metrics::new("gate01", 1, Vec::new());
        let readiness = Arc::new(Readiness::new(1, ["login".to_owned()]));
        let server = MonitorServer::start(listener, metrics.clone(), Arc::clone(&readiness)).unwrap();
        Running { server, metrics, readiness }
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

        assert!(get(address, "/").contains("/ready"));
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
}
