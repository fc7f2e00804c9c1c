//! Who is who in a test: a small CA with the gateway's certificate, and tokens.

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;

use super::soon;

/// Signs every good token of the tests.
pub(crate) const SECRET: &[u8] = b"a secret of the tests, 32 bytes.";

/// The app every account of the tests belongs to.
pub(crate) const APP: &str = "x_im";

/// ALPN of this protocol (protocol §7).
pub(crate) const ALPN: &[u8] = b"x-im/1";

/// ALPN of WebSocket, which begins as HTTP.
pub(crate) const HTTP_ALPN: &[u8] = b"http/1.1";

/// The test CA and what it signed, made once per process.
pub(crate) struct Certificates {
    pub(crate) ca: CertificateDer<'static>,
    pub(crate) server: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    /// Another certificate for the same names, from the same CA.
    pub(crate) fn renewed(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        server(&self.issuer, 0)
    }

    /// The same, valid from this second since 1970 on.
    pub(crate) fn valid_from(&self, second: u64) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        server(&self.issuer, second)
    }
}

fn server(
    issuer: &Issuer<'static, KeyPair>,
    valid_from: u64,
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(valid_from);
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
}

/// See [`Certificates`].
pub(crate) static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(|| {
    let mut ca_params = CertificateParams::new(Vec::new()).unwrap();
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = ca_params.self_signed(&ca_key).unwrap().der().clone();
    let issuer = Issuer::new(ca_params, ca_key);
    let (server, key) = server(&issuer, 0);
    Certificates { ca, server, key, issuer }
});

/// A TLS client configuration that trusts the test CA and offers `alpn`.
pub(crate) fn tls_client(alpn: &[&[u8]]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CERTIFICATES.ca.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    tls
}

/// Takes TLS connections with the certificate of the tests.
pub(crate) fn tls_acceptor() -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CERTIFICATES.server.clone()], CERTIFICATES.key.clone_key())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Shakes hands over a connected socket.
pub(crate) async fn tls_connect(socket: TcpStream, alpn: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls_client(alpn)));
    soon("a TLS handshake", connector.connect("localhost".try_into().unwrap(), socket)).await
}

/// A QUIC client configuration that trusts the test CA and offers `alpn`.
pub(crate) fn quic_client(alpn: &[&[u8]], transport: quinn::TransportConfig) -> quinn::ClientConfig {
    let tls = tls_client(alpn);
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    config
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that are good for an hour.
pub(crate) fn claims(account: &str) -> Value {
    json!({ "acc": account, "app": APP, "exp": now() + 3600 })
}

/// A good token.
pub(crate) fn token(account: &str) -> String {
    signed(&claims(account), Algorithm::HS256, SECRET)
}

/// A token of any claims.
pub(crate) fn signed(claims: &Value, algorithm: Algorithm, secret: &[u8]) -> String {
    signed_with(&Header::new(algorithm), claims, secret)
}

/// A token of any header.
pub(crate) fn signed_with(header: &Header, claims: &Value, secret: &[u8]) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
}
