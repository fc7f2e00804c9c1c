//! [`TestGateway`]: a real gateway in this process on free ports, its fake services, and a look at its monitor.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway::config::{
    self, Admin, Config, ConfigFile, ExpectedClaims, Instance, Loaded, Log, LogFormat, OnExpiry, Quic,
    QuicKeys, Secret, Tls, TlsIdentity, Tracing, VerifyingKey, WebSocket,
};
use gateway::discovery::Snapshot;
use gateway::gateway::{Gateway, Parts, ReloadError, ReloadReport, Reloads};
use gateway::limits::{DRAIN_HARD_STOP, Limits};
use gateway::monitor::events::Events;
use gateway::route::Route;
use gateway::statistics::ActivityReport;
use gateway::wire::dialect::Dialect;
use gateway_net::resolve::Resolver;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::fake_logic::FakeLogic;
use super::identity::{CERTIFICATES, SECRET};
use super::raw::{Kind, Options, Raw, Target};
use super::{PATIENCE, soon};

/// The gateway id of every bench.
pub(crate) const GATE: &str = "gate01";

/// Any free port.
fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A configuration without services: limits that let tests run at full speed, everything else as shipped.
pub(crate) fn config() -> Config {
    let identity =
        TlsIdentity { chain: vec![CERTIFICATES.server.clone()], key: CERTIFICATES.key.clone_key() };
    let identity = Arc::new(identity);
    let keys = QuicKeys { reset: [1; 64], token: [2; 64], connection_id: 3 };
    Config {
        id: GATE.into(),
        workers: 1,
        state_file: None,
        dialect: Dialect::XIm,
        quic: Some(Quic {
            listen: vec![any_port()],
            identity: Arc::clone(&identity),
            keys,
            migration: true,
            lb: None,
        }),
        tcp: vec![any_port()],
        tls: Some(Tls { listen: vec![any_port()], identity: Arc::clone(&identity) }),
        websocket: Some(WebSocket {
            listen: vec![any_port()],
            tls: Some(Tls { listen: vec![any_port()], identity }),
            proxy: None,
            upgrade: Arc::default(),
        }),
        tcp_proxy: None,
        ticket_keys: None,
        jwks: None,
        token_keys: vec![VerifyingKey::Hs256(Secret(SECRET.to_vec())).into()],
        expected_claims: ExpectedClaims::default(),
        leeway: gateway::limits::TOKEN_LEEWAY,
        on_expiry: OnExpiry::Keep,
        login_service: "login".into(),
        signout_after_kick: false,
        route: Arc::new(route(&["zone_a"])),
        bounded_load: true,
        instances: Vec::new(),
        consul: None,
        monitor: Some(any_port()),
        ready_when_full: false,
        admin: Admin::default(),
        webhook: None,
        tracing: Tracing::default(),
        drain_window: Duration::ZERO,
        drain_hard_stop: DRAIN_HARD_STOP,
        log: Log { format: LogFormat::Text, level: tracing::Level::ERROR },
        limits: Limits {
            frames_per_second: 0,
            bytes_per_second: 0,
            account_logins_per_second: 0,
            ..Limits::default()
        },
    }
}

/// A route of zones of weight 1.
pub(crate) fn route(zones: &[&str]) -> Route {
    let zones: Vec<_> = zones.iter().map(|zone| format!(r#"{{"id":"{zone}","weight":1}}"#)).collect();
    Route::from_json(&format!(r#"{{"zones":[{}]}}"#, zones.join(","))).unwrap()
}

/// An instance of a service at an address, in `zone_a`.
pub(crate) fn instance(service: &str, id: &str, address: SocketAddr, dialect: Dialect) -> Instance {
    Instance {
        service: service.into(),
        id: id.into(),
        address: address.to_string(),
        zone: "zone_a".into(),
        dialect,
    }
}

fn snapshot(mut instances: Vec<Instance>) -> Arc<Snapshot> {
    instances.sort_by(|one, other| (&one.service, &one.id).cmp(&(&other.service, &other.id)));
    Arc::new(Snapshot { instances })
}

/// See the module.
pub(crate) struct TestGateway {
    gateway: Option<Gateway>,
    /// Where clients connect.
    pub(crate) target: Target,
    monitor: SocketAddr,
    /// What discovery says.
    source: watch::Sender<Arc<Snapshot>>,
    /// Instance `login01` of service `login`.
    pub(crate) login: FakeLogic,
    /// Instance `chat01` of service `chat`.
    pub(crate) chat: FakeLogic,
}

impl TestGateway {
    /// A gateway with one login and one chat service of the default dialect.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same after `change` had its way with the configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::of_dialect(Dialect::XIm, change).await
    }

    /// The same with short or long limits.
    pub(crate) async fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        Self::with(|config| change(&mut config.limits)).await
    }

    /// The same with logic services of one dialect; both services keep their names in either.
    pub(crate) async fn of_dialect(dialect: Dialect, change: impl FnOnce(&mut Config)) -> Self {
        Self::on(FakeLogic::start(dialect), FakeLogic::start(dialect), dialect, change).await
    }

    /// The same with services the caller made.
    pub(crate) async fn on(
        login: FakeLogic,
        chat: FakeLogic,
        dialect: Dialect,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let harness = Self::unready(login, chat, dialect, change);
        harness.ready().await;
        harness
    }

    /// The same without waiting until it is ready.
    pub(crate) fn unready(
        login: FakeLogic,
        chat: FakeLogic,
        dialect: Dialect,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::resolving(login, chat, dialect, Resolver::default(), change)
    }

    /// The same with a resolver of the caller's own.
    pub(crate) fn resolving(
        login: FakeLogic,
        chat: FakeLogic,
        dialect: Dialect,
        resolver: Resolver,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = config();
        config.instances = vec![
            instance("login", "login01", login.address, dialect),
            instance("chat", "chat01", chat.address, dialect),
        ];
        change(&mut config);
        let source = watch::Sender::new(snapshot(config.instances.clone()));
        let feed = config.consul.is_none().then(|| source.subscribe());
        let parts = Parts { feed, resolver, ..Parts::default() };
        let gateway = Gateway::start_with(config, parts).expect("the gateway starts");
        Self::of(gateway, source, login, chat)
    }

    /// A gateway of a configuration file that can be read again; it names these services.
    pub(crate) async fn of_file(file: ConfigFile, login: FakeLogic, chat: FakeLogic) -> Self {
        let Loaded { config, written, .. } = config::load(&file.path, &file.options).unwrap();
        let parts = Parts { reloads: Some(Reloads { file, written }), ..Parts::default() };
        let gateway = Gateway::start_with(config, parts).expect("the gateway starts");
        let harness = Self::of(gateway, watch::Sender::default(), login, chat);
        harness.ready().await;
        harness
    }

    fn of(gateway: Gateway, source: watch::Sender<Arc<Snapshot>>, login: FakeLogic, chat: FakeLogic) -> Self {
        let addresses = gateway.addresses();
        // Listeners on any address are reached over IPv4.
        let local = |address: SocketAddr| SocketAddr::from(([127, 0, 0, 1], address.port()));
        let target = Target {
            tcp: local(addresses.tcp[0]),
            tls: local(addresses.tls[0]),
            ws: local(addresses.ws[0]),
            wss: local(addresses.wss[0]),
            quic: local(addresses.quic[0]),
        };
        let monitor = addresses.monitor.expect("the monitor is on");
        Self { gateway: Some(gateway), target, monitor, source, login, chat }
    }

    /// Discovery names these instances from now on.
    pub(crate) fn instances_are(&self, instances: Vec<Instance>) {
        self.source.send_replace(snapshot(instances));
    }

    /// Reads its configuration file again.
    pub(crate) fn reload(&self) -> Result<ReloadReport, ReloadError> {
        self.gateway.as_ref().expect("still running").reload()
    }

    /// Where it listens for QUIC.
    pub(crate) fn quic_addresses(&self) -> Vec<SocketAddr> {
        self.gateway.as_ref().expect("still running").addresses().quic.clone()
    }

    /// A client that has not signed in.
    pub(crate) async fn connect(&self, kind: Kind) -> Raw {
        Raw::connect(kind, &self.target).await
    }

    /// A client that has not signed in, with options.
    pub(crate) async fn connect_with(&self, kind: Kind, options: Options) -> Raw {
        Raw::connect_with(kind, &self.target, options).await
    }

    /// A client that has signed in, and its channel id.
    pub(crate) async fn client(&self, kind: Kind, account: &str) -> (Raw, String) {
        let mut raw = self.connect(kind).await;
        let channel = raw.login(account).await;
        (raw, channel)
    }

    /// Another client comes, signs in and is served.
    pub(crate) async fn serves_a_bystander(&self) {
        let (mut bystander, _) = self.client(Kind::QuicMany, "bystander").await;
        let sequence = bystander.talk("somebody", "all is well").await;
        assert_eq!(bystander.response(sequence).await.header.status, 0);
    }

    /// Who was active.
    pub(crate) fn activity(&self) -> ActivityReport {
        self.gateway.as_ref().expect("still running").metrics().activity()
    }

    /// Takes events.
    pub(crate) fn events(&self) -> Events {
        self.gateway.as_ref().expect("still running").metrics().events().clone()
    }

    /// Begins to drain.
    pub(crate) fn drain(&self) {
        self.gateway.as_ref().expect("still running").drain();
    }

    /// Awaits the end of a gateway that drains.
    pub(crate) async fn ended(&mut self) {
        assert!(self.end().await, "an orderly end");
    }

    /// Awaits the end of a gateway that drains or failed; returns `true` if it was orderly.
    pub(crate) async fn end(&mut self) -> bool {
        let gateway = self.gateway.take().expect("still running");
        let waiting = tokio::task::spawn_blocking(move || gateway.wait());
        soon("the end of the gateway", waiting).await.unwrap()
    }

    /// Awaits `/ready` to say 200.
    pub(crate) async fn ready(&self) {
        self.ready_is(200).await;
    }

    /// Awaits `/ready` to say this; there is no event for it across HTTP, so it asks again and again.
    pub(crate) async fn ready_is(&self, status: u16) {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (seen, body) = self.get("/ready").await;
            if seen == status {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "/ready says {seen} and not {status}: {body}");
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// GET of the monitor: status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = soon(path, async {
            let mut stream = TcpStream::connect(self.monitor).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        });
        let answer = answer.await;
        let status = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.unwrap_or_else(|| panic!("no HTTP status in {answer:?}")), body.to_owned())
    }

    /// Awaits a metric to have this value: what it counts may come behind the event a test has seen.
    pub(crate) async fn metric_is(&self, name: &str, labels: &[&str], value: f64) {
        self.metric_within(name, labels, value, PATIENCE).await;
    }

    /// The same for something that takes longer.
    pub(crate) async fn metric_within(&self, name: &str, labels: &[&str], value: f64, patience: Duration) {
        let end = tokio::time::Instant::now() + patience;
        loop {
            let seen = self.metric(name, labels).await;
            if seen == value {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "{name} {labels:?} is {seen} and not {value}");
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// The sum of the samples of a metric whose line contains every one of `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// Between two looks at `/ready` or a metric.
const ASK_AGAIN: Duration = Duration::from_millis(5);
