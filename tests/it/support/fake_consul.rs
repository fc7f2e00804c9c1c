//! A scripted Consul agent: what a real one does, and on request what a real one will not do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::soon;

/// How it treats requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConsulMood {
    /// Answers.
    Well,
    /// Closes every connection without an answer.
    Closing,
    /// 200, and a body that is no JSON.
    Garbage,
    /// 200 and a good body without an index.
    NoIndex,
    /// This status.
    Status(u16),
    /// Reads and never answers.
    Hanging,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    /// Method and path: `GET /v1/…`.
    pub(crate) what: String,
    pub(crate) token: Option<String>,
    pub(crate) body: Value,
}

#[derive(Debug)]
struct FakeConsulState {
    mood: ConsulMood,
    /// Only requests whose path has this are treated so.
    moody: &'static str,
    /// Entries by service, with the index of their last change.
    services: BTreeMap<String, (u64, Vec<Value>)>,
    index: u64,
    registered: BTreeMap<String, Value>,
    asked: Vec<Asked>,
}

/// See the module.
pub(crate) struct FakeConsul {
    pub(crate) address: SocketAddr,
    shared: Arc<FakeConsulInner>,
    _tasks: JoinSet<()>,
}

struct FakeConsulInner {
    state: Mutex<FakeConsulState>,
    changed: watch::Sender<()>,
}

/// An entry of the health endpoint.
pub(crate) fn entry(service: &str, id: &str, address: SocketAddr, meta: &Value) -> Value {
    json!({
        "Node": { "Node": "n1", "Address": "10.255.255.1" },
        "Service": {
            "ID": id, "Service": service, "Address": address.ip().to_string(), "Port": address.port(), "Meta": meta,
            "CreateIndex": 1, "ModifyIndex": 1
        },
        "Checks": [{ "Status": "passing" }]
    })
}

impl FakeConsul {
    /// One that listens on any port and knows nothing.
    pub(crate) async fn start() -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), None).await
    }

    /// One that listens there, with TLS if an acceptor is given.
    pub(crate) async fn start_on(address: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = FakeConsulState {
            mood: ConsulMood::Well,
            moody: "",
            services: BTreeMap::new(),
            index: 10,
            registered: BTreeMap::new(),
            asked: Vec::new(),
        };
        let shared = Arc::new(FakeConsulInner { state: Mutex::new(state), changed: watch::Sender::new(()) });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { address, shared, _tasks: tasks }
    }

    fn change<T>(&self, change: impl FnOnce(&mut FakeConsulState) -> T) -> T {
        let outcome = change(&mut self.shared.state.lock().unwrap());
        self.shared.changed.send_replace(());
        outcome
    }

    /// From now on it treats everyone so, those who wait included.
    pub(crate) fn mood(&self, mood: ConsulMood) {
        self.mood_for("", mood);
    }

    /// The same, only for requests whose path has this part.
    pub(crate) fn mood_for(&self, part: &'static str, mood: ConsulMood) {
        self.change(|state| (state.mood, state.moody) = (mood, part));
    }

    /// The passing instances of a service in `zone_a` are these from now on.
    pub(crate) fn instances(&self, service: &str, instances: &[(&str, SocketAddr)]) {
        let meta = json!({ "zone": "zone_a", "protocol": "tcp" });
        let entries =
            instances.iter().map(|(id, address)| entry(service, id, *address, &meta)).collect::<Vec<_>>();
        self.entries(service, entries);
    }

    /// The same with entries as they are.
    pub(crate) fn entries(&self, service: &str, entries: Vec<Value>) {
        self.change(|state| {
            state.index += 1;
            state.services.insert(service.to_owned(), (state.index, entries));
        });
    }

    /// Begins to count from here, with no change of what it lists.
    pub(crate) fn index_is(&self, index: u64) {
        self.change(|state| {
            state.index = index;
            for (of, _) in state.services.values_mut() {
                *of = index;
            }
        });
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.state.lock().unwrap().asked.clone()
    }

    /// What is registered under an id.
    pub(crate) fn registered(&self, id: &str) -> Option<Value> {
        self.shared.state.lock().unwrap().registered.get(id).cloned()
    }

    /// An agent that lost its data.
    pub(crate) fn forget_registrations(&self) {
        self.change(|state| state.registered.clear());
    }

    /// Awaits the request number `n`, from 0, that begins so.
    pub(crate) async fn request(&self, what: &str, n: usize) -> Asked {
        let mut changed = self.shared.changed.subscribe();
        soon(format!("request {n} {what}"), async {
            loop {
                let asked = self.asked();
                if let Some(asked) = asked.into_iter().filter(|asked| asked.what.starts_with(what)).nth(n) {
                    return asked;
                }
                changed.changed().await.unwrap();
            }
        })
        .await
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<FakeConsulInner>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        match tls.clone() {
            None => connections.spawn(async move { serve(stream, &shared).await.unwrap_or_default() }),
            Some(tls) => connections.spawn(async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                serve(stream, &shared).await.unwrap_or_default();
            }),
        };
    }
}

/// One request and its answer; none if the client left.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &FakeConsulInner) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.to_owned()))
    };
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    let what = head.rsplit_once(" HTTP/1.1\r\n").map_or("", |(what, _)| what);
    let what = what.lines().next().unwrap_or_default().to_owned();
    let what = if what.is_empty() { head.lines().next()?.replace(" HTTP/1.1", "") } else { what };
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    let asked = Asked { at: Instant::now(), what: what.clone(), token: header("x-consul-token"), body };
    let mut changed = shared.changed.subscribe();
    shared.state.lock().unwrap().asked.push(asked.clone());
    shared.changed.send_replace(());
    let patience = parameter(&what, "wait").map(|wait| wait.trim_end_matches("ms").parse().unwrap());
    let end = tokio::time::Instant::now() + Duration::from_millis(patience.unwrap_or(0));
    loop {
        let over = tokio::time::Instant::now() >= end;
        // Not held over the await: the lock is no asynchronous one.
        let answer = shared.state.lock().unwrap().answer(&asked, over);
        if let Some(answer) = answer {
            stream.write_all(answer.as_bytes()).await.ok()?;
            return stream.shutdown().await.ok();
        }
        let hangs = shared.state.lock().unwrap().treats(&what) == ConsulMood::Hanging;
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep_until(end), if !hangs && !over => {}
            gone = stream.read_u8() => { gone.ok()?; }
        }
    }
}

fn parameter<'a>(what: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = what.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn http(status: u16, index: Option<u64>, body: &str) -> String {
    let index = index.map_or(String::new(), |index| format!("X-Consul-Index: {index}\r\n"));
    format!(
        "HTTP/1.1 {status} Some\r\n{index}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

impl FakeConsulState {
    fn treats(&self, what: &str) -> ConsulMood {
        if what.contains(self.moody) { self.mood } else { ConsulMood::Well }
    }

    /// The answer, empty to close; none while there is none yet.
    fn answer(&mut self, asked: &Asked, over: bool) -> Option<String> {
        let mood = self.treats(&asked.what);
        match mood {
            ConsulMood::Closing => return Some(String::new()),
            ConsulMood::Garbage => return Some(http(200, Some(self.index), "<html>It works!</html>")),
            ConsulMood::Status(status) => return Some(http(status, None, "oh no")),
            ConsulMood::Hanging => return None,
            ConsulMood::Well | ConsulMood::NoIndex => {}
        }
        let (_, path) = asked.what.split_once(' ').unwrap();
        let path = path.split('?').next().unwrap();
        if let Some(service) = path.strip_prefix("/v1/health/service/") {
            let (changed, entries) = self.services.get(service).cloned().unwrap_or((self.index, Vec::new()));
            let known: u64 = parameter(&asked.what, "index").map_or(0, |index| index.parse().unwrap());
            // As Consul does: anything else than the present index is answered at once if it is larger.
            let news = known == 0 || changed > known || self.index < known;
            let index = (mood == ConsulMood::Well).then_some(if news { changed } else { known });
            return (news || over).then(|| http(200, index, &Value::from(entries).to_string()));
        }
        if path == "/v1/agent/service/register" {
            self.registered.insert(asked.body["ID"].as_str().unwrap().to_owned(), asked.body.clone());
            return Some(http(200, None, ""));
        }
        if let Some(id) = path.strip_prefix("/v1/agent/service/deregister/") {
            self.registered.remove(id);
            return Some(http(200, None, ""));
        }
        if let Some(id) = path.strip_prefix("/v1/agent/service/") {
            let known = self.registered.contains_key(id);
            return Some(http(if known { 200 } else { 404 }, None, "{}"));
        }
        let check = path.strip_prefix("/v1/agent/check/").and_then(|rest| rest.rsplit_once("/service:"));
        let known = check.is_some_and(|(_, id)| self.registered.contains_key(id));
        Some(http(if known { 200 } else { 500 }, None, ""))
    }
}
