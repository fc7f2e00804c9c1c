//! One HTTP request on a connection of its own. What the gateway asks of others is little and far between, so nothing
//! is pooled: a connection that hangs can spoil only the request it was made for.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::limits::HTTP_CONNECT;
use crate::resolve::{ResolveError, Resolver, TcpConnectError};

/// Why there is no answer. No text holds a path, a header or a body.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No whole answer in this time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The name of the host.
    #[error(transparent)]
    Dns(#[from] ResolveError),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// What is there does not speak HTTP, or stopped in the middle.
    #[error("no whole HTTP answer: {0}")]
    Broken(#[from] hyper::Error),
    /// The body does not end, or broke.
    #[error("the body of the answer is broken or too large: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// The settings name a host that cannot be asked. The operator's fault; the caller names the setting.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// No HTTP and no TLS name.
    #[error("{0:?} is no name of a host; allowed is a host name or an IP address")]
    Host(String),
    /// The roots are of no use.
    #[error("TLS cannot use the certificates it is to trust: {0}")]
    Tls(#[from] rustls::Error),
}

/// An answer, whatever its status. Redirects are not followed.
#[derive(Debug)]
pub struct HttpResponse {
    /// 100 to 999.
    pub status: u16,
    /// As they came.
    pub headers: HeaderMap,
    /// Whole, or empty where it was not asked for.
    pub body: Bytes,
}

/// Where requests go. TLS if it has roots.
#[derive(Clone)]
pub struct Endpoint {
    host: String,
    port: u16,
    authority: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    resolver: Resolver,
}

/// An address on which a request is under way. Dropped before the answer is there, whatever the reason, it is tried last
/// the next time: one that takes connections and never answers must not use up every request's time.
struct Trial<'a> {
    endpoint: &'a Endpoint,
    /// None once it has answered.
    address: Option<SocketAddr>,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            self.endpoint.resolver.avoid(&self.endpoint.host, address);
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Requests go to this host, over TLS if `roots` are given: those its certificate may come from.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn new(
        host: &str,
        port: u16,
        roots: Option<&[CertificateDer<'static>]>,
        resolver: Resolver,
    ) -> Result<Self, EndpointError> {
        let no_host = || EndpointError::Host(host.to_owned());
        let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let authority = HeaderValue::from_str(&shown).map_err(|_| no_host())?;
        let tls = match roots {
            None => None,
            Some(roots) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|_| no_host())?;
                let mut store = RootCertStore::empty();
                for root in roots {
                    store.add(root.clone())?;
                }
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let config = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(store)
                    .with_no_client_auth();
                Some((TlsConnector::from(Arc::new(config)), name))
            }
        };
        Ok(Self { host: host.to_owned(), port, authority, tls, resolver })
    }

    /// `host:port`, for people.
    pub fn authority(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }

    /// Sends a request and reads the answer with at most `max_body` bytes of body; with 0 the body is not read, and the
    /// answer is there with its headers. May take `patience` in all, of that [`HTTP_CONNECT`] for the connection.
    ///
    /// Cancel safe: dropped, the connection ends. The other side may have got the request all the same.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
        max_body: usize,
        patience: Duration,
    ) -> Result<HttpResponse, HttpError> {
        let request = Request::builder().method(method).uri(path).header(HOST, &self.authority);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|error| HttpError::Body(error.into()))?;
        let began = Instant::now();
        let stream = self.connect(began, patience.min(HTTP_CONNECT)).await?;
        let mut trial = Trial { endpoint: self, address: stream.peer_addr().ok() };
        let answered = async {
            match &self.tls {
                None => exchange(stream, request, max_body).await,
                Some((connector, name)) => {
                    let stream = connector.connect(name.clone(), stream).await.map_err(HttpError::Connect)?;
                    exchange(stream, request, max_body).await
                }
            }
        };
        let answer =
            timeout_at(began + patience, answered).await.map_err(|_| HttpError::Timeout(patience))??;
        trial.address = None;
        Ok(answer)
    }

    async fn connect(&self, began: Instant, patience: Duration) -> Result<TcpStream, HttpError> {
        let connected = self.resolver.connect(&self.host, self.port, began + patience).await;
        connected.map_err(|error| match error {
            TcpConnectError::Resolve(error) => HttpError::Dns(error),
            TcpConnectError::Io(error) => HttpError::Connect(error),
            TcpConnectError::Timeout => HttpError::Timeout(patience),
        })
    }
}

/// A header whose value is not shown; none for what no header can hold.
pub fn secret_header(name: HeaderName, value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_bytes(value).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
    max_body: usize,
) -> Result<HttpResponse, HttpError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let answer: Response<Incoming> = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = match max_body {
            0 => Bytes::new(),
            limit => Limited::new(body, limit).collect().await.map_err(HttpError::Body)?.to_bytes(),
        };
        Ok(HttpResponse { status: head.status.as_u16(), headers: head.headers, body })
    };
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // Its end is told to the answer as well, which says what it means.
        _ = connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::resolve::testing::{both, silent_and_listening};

    const PATIENCE: Duration = Duration::from_secs(15);

    /// Answers one request on the next connection.
    async fn answer_one(listener: &TcpListener) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
        }
        stream.write_all(b"HTTP/1.1 200 ok\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    }

    #[tokio::test]
    async fn h14_a_host_is_asked_at_its_second_address_when_the_first_is_silent() {
        let (_silent, second) = silent_and_listening();
        let second = TcpListener::from_std(second).unwrap();
        let port = second.local_addr().unwrap().port();
        let endpoint = Endpoint::new("consul", port, None, Resolver::new(|_: &str| Ok(both()))).unwrap();
        let asked = endpoint.send(Method::GET, "/", &[], Vec::new(), 1, Duration::from_secs(2));
        let (answer, ()) = tokio::join!(asked, answer_one(&second));
        assert_eq!(answer.unwrap().status, 200);
    }

    #[tokio::test]
    async fn h14_an_address_that_takes_connections_and_never_answers_is_tried_last_the_next_time() {
        let (silent, second) = silent_and_listening();
        let second = TcpListener::from_std(second).unwrap();
        let port = second.local_addr().unwrap().port();
        drop(silent);
        let mute = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let endpoint = Endpoint::new("consul", port, None, Resolver::new(|_: &str| Ok(both()))).unwrap();
        let asked = |patience| endpoint.send(Method::GET, "/", &[], Vec::new(), 1, patience);
        let (answer, taken) = tokio::join!(asked(Duration::from_millis(300)), mute.accept());
        assert!(matches!(answer, Err(HttpError::Timeout(_))), "{answer:?}");
        let both = async { tokio::join!(asked(PATIENCE), answer_one(&second)) };
        let (answer, ()) = tokio::time::timeout(PATIENCE, both).await.expect("the second is asked");
        assert_eq!(answer.unwrap().status, 200);
        drop(taken);
    }

    /// One request answered with these bytes; what was asked, up to the blank line, and what came of it.
    async fn ask(answer: &'static [u8], max_body: usize) -> (String, Result<HttpResponse, HttpError>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"hello") {
                assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
            }
            stream.write_all(answer).await.unwrap();
            String::from_utf8(seen).unwrap()
        };
        let endpoint = Endpoint::new("127.0.0.1", port, None, Resolver::default()).unwrap();
        let headers = [(HeaderName::from_static("x-a"), HeaderValue::from_static("b"))];
        let asked = endpoint.send(Method::POST, "/p?q=1", &headers, b"hello".to_vec(), max_body, PATIENCE);
        tokio::join!(server, asked)
    }

    #[tokio::test]
    async fn a_request_and_its_answer() {
        let (seen, answer) =
            ask(b"HTTP/1.1 418 teapot\r\nx-index: 7\r\ncontent-length: 3\r\n\r\nabc", 3).await;
        assert!(seen.starts_with("POST /p?q=1 HTTP/1.1\r\nhost: 127.0.0.1:"), "{seen}");
        assert!(seen.contains("\r\nx-a: b\r\n") && seen.contains("\r\ncontent-length: 5\r\n"), "{seen}");
        let answer = answer.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (418, &b"abc"[..]));
        assert_eq!(answer.headers["x-index"], "7");
    }

    #[tokio::test]
    async fn a_body_is_bounded_and_need_not_be_read() {
        let endless = b"HTTP/1.1 200 ok\r\ncontent-length: 1000000\r\n\r\nabc";
        assert_eq!(ask(endless, 0).await.1.unwrap().status, 200);
        assert!(matches!(ask(endless, 100).await.1, Err(HttpError::Body(_))));
        assert!(matches!(ask(b"SSH-2.0-x\r\n", 100).await.1, Err(HttpError::Broken(_))));
    }

    #[tokio::test]
    async fn nobody_there_and_names_that_are_none() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let endpoint = |host: &str, port, roots| Endpoint::new(host, port, roots, Resolver::default());
        let nobody = endpoint("127.0.0.1", free, None).unwrap();
        let answer = nobody.send(Method::GET, "/", &[], Vec::new(), 1, PATIENCE).await;
        assert!(matches!(answer, Err(HttpError::Connect(_))), "{answer:?}");
        assert!(matches!(endpoint("a b\n", 1, None), Err(EndpointError::Host(_))));
        assert!(matches!(endpoint("a b", 1, Some(&[])), Err(EndpointError::Host(_))));
        assert_eq!(endpoint("::1", 80, None).unwrap().authority(), "[::1]:80");
    }
}
