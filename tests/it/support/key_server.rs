//! [`KeyServer`]: an identity service that publishes the keys of tokens, and signs with them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway::config::{HttpTarget, JwksUrl};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::identity::{self, CERTIFICATES};
use super::soon;

/// A key of an identity service.
pub(crate) struct IssuerKey {
    pub(crate) id: &'static str,
    pair: KeyPair,
}

impl IssuerKey {
    pub(crate) fn new(id: &'static str) -> Self {
        Self { id, pair: KeyPair::generate_for(&PKCS_ED25519).unwrap() }
    }

    /// Its public half as it is published.
    pub(crate) fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key_raw());
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.id, "x": x })
    }

    /// A token that names it.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::EdDSA) };
        let key = EncodingKey::from_ed_pem(self.pair.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }
}

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) enum KeyAnswer {
    /// This set.
    Keys(Value),
    /// This status and body.
    Raw(u16, Vec<u8>),
    /// Nothing, ever.
    Hang,
    /// The end of the connection.
    Close,
}

struct KeyServerState {
    answer: Mutex<KeyAnswer>,
    asked: watch::Sender<usize>,
    tls: Option<TlsAcceptor>,
}

/// See the module.
pub(crate) struct KeyServer {
    address: SocketAddr,
    state: Arc<KeyServerState>,
    _tasks: JoinSet<()>,
}

impl KeyServer {
    /// Listens on a free port, over TLS with the certificate of the tests or without.
    pub(crate) async fn start(tls: bool, answer: KeyAnswer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = tls.then(identity::tls_acceptor);
        let state = Arc::new(KeyServerState { answer: Mutex::new(answer), asked: watch::channel(0).0, tls });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    /// How a gateway is told about it.
    pub(crate) fn url(&self) -> JwksUrl {
        let tls = self.state.tls.is_some();
        let roots = if tls { vec![CERTIFICATES.ca.clone()] } else { Vec::new() };
        let host = if tls { "localhost" } else { "127.0.0.1" };
        let target = HttpTarget { tls, roots, ..HttpTarget::plain(host, self.address.port()) };
        JwksUrl { target, path: "/keys".into() }
    }

    pub(crate) fn answers(&self, answer: KeyAnswer) {
        *self.state.answer.lock().unwrap() = answer;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        *self.state.asked.borrow()
    }

    /// Waits until it was asked so often.
    pub(crate) async fn asked_times(&self, times: usize) {
        let mut asked = self.state.asked.subscribe();
        soon("a fetch", asked.wait_for(|asked| *asked >= times)).await.unwrap();
    }
}

/// The document of these keys.
pub(crate) fn published(keys: &[&IssuerKey]) -> KeyAnswer {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    KeyAnswer::Keys(json!({ "keys": keys }))
}

async fn accept(listener: TcpListener, state: Arc<KeyServerState>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            match &state.tls {
                None => serve(stream, &state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, &state).await;
                    }
                }
            }
        });
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &KeyServerState) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut seen).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    assert!(seen.starts_with(b"GET /keys HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&seen));
    let answer = state.answer.lock().unwrap().clone();
    state.asked.send_modify(|asked| *asked += 1);
    let (status, body) = match answer {
        KeyAnswer::Keys(document) => (200, document.to_string().into_bytes()),
        KeyAnswer::Raw(status, body) => (status, body),
        KeyAnswer::Hang => return std::future::pending().await,
        KeyAnswer::Close => return,
    };
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\ncache-control: max-age=3600\r\nlocation: /other\r\n\r\n",
        body.len()
    );
    let _gone = stream.write_all(head.as_bytes()).await;
    let _gone = stream.write_all(&body).await;
    let _gone = stream.shutdown().await;
}
