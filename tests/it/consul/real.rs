//! Against a real agent: the program of `CONSUL_BIN`, or the `consul` of the path. Without one these tests say so and
//! pass; `tests/tools/get-consul DIR` gets one.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gateway::config::{Advertise, Consul, Register};
use gateway::wire::dialect::Dialect;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::{at, harness, known};
use crate::support::fake_logic::FakeLogic;
use crate::support::harness::{GATE, TestGateway};
use crate::support::raw::Target;
use crate::support::{PATIENCE, soon};

/// Between two looks at what has no event of its own.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A development agent on free ports, killed at the end.
struct RealAgent {
    program: PathBuf,
    process: Child,
    http: SocketAddr,
}

/// The program, if there is one.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("CONSUL_BIN").filter(|name| !name.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| {
        std::env::split_paths(&path).map(|directory| directory.join("consul")).find(|file| file.is_file())
    });
    if found.is_none() {
        eprintln!("skipped: no Consul; set CONSUL_BIN to one, tests/tools/get-consul gets it");
    }
    found
}

/// A port that is free for TCP and UDP.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn spawn(program: &PathBuf, http: u16) -> Child {
    let ports = [free_port(), free_port(), free_port()].map(|port| port.to_string());
    Command::new(program)
        .args(["agent", "-dev", "-node", "test", "-bind", "127.0.0.1", "-client", "127.0.0.1"])
        .args(["-dns-port", "-1", "-grpc-port", "-1", "-log-level", "err", "-http-port", &http.to_string()])
        .args(["-server-port", &ports[0], "-serf-lan-port", &ports[1], "-serf-wan-port", &ports[2]])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()))
}

impl RealAgent {
    /// Starts one and awaits that it has a leader; none where there is no Consul.
    async fn start() -> Option<Self> {
        let program = program()?;
        let http = free_port();
        let process = spawn(&program, http);
        let agent = Self { program, process, http: SocketAddr::from(([127, 0, 0, 1], http)) };
        agent.leads().await;
        Some(agent)
    }

    async fn leads(&self) {
        let end = Instant::now() + PATIENCE;
        while !self.try_call("GET", "/v1/status/leader", "").await.is_some_and(|leader| leader != json!("")) {
            assert!(Instant::now() < end, "no leader");
            sleep(ASK_AGAIN).await;
        }
    }

    /// Ends it as if by kill -9.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// One with no memory, on the same port.
    async fn start_again(&mut self) {
        self.process = spawn(&self.program, self.http.port());
        self.leads().await;
    }

    async fn try_call(&self, method: &str, path: &str, body: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.http).await.ok()?;
        let length = body.len();
        // 1.0, so that nothing comes in chunks.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        if head.split(' ').nth(1) != Some("200") {
            return None;
        }
        if body.is_empty() { Some(Value::Null) } else { serde_json::from_str(body).ok() }
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = soon(path, self.try_call(method, path, &body)).await;
        answer.unwrap_or_else(|| panic!("{method} {path} was refused"))
    }

    /// Registers an instance with a check that says this.
    async fn register(&self, service: &str, id: &str, address: SocketAddr, status: &str) {
        let definition = json!({
            "ID": id, "Name": service, "Address": address.ip().to_string(), "Port": address.port(),
            "Meta": { "zone": "zone_a", "protocol": "tcp", "weight": "3" },
            "Check": { "TTL": "1h", "Status": status }
        });
        self.call("PUT", "/v1/agent/service/register", &definition).await;
    }

    async fn deregister(&self, id: &str) {
        self.call("PUT", &format!("/v1/agent/service/deregister/{id}"), &Value::Null).await;
    }

    /// The gateway's own entry with its checks, once `wanted` is content with it.
    async fn entry(&self, wanted: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            // An agent that has just begun refuses now and then.
            let entries = self.try_call("GET", "/v1/health/service/tgateway", "").await;
            if let Some(entries) = entries.as_ref().and_then(Value::as_array) {
                let entry = entries.iter().find(|entry| entry["Service"]["ID"] == GATE);
                if wanted(entry) {
                    return entry.cloned();
                }
            }
            assert!(Instant::now() < end, "not what is wanted: {entries:?}");
            sleep(ASK_AGAIN).await;
        }
    }
}

impl Drop for RealAgent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn instances_follow_a_real_agent_and_only_those_that_pass() {
    let Some(agent) = RealAgent::start().await else { return };
    agent.register("login", "login01", at(1), "passing").await;
    agent.register("chat", "chat01", at(2), "passing").await;
    agent.register("chat", "chat02", at(3), "critical").await;
    let harness = harness(agent.http, |_| {});
    known(&harness, "login", 1).await;
    known(&harness, "chat", 1).await;
    agent.call("PUT", "/v1/agent/check/pass/service:chat02", &Value::Null).await;
    known(&harness, "chat", 2).await;
    agent.register("chat", "chat03", at(4), "passing").await;
    known(&harness, "chat", 3).await;
    agent.deregister("chat01").await;
    known(&harness, "chat", 2).await;
    agent.call("PUT", "/v1/agent/check/fail/service:chat03", &Value::Null).await;
    known(&harness, "chat", 1).await;
    assert_eq!(harness.metric("gateway_discovery_errors_total", &[]).await, 0.0);
}

#[tokio::test]
async fn e9_a_real_agent_that_is_killed_changes_nothing_and_is_followed_when_it_is_back() {
    let Some(mut agent) = RealAgent::start().await else { return };
    agent.register("login", "login01", at(1), "passing").await;
    agent.register("chat", "chat01", at(2), "passing").await;
    let harness = harness(agent.http, |_| {});
    known(&harness, "login", 1).await;
    known(&harness, "chat", 1).await;
    agent.kill();
    while harness.metric("gateway_discovery_errors_total", &["kind=\"unreachable\""]).await < 3.0 {
        sleep(ASK_AGAIN).await;
    }
    agent.start_again().await;
    // It knows nothing, which is not believed.
    harness.metric_is("gateway_discovery_errors_total", &["kind=\"empty\""], 2.0).await;
    assert_eq!(harness.metric("gateway_discovery_instances", &[]).await, 2.0);
    agent.register("chat", "chat01", at(2), "passing").await;
    agent.register("chat", "chat02", at(3), "passing").await;
    known(&harness, "chat", 2).await;
}

#[tokio::test]
async fn the_gateways_own_entry_has_its_meta_and_check_and_is_gone_before_the_listeners() {
    let Some(mut agent) = RealAgent::start().await else { return };
    let mut harness = harness(agent.http, |config| {
        let advertise = Advertise { host: "127.0.0.1".into(), port: None };
        let register = Register {
            name: "tgateway".into(),
            tags: vec!["IDC:SH_ALI".into()],
            domain: None,
            check_url: None,
            advertise,
        };
        config.consul.as_mut().unwrap().register = Some(register);
    });
    let entry = agent.entry(|entry| entry.is_some()).await.unwrap();
    let Target { tcp, tls, ws, wss, quic } = harness.target;
    let ports = [tcp, tls, quic, ws, wss].map(|bound| bound.port());
    assert_eq!(
        entry["Service"]["Meta"],
        json!({
            "protocol": "tcp", "domain": format!("tcp://127.0.0.1:{}", ports[0]), "workers": "1",
            "tls_port": ports[1].to_string(), "quic_port": ports[2].to_string(),
            "ws_port": ports[3].to_string(), "wss_port": ports[4].to_string()
        })
    );
    assert_eq!(entry["Service"]["Port"], json!(ports[0]));
    // As the routers of kim and X_IM look for it.
    for (tag, found) in [("IDC:SH_ALI", 1), ("IDC:BJ_ALI", 0)] {
        let path = format!("/v1/catalog/service/tgateway?tag={tag}");
        assert_eq!(agent.call("GET", &path, &Value::Null).await.as_array().unwrap().len(), found, "{tag}");
    }
    // The agent asks the gateway, and is told why not: no instance is linked yet.
    let end = Instant::now() + PATIENCE;
    let output = loop {
        // The catalogue hears of an output only with a change of the status.
        let checks = agent.call("GET", "/v1/agent/checks", &Value::Null).await;
        match checks[format!("service:{GATE}")]["Output"].as_str() {
            Some(output) if !output.is_empty() => break output.to_owned(),
            _ => assert!(Instant::now() < end, "the agent does not ask: {checks}"),
        }
        sleep(ASK_AGAIN).await;
    };
    assert!(output.contains("no instance of service login has been linked yet"), "{output}");

    agent.kill();
    agent.start_again().await;
    agent.entry(|entry| entry.is_some()).await;
    harness.drain();
    agent.entry(|entry| entry.is_none()).await;
    harness.ended().await;
}

#[tokio::test]
async fn a_gateway_whose_services_a_real_agent_lists_passes_its_check_there() {
    let Some(agent) = RealAgent::start().await else { return };
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    agent.register("login", "login01", login.address, "passing").await;
    agent.register("chat", "chat01", chat.address, "passing").await;
    let harness = TestGateway::on(login, chat, Dialect::XIm, |config| {
        config.instances.clear();
        let advertise = Advertise { host: "127.0.0.1".into(), port: None };
        let register =
            Register { name: "tgateway".into(), tags: Vec::new(), domain: None, check_url: None, advertise };
        config.consul = Some(Consul { register: Some(register), ..super::agent(agent.http) });
    })
    .await;
    let passes = |entry: Option<&Value>| {
        let checks = entry.and_then(|entry| entry["Checks"].as_array());
        checks.is_some_and(|checks| checks.iter().all(|check| check["Status"] == "passing"))
    };
    agent.entry(passes).await;
    harness.drain();
    agent.entry(|entry| entry.is_none()).await;
}
