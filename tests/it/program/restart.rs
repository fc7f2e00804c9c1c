//! Gateways as processes that are told to end, or killed, with clients on them.

use std::collections::HashSet;
use std::time::Instant;

use base64::Engine as _;
use gateway::config::QuicKeys;
use gateway::wire::frame::{Opcode, encode};
use quinn::ConnectionError;
use tokio::sync::mpsc as events;
use tokio::task::JoinSet;

use super::*;
use crate::support::soon;

/// Log lines a gateway may be ahead of its test.
const LINES_AHEAD: usize = 10_000;

/// What a gateway of [`home`] listens for, as its log calls it.
const LISTENERS: [&str; 6] = ["tcp", "tls", "ws", "wss", "quic", "monitor"];

/// A running `gateway serve`, killed at the end of its test.
pub(super) struct Serve {
    pub(super) child: Child,
    /// The lines until it was ready.
    pub(super) early: String,
    pub(super) log: events::Receiver<String>,
    target: Target,
    pub(super) monitor: SocketAddr,
}

impl Serve {
    /// Starts the configuration of a place with these overrides; returns when clients can sign in on every worker.
    pub(super) async fn start(
        place: &Place,
        config: &str,
        workers: usize,
        overrides: &[(&str, &str)],
    ) -> Self {
        Self::run(place.gateway(&["serve", "--config", config]), workers, overrides).await
    }

    /// The same by a command that ends in `gateway serve`.
    pub(super) async fn run(mut command: Command, workers: usize, overrides: &[(&str, &str)]) -> Self {
        command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env("GATEWAY__GATEWAY__WORKERS", workers.to_string());
        let mut child = command.envs(overrides.iter().copied()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = events::channel(LINES_AHEAD);
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| lines.blocking_send(line))
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let target = Target { tcp: nowhere, tls: nowhere, ws: nowhere, wss: nowhere, quic: nowhere };
        let mut serve = Self { child, early: String::new(), log, target, monitor: nowhere };
        // Each worker links itself to both services, before or after the listeners are named.
        let mut links = 0;
        while links < 2 * workers || serve.listeners().iter().any(|address| address.port() == 0) {
            let line = serve.line("event=").await;
            links += usize::from(is_linked(&line));
            serve.early.push_str(&line);
            serve.early.push('\n');
            for (what, address) in LISTENERS.into_iter().zip(serve.listeners()) {
                if line.contains(&format!("what=\"{what}\"")) {
                    *address = line.trim_end().rsplit("address=").next().unwrap().parse().unwrap();
                }
            }
        }
        serve
    }

    /// Those of [`LISTENERS`].
    fn listeners(&mut self) -> [&mut SocketAddr; 6] {
        let Target { tcp, tls, ws, wss, quic } = &mut self.target;
        [tcp, tls, ws, wss, quic, &mut self.monitor]
    }

    /// The next line that holds this text.
    pub(super) async fn line(&mut self, text: &str) -> String {
        loop {
            let line = soon(format!("a line with {text}"), self.log.recv()).await;
            let line = line.unwrap_or_else(|| panic!("it ended without a line with {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// The exit code; none after a signal that was not caught.
    pub(super) async fn end(mut self) -> Option<i32> {
        while soon("the end of the process", self.log.recv()).await.is_some() {}
        tokio::task::spawn_blocking(move || self.child.wait().unwrap().code()).await.unwrap()
    }

    pub(super) const fn target(&self) -> Target {
        self.target
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Two services, and the configuration of a gateway that all transports reach.
pub(super) fn home() -> (Place, FakeLogic, FakeLogic, String) {
    let place = Place::new();
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    let config = serve_config(&place, login.address, chat.address);
    let pem = |label: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    fs::write(place.0.join("server.pem"), pem("CERTIFICATE", &identity::CERTIFICATES.server)).unwrap();
    let key = identity::CERTIFICATES.key.secret_der();
    fs::write(place.0.join("server.key"), pem("PRIVATE KEY", key)).unwrap();
    fs::write(place.0.join("quic.keys"), QuicKeys::generate().unwrap().to_text()).unwrap();
    let path = place.0.join(&config);
    let text = fs::read_to_string(&path).unwrap();
    let any_port = "listen = \"127.0.0.1:0\"\n";
    let text = text
        .replace("listen = []\n", &format!("{any_port}key_file = \"quic.keys\"\n"))
        .replace("[tcp]\n", &format!("[websocket]\n{any_port}tls_{any_port}[tcp]\ntls_{any_port}"));
    fs::write(path, text + "[tls]\ncert = \"server.pem\"\nkey = \"server.key\"\n").unwrap();
    (place, login, chat, config)
}

pub(super) async fn sign_in(kind: Kind, target: &Target, account: &str, login: &FakeLogic) -> (Raw, String) {
    let mut raw = Raw::connect(kind, target).await;
    let channel = raw.login(account).await;
    assert!(login.packets("login.signin").iter().any(|packet| packet.header.channel_id == channel));
    (raw, channel)
}

/// Who killed a gateway left it no time to say anything: the next one has to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_c19_a_restarted_gateway_ends_former_quic_clients_within_one_packet_and_repeats_no_channel_id() {
    const CLIENTS: usize = 200;
    let (place, login, _chat, config) = home();
    let workers = if cfg!(target_os = "linux") { 2 } else { 1 };
    let first = Serve::start(&place, &config, workers, &[]).await;
    let target = first.target();
    let mut channels = HashSet::new();
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let (raw, channel) = sign_in(Kind::QuicOne, &target, &format!("user{n}"), &login).await;
        channels.insert(channel);
        clients.push(raw);
    }
    first.signal(Signal::SIGKILL);
    assert_eq!(first.end().await, None);
    let port = target.quic.to_string();
    let second = Serve::start(&place, &config, workers, &[("GATEWAY__QUIC__LISTEN", &port)]).await;
    assert_eq!(second.target.quic, target.quic, "the same port");

    // One after the other: each learns it from the answer to the first packet it sends.
    let mut in_one = 0;
    for raw in &mut clients[..CLIENTS / 2] {
        let connection = raw.quic().1.clone();
        let before = connection.stats().udp_tx.datagrams;
        raw.write(encode(Opcode::Ping, b"")).await;
        let error = soon("the reset", connection.closed()).await;
        assert_eq!(error, ConnectionError::Reset);
        in_one += usize::from(connection.stats().udp_tx.datagrams - before == 1);
    }
    // On a machine that is late the timers of a client are faster than the answer, and it asks again.
    assert!(in_one > CLIENTS / 4, "{in_one} of {} were told within one packet", CLIENTS / 2);

    // And all at once.
    let since = Instant::now();
    let mut told = JoinSet::new();
    for mut raw in clients.drain(CLIENTS / 2..) {
        told.spawn(async move {
            raw.write(encode(Opcode::Ping, b"")).await;
            let error = soon("the reset", raw.quic().1.closed()).await;
            assert_eq!(error, ConnectionError::Reset);
            Instant::now()
        });
    }
    let last = told.join_all().await.into_iter().max().unwrap() - since;
    println!("{in_one} of {} within one packet; {} at once within {last:?}", CLIENTS / 2, CLIENTS / 2);
    assert!(last < Duration::from_secs(3), "{last:?}");

    for n in 0..CLIENTS {
        let (_raw, channel) = sign_in(Kind::QuicOne, &target, &format!("user{n}"), &login).await;
        assert!(channels.insert(channel.clone()), "{channel} was there before");
    }
    assert_eq!(channels.len(), 2 * CLIENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_sigterm_with_clients_ends_with_0_before_the_hard_stop_and_every_signout_is_seen() {
    const CLIENTS: usize = 100;
    let (place, login, chat, config) = home();
    let times = [("GATEWAY__DRAIN__WINDOW", "2s"), ("GATEWAY__DRAIN__HARD_STOP", "10s")];
    let mut serve = Serve::start(&place, &config, 1, &times).await;
    let target = serve.target();
    let mut clients = Vec::new();
    let mut channels = Vec::new();
    for n in 0..CLIENTS {
        let kind = Kind::ALL[n % Kind::ALL.len()];
        let (mut raw, channel) = sign_in(kind, &target, &format!("user{n}"), &login).await;
        // In flight when the signal comes: handed over, and perhaps not answered.
        let sequence = raw.talk("bob", "x").await;
        channels.push(channel);
        clients.push((raw, sequence));
    }
    chat.packet("chat.user.talk", CLIENTS - 1).await;
    let since = Instant::now();
    serve.signal(Signal::SIGTERM);
    serve.line("event=\"drain\"").await;
    let mut ends = JoinSet::new();
    for (mut raw, sequence) in clients {
        ends.spawn(async move {
            let farewell = raw.closed_with(3000).await;
            assert_eq!(farewell.response(sequence).header.status, 0);
        });
    }
    ends.join_all().await;
    serve.line("event=\"stopped\"").await;
    assert_eq!(serve.end().await, Some(0));
    let took = since.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10), "{took:?}");
    println!("{CLIENTS} clients were gone and the process ended with 0 after {took:?}");
    for channel in &channels {
        login.signout(channel).await;
    }
    assert_eq!(login.packets("login.signout").len(), CLIENTS, "once each");
    assert_eq!(chat.packets("chat.user.talk").len(), CLIENTS);
}
