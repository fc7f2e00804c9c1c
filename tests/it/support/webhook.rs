//! [`Webhook`]: a scripted receiver of events that records every post.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::config::{HttpTarget, Secret, Webhook as Config};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::identity::{self, CERTIFICATES};
use super::soon;

/// What a post is answered with, in the order of the posts; behind the last one with 200.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Status(u16),
    /// Never.
    Hang,
    /// The connection ends instead.
    Close,
}

/// A post as it came.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    /// Request line and headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Post {
    /// A field of the body that is text; empty if there is none.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.body[key].as_str().unwrap_or_default()
    }
}

#[derive(Default)]
struct WebhookState {
    posts: Vec<Post>,
    script: VecDeque<Answer>,
}

struct WebhookInner {
    state: Mutex<WebhookState>,
    changed: watch::Sender<()>,
    tls: Option<TlsAcceptor>,
}

/// See the module. Dropping it closes its listener and all connections.
pub(crate) struct Webhook {
    pub(crate) address: SocketAddr,
    shared: Arc<WebhookInner>,
    tasks: JoinSet<()>,
}

/// Connections waiting to be accepted.
const BACKLOG: u32 = 64;

impl Webhook {
    /// Listens on a free port.
    pub(crate) fn start() -> Self {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), false)
    }

    /// The same over TLS, with the certificate of the tests.
    pub(crate) fn start_tls() -> Self {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), true)
    }

    /// Listens where another one listened.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        Self::listen(address, false)
    }

    fn listen(address: SocketAddr, tls: bool) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(BACKLOG).unwrap();
        let address = listener.local_addr().unwrap();
        let tls = tls.then(identity::tls_acceptor);
        let shared = Arc::new(WebhookInner { state: Mutex::default(), changed: watch::channel(()).0, tls });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, tasks }
    }

    /// How a gateway is told about it.
    pub(crate) fn config(&self) -> Config {
        let tls = self.shared.tls.is_some();
        let host = if tls { "localhost".into() } else { self.address.ip().to_string() };
        Config {
            target: HttpTarget {
                tls,
                host,
                port: self.address.port(),
                token: Some(Secret(b"hidden-token".to_vec())),
                roots: if tls { vec![CERTIFICATES.ca.clone()] } else { Vec::new() },
            },
            path: "/hidden/path?and=query".into(),
            timeout: Duration::from_millis(500),
        }
    }

    /// The next posts are answered with these.
    pub(crate) fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.state.lock().unwrap().script.extend(answers);
    }

    /// All posts so far.
    pub(crate) fn posts(&self) -> Vec<Post> {
        self.shared.state.lock().unwrap().posts.clone()
    }

    /// Awaits so many posts; gives all there are then.
    pub(crate) async fn posted(&self, count: usize) -> Vec<Post> {
        self.find(&format!("{count} posts"), |posts| (posts.len() >= count).then(|| posts.to_vec())).await
    }

    /// Awaits an event in a state.
    pub(crate) async fn event(&self, event: &str, state: &str) -> Post {
        let is_it = |post: &&Post| post.text("event") == event && post.text("state") == state;
        self.find(&format!("{event} {state}"), |posts| posts.iter().find(is_it).cloned()).await
    }

    async fn find<T>(&self, what: &str, find: impl Fn(&[Post]) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        soon(what, async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = find(&self.shared.state.lock().unwrap().posts) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        })
        .await
    }

    /// Ends everything; where it listened can be used again.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        soon("the end of a webhook", self.tasks.shutdown()).await;
        self.address
    }
}

async fn accept(listener: TcpListener, shared: Arc<WebhookInner>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            match shared.tls.clone() {
                None => serve(stream, &shared).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => serve(stream, &shared).await,
                    Err(_refused) => {}
                },
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// One post, and its answer.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &WebhookInner) {
    let mut bytes = Vec::new();
    let post = loop {
        if let Some(post) = whole(&bytes) {
            break post;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let answer = {
        let mut state = shared.state.lock().unwrap();
        state.posts.push(post);
        state.script.pop_front().unwrap_or(Answer::Status(200))
    };
    shared.changed.send_replace(());
    match answer {
        Answer::Status(status) => {
            let head = format!("HTTP/1.1 {status} so\r\ncontent-length: 0\r\n\r\n");
            let _gone = stream.write_all(head.as_bytes()).await;
            let _gone = stream.shutdown().await;
        }
        Answer::Hang => std::future::pending().await,
        Answer::Close => {}
    }
}

fn whole(bytes: &[u8]) -> Option<Post> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("its length");
    (body.len() >= length.parse().unwrap()).then(|| Post { head, body: serde_json::from_str(body).unwrap() })
}
