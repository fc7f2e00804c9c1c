//! [`Agent`]: a real Consul agent of the run's own, where there is one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::gateway_process::{LOOK, free_port};
use crate::instance::Instance;

/// Under this name gateways stand there.
pub(crate) const GATEWAYS: &str = "tgateway";

/// Longest wait until an agent leads itself; its raft waits for seconds of its own.
const START: Duration = Duration::from_secs(30);

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Longest wait for an entry to come or go.
const ENTRY: Duration = Duration::from_secs(20);

/// See the module. Dropped, it is killed.
pub(crate) struct Agent {
    program: PathBuf,
    /// What it remembers.
    memory: PathBuf,
    pub(crate) http: SocketAddr,
    /// For raft and gossip.
    ports: [u16; 3],
    child: Option<Child>,
}

/// The program: `CONSUL_BIN`, the `consul` of the path, or the one that `tests/tools/get-consul` put beside the builds.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("CONSUL_BIN").filter(|name| !name.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> =
        std::env::split_paths(&path).map(|directory| directory.join("consul")).collect();
    // TARGET/PROFILE/deps/this
    let target = std::env::current_exe().ok().and_then(|this| Some(this.ancestors().nth(3)?.to_owned()));
    places.extend(target.map(|target| target.join("tools/consul")));
    named.or_else(|| places.into_iter().find(|file| file.is_file()))
}

impl Agent {
    /// Starts one that knows these instances; none where there is no Consul.
    pub(crate) async fn start(place: &Path, instances: &[Instance]) -> anyhow::Result<Option<Self>> {
        let Some(program) = program() else { return Ok(None) };
        let mut ports = [0; 3];
        for port in &mut ports {
            *port = free_port()?.port();
        }
        let memory = place.join("consul");
        let mut agent = Self { program, memory, http: free_port()?, ports, child: None };
        agent.run().await?;
        agent.register_all(instances).await?;
        Ok(Some(agent))
    }

    /// Starts the process, with what it remembers, and waits until it leads itself.
    pub(crate) async fn run(&mut self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.memory)?;
        let ports = self.ports.map(|port| port.to_string());
        let mut command = Command::new(&self.program);
        command
            .args(["agent", "-server", "-bootstrap-expect", "1", "-node", "chaos", "-log-level", "err"])
            .args(["-bind", "127.0.0.1", "-client", "127.0.0.1", "-dns-port", "-1", "-grpc-port", "-1"])
            .args(["-hcl", "performance { raft_multiplier = 1 }", "-hcl", "disable_update_check = true"])
            .args(["-http-port", &self.http.port().to_string(), "-server-port", &ports[0]])
            .args(["-serf-lan-port", &ports[1], "-serf-wan-port", &ports[2], "-data-dir"])
            .arg(&self.memory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("{} cannot run", self.program.display()))?;
        self.child = Some(child);
        let end = Instant::now() + START;
        while !self.call("GET", "/v1/status/leader", "").await.is_ok_and(|leader| leader != json!("")) {
            if let Some(status) = self.child.as_mut().context("it was started")?.try_wait()? {
                bail!("{} ended at its start: {status}", self.program.display());
            }
            if Instant::now() > end {
                bail!("Consul leads nobody after {START:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("Consul is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// What it remembers is lost.
    pub(crate) fn forget(&self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(&self.memory).context("Consul's memory cannot be removed")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("Consul is not running")?;
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
    }

    /// Registers them without checks: it is the links that find the dead.
    pub(crate) async fn register_all(&self, instances: &[Instance]) -> anyhow::Result<()> {
        for Instance { name, service, zone, address, .. } in instances {
            let entry = json!({
                "ID": name, "Name": service, "Address": address.ip().to_string(), "Port": address.port(),
                "Meta": { "zone": zone, "protocol": "tcp" }
            });
            self.insist("PUT", "/v1/agent/service/register", &entry.to_string()).await?;
        }
        Ok(())
    }

    /// Waits until a gateway stands there, or does not; how long it took, or none if it does not come to that.
    pub(crate) async fn has_gateway(&self, id: &str, wanted: bool) -> Option<Duration> {
        let began = Instant::now();
        while began.elapsed() < ENTRY {
            let path = format!("/v1/catalog/service/{GATEWAYS}");
            if let Ok(Value::Array(entries)) = self.call("GET", &path, "").await
                && entries.iter().any(|entry| entry["ServiceID"] == id) == wanted
            {
                return Some(began.elapsed());
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    /// An agent that has just begun refuses now and then.
    async fn insist(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
        let end = Instant::now() + START;
        loop {
            match self.call(method, path, body).await {
                Err(_) if Instant::now() < end => tokio::time::sleep(LOOK).await,
                outcome => return outcome,
            }
        }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
        let page = async {
            let mut stream = TcpStream::connect(self.http).await?;
            let length = body.len();
            // 1.0, so that nothing comes in chunks.
            let request = format!(
                "{method} {path} HTTP/1.0\r\nHost: chaos\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
            if head.split(' ').nth(1) != Some("200") {
                bail!("Consul refuses {method} {path}: {}", head.lines().next().unwrap_or_default());
            }
            Ok(if body.is_empty() { Value::Null } else { serde_json::from_str(body)? })
        };
        tokio::time::timeout(ANSWER, page).await.with_context(|| format!("no {path} within {ANSWER:?}"))?
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}
