//! TLS tickets: a client that comes back is spared the certificate, at whichever gateway has the keys (row C28).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gateway::config::TicketKeys;
use gateway_client::{Client, ConnectOptions, TrustedCa};
use quinn::crypto::rustls::QuicClientConfig;
use rstest::rstest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::harness::TestGateway;
use crate::support::identity::{self, ALPN, CERTIFICATES, HTTP_ALPN};
use crate::support::raw::Kind::{self, QuicMany, Tls, Wss};
use crate::support::raw::{Raw, Target};
use crate::support::{soon, websocket};

/// Looks at certificates, and counts how often it was shown one: with each whole handshake, and with no resumed one.
#[derive(Debug)]
struct CountingVerifier {
    inner: Arc<WebPkiServerVerifier>,
    shown: Arc<AtomicUsize>,
}

impl ServerCertVerifier for CountingVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.shown.fetch_add(1, Ordering::Relaxed);
        self.inner.verify_server_cert(leaf, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A client that keeps tickets from one connection to the next, of each transport.
pub(crate) struct Returning {
    tls: Arc<rustls::ClientConfig>,
    wss: Arc<rustls::ClientConfig>,
    quic: quinn::ClientConfig,
    shown: Arc<AtomicUsize>,
    sign_ins: usize,
}

impl Returning {
    pub(crate) fn new() -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CERTIFICATES.ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let shown = Arc::new(AtomicUsize::new(0));
        let verifier = CountingVerifier { inner, shown: Arc::clone(&shown) };
        let verifier = Arc::new(verifier);
        let config = |alpn| {
            let mut config = identity::tls_client(&[alpn]);
            config.dangerous().set_certificate_verifier(Arc::clone(&verifier) as _);
            Arc::new(config)
        };
        let quic = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config(ALPN)).unwrap()));
        Self { tls: config(ALPN), wss: config(HTTP_ALPN), quic, shown, sign_ins: 0 }
    }

    /// Connects, signs in, and returns `true` if it was spared a whole handshake. Behind an answer the ticket has come.
    pub(crate) async fn comes(&mut self, kind: Kind, target: &Target) -> bool {
        let before = self.shown.load(Ordering::Relaxed);
        self.sign_ins += 1;
        let account = format!("alice{}", self.sign_ins);
        match kind {
            Tls => {
                let mut stream = self.connect(&self.tls, target.tls).await;
                let login =
                    gateway::wire::pb::LoginReq { token: identity::token(&account), ..Default::default() };
                let frame = Raw::connect(Kind::Tcp, target).await.signin_frame(1, &login);
                stream.write_all(&frame).await.unwrap();
                soon("an answer", stream.read_u8()).await.unwrap();
            }
            Wss => websocket::upgrade(&mut self.connect(&self.wss, target.wss).await, "").await,
            _ => {
                let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
                let connecting = endpoint.connect_with(self.quic.clone(), target.quic, "localhost").unwrap();
                let connection = soon("a QUIC connection", connecting).await.unwrap();
                let mut raw = Raw::on(endpoint, connection);
                raw.login(&account).await;
                raw.bye().await;
            }
        }
        self.shown.load(Ordering::Relaxed) == before
    }

    async fn connect(&self, config: &Arc<rustls::ClientConfig>, address: SocketAddr) -> TlsStream<TcpStream> {
        let before = self.shown.load(Ordering::Relaxed);
        let socket = TcpStream::connect(address).await.unwrap();
        let connecting =
            TlsConnector::from(Arc::clone(config)).connect("localhost".try_into().unwrap(), socket);
        let stream = soon("a TLS handshake", connecting).await.unwrap();
        let is_resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        assert_eq!(is_resumed, self.shown.load(Ordering::Relaxed) == before);
        stream
    }
}

async fn gateway(keys: Option<&TicketKeys>) -> TestGateway {
    let keys = keys.cloned();
    TestGateway::with(move |config| config.ticket_keys = keys).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_who_comes_back_is_spared_the_whole_handshake(#[values(Tls, Wss, QuicMany)] kind: Kind) {
    let harness = gateway(None).await;
    let mut client = Returning::new();
    assert!(!client.comes(kind, &harness.target).await);
    for _ in 0..4 {
        assert!(client.comes(kind, &harness.target).await, "each time with the ticket of the last");
    }
    let mut stranger = Returning::new();
    assert!(!stranger.comes(kind, &harness.target).await);
    assert_eq!(harness.metric("gateway_reject_total", &["handshake_failed"]).await, 0.0);
}

#[cfg(target_os = "linux")]
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_any_worker_takes_the_tickets_of_any(#[values(Tls, Wss, QuicMany)] kind: Kind) {
    let harness = TestGateway::with(|config| config.workers = 4).await;
    let mut client = Returning::new();
    client.comes(kind, &harness.target).await;
    for _ in 0..12 {
        assert!(client.comes(kind, &harness.target).await);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_gateways_that_share_keys_take_each_others_tickets_until_the_third_rotation(
    #[values(Tls, Wss, QuicMany)] kind: Kind,
) {
    let mut keys = TicketKeys::generate().unwrap();
    let first = gateway(Some(&keys)).await;
    let mut clients: Vec<_> = (0..4).map(|_| Returning::new()).collect();
    for client in &mut clients {
        assert!(!client.comes(kind, &first.target).await);
    }
    for (rotations, client) in clients.iter_mut().enumerate() {
        let other = gateway(Some(&keys)).await;
        assert_eq!(client.comes(kind, &other.target).await, rotations < 3, "{rotations} rotations");
        assert!(client.comes(kind, &other.target).await, "with a ticket of the new key");
        assert_eq!(other.metric("gateway_reject_total", &["handshake_failed"]).await, 0.0);
        keys = keys.rotated().unwrap();
    }
}

/// Of a gateway that it knows nothing of, under the same name.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_a_ticket_that_cannot_be_opened_costs_a_whole_handshake_and_nothing_else(
    #[values(Tls, Wss, QuicMany)] kind: Kind,
) {
    let (one, other) = (gateway(None).await, gateway(None).await);
    let mut client = Returning::new();
    assert!(!client.comes(kind, &one.target).await);
    assert!(!client.comes(kind, &other.target).await);
    assert_eq!(other.metric("gateway_reject_total", &["handshake_failed"]).await, 0.0);
    assert!(client.comes(kind, &other.target).await);
}

/// A relay that counts what comes from the server; for one connection after the other.
async fn relay(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let bytes = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(to).await.unwrap();
            let ((mut up, mut out), (mut down, mut back)) = (client.into_split(), server.into_split());
            let bytes = Arc::clone(&bytes);
            tokio::spawn(async move { tokio::io::copy(&mut up, &mut back).await });
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(read) = down.read(&mut buffer).await
                    && read > 0
                {
                    bytes.fetch_add(read, Ordering::Relaxed);
                    out.write_all(&buffer[..read]).await.unwrap();
                }
            });
        }
    });
    (address, count)
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_the_client_library_comes_back_with_a_ticket(#[values(Tls, Wss)] kind: Kind) {
    let harness = gateway(None).await;
    let (listens, options): (_, fn(String, TrustedCa) -> ConnectOptions) = match kind {
        Wss => (harness.target.wss, ConnectOptions::wss),
        _ => (harness.target.tls, ConnectOptions::tls),
    };
    let (address, bytes) = relay(listens).await;
    let ca = TrustedCa::from_der([CERTIFICATES.ca.clone()]).unwrap();
    let mut options = options(address.to_string(), ca);
    options.server_name = Some("localhost".into());
    let mut costs = Vec::new();
    for n in 0..3 {
        let before = bytes.load(Ordering::Relaxed);
        let (client, _pushes) = Client::connect(options.clone()).await.unwrap();
        client.login(&identity::token(&format!("bob{n}"))).await.unwrap();
        costs.push(bytes.load(Ordering::Relaxed) - before);
        client.close().await;
    }
    // The certificate of the tests alone has more.
    let spared = CERTIFICATES.server.len();
    assert!(costs[1..].iter().all(|cost| cost + spared < costs[0]), "{costs:?}");
}
