//! One HTTP request on a connection of its own. Questions to Consul are few and long, so nothing is pooled; a
//! connection that hangs can spoil only the question it was made for.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

/// Longest body that is read, bytes: several thousand instances of a service.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// The name of the host.
    #[error("the name {host:?} cannot be resolved: {error}")]
    Dns {
        /// As configured.
        host: String,
        /// What the system said.
        error: io::Error,
    },
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

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Where requests go. TLS if it has roots.
#[derive(Clone)]
pub(super) struct Endpoint {
    host: String,
    port: u16,
    authority: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// The settings name a host that cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndpointError {
    /// No HTTP and no TLS name.
    #[error("discovery.consul.address: {0:?} is no name of a host")]
    Host(String),
    /// The roots are of no use.
    #[error("discovery.consul.ca_file: TLS cannot use it: {0}")]
    Tls(#[from] rustls::Error),
}

impl Endpoint {
    /// Requests go to this host, over TLS if `roots` are given.
    pub(super) fn new(
        host: &str,
        port: u16,
        roots: Option<&[CertificateDer<'static>]>,
    ) -> Result<Self, EndpointError> {
        let no_host = || EndpointError::Host(host.to_owned());
        let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let authority = HeaderValue::from_str(&shown).map_err(|_| no_host())?;
        let tls = match roots {
            None => None,
            Some(roots) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|_| no_host())?;
                let mut store = rustls::RootCertStore::empty();
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
        Ok(Self { host: host.to_owned(), port, authority, tls })
    }

    /// Sends a request and reads the whole answer. Not bounded in time: that is the caller's. Cancel safe: dropped, the
    /// connection ends.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
    ) -> Result<Answer, HttpError> {
        let request = Request::builder().method(method).uri(path).header(HOST, &self.authority);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|error| HttpError::Body(error.into()))?;
        let stream = self.connect().await?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(HttpError::Connect)?;
                exchange(stream, request).await
            }
        }
    }

    /// To the first address that takes it, as a host may have one that leads nowhere.
    async fn connect(&self) -> Result<TcpStream, HttpError> {
        let dns = |error| HttpError::Dns { host: self.host.clone(), error };
        let addresses: Vec<SocketAddr> =
            lookup_host((self.host.as_str(), self.port)).await.map_err(dns)?.collect();
        TcpStream::connect(&addresses[..]).await.map_err(HttpError::Connect)
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<Answer, HttpError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let answer: Response<Incoming> = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(HttpError::Body)?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
    };
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // Its end is told to the answer as well, which says what it means.
        _ = connection => answer.await,
    }
}
