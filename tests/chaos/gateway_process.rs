//! [`GatewayProcess`]: the program under test, with a configuration file of the run.

use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use gateway::certs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::consul::{Agent, GATEWAYS};
use crate::exposition::Exposition;
use crate::instance::Instance;
use crate::plan::Timers;

/// The gateway's id, where there is one.
pub(crate) const GATE: &str = "gate01";

/// Between two looks at what has no event: an exit, a page of the monitor.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// Longest wait for a page of the monitor.
const PAGE: Duration = Duration::from_secs(5);

/// Every key stands there.
const SHIPPED: &str = include_str!("../../config/gateway.toml");

/// A question to Consul stays open so long, and so much longer for its answer. Production's are a minute and 5 s: a
/// stopped Consul would be found no sooner.
pub(crate) const CONSUL_WAIT: Duration = Duration::from_millis(500);
pub(crate) const CONSUL_ANSWER: Duration = Duration::from_millis(500);

/// Longest wait for a start.
const START: Duration = Duration::from_secs(20);

/// Ports below those the kernel gives out by itself: one that is free for a moment stays free, and nobody who dials
/// an instance that is away meets himself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// See the module. Dropped, it is killed.
pub(crate) struct GatewayProcess {
    place: PathBuf,
    id: String,
    pub(crate) clients: SocketAddr,
    pub(crate) tls: SocketAddr,
    monitor: SocketAddr,
    child: Option<Child>,
}

/// Where a gateway has its instances from: lines of its configuration.
pub(crate) struct Discovery(String);

impl Discovery {
    /// From Consul, or from a list.
    pub(crate) fn of(consul: Option<&Agent>, instances: &[Instance]) -> Self {
        let Some(Agent { http, .. }) = consul else {
            let mut text = "[discovery]\nkind = \"static\"\n".to_owned();
            for Instance { service, name, address, zone, .. } in instances {
                text += &format!(
                    "[[discovery.instances]]\nservice = \"{service}\"\nid = \"{name}\"\n\
                     address = \"{address}\"\nzone = \"{zone}\"\n"
                );
            }
            return Self(text);
        };
        let mut services: Vec<_> = instances.iter().map(|instance| instance.service).collect();
        services.dedup();
        Self(format!(
            "[discovery]\nkind = \"consul\"\nservices = {services:?}\n\
             [discovery.consul]\naddress = \"http://{http}\"\nwait = \"{}\"\nanswer = \"{}\"\n\
             [discovery.register]\nenabled = true\nname = \"{GATEWAYS}\"\n",
            ms(CONSUL_WAIT),
            ms(CONSUL_ANSWER)
        ))
    }
}

fn ms(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// A TCP and UDP port nobody has.
pub(crate) fn free_port() -> anyhow::Result<SocketAddr> {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let start = std::process::id() as u16 % 997 * 11;
    for _ in PORTS {
        let offset = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = PORTS.start + (start.wrapping_add(offset)) % (PORTS.end - PORTS.start);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port is free")
}

impl GatewayProcess {
    /// Writes the files; starts nothing yet. Several in one place share its certificates.
    pub(crate) fn prepare(
        place: &Path,
        id: &str,
        discovery: &Discovery,
        timers: Timers,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(place)?;
        certs::ensure(&place.join("certs"))?;
        let (clients, tls, monitor) = (free_port()?, free_port()?, free_port()?);
        let zones =
            r#"{"route_by":"account","zones":[{"id":"zone_a","weight":1},{"id":"zone_b","weight":1}]}"#;
        fs::write(place.join("route.json"), zones)?;
        let new = Self { place: place.to_owned(), id: id.to_owned(), clients, tls, monitor, child: None };
        fs::write(place.join(format!("{id}.toml")), new.config(discovery, timers))?;
        Ok(new)
    }

    fn config(&self, discovery: &Discovery, timers: Timers) -> String {
        let Self { id, clients, tls, monitor, .. } = self;
        let mut text = format!(
            "[gateway]\nid = \"{id}\"\nworkers = 1\nadvertise = \"127.0.0.1\"\n\
             [quic]\nlisten = \"{clients}\"\nkey_file = \"certs/quic.keys\"\n\
             [tcp]\nlisten = \"{clients}\"\ntls_listen = \"{tls}\"\n\
             [tls]\ncert = \"certs/server.pem\"\nkey = \"certs/server.key\"\n\
             [auth]\nsecret_file = \"certs/jwt.secret\"\n[route]\nfile = \"route.json\"\n\
             [monitor]\nlisten = \"{monitor}\"\n[log]\nformat = \"text\"\nlevel = \"info\"\n"
        );
        text += &discovery.0;
        text += &format!("[drain]\nwindow = \"{}\"\n[limits]\n", ms(timers.window));
        for (key, value) in [
            ("backend_ping", timers.ping),
            ("request_deadline", timers.request),
            ("login_answer", timers.request),
            ("write_stall", timers.stall),
            ("read_idle", timers.read_idle),
            ("quic_idle", timers.quic_idle),
            ("backend_warming", timers.warming),
            ("backend_returned_within", timers.returned),
            ("backend_dial", timers.dial),
            ("backoff_first", timers.backoff.0),
            ("backoff_max", timers.backoff.1),
            ("signout_retry", timers.retry),
            ("backend_ejected", timers.ejected.0),
            ("backend_ejected_max", timers.ejected.1),
        ] {
            // A key that the shipped configuration does not show is none.
            if !SHIPPED.contains(&format!("\n{key} = ")) {
                continue;
            }
            text += &format!("{key} = \"{}\"\n", ms(value));
        }
        text + &format!("backend_misses = {}\n", timers.misses)
    }

    /// Where the certificates are.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.place.join("certs")
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(&mut self) -> anyhow::Result<Duration> {
        let log =
            OpenOptions::new().create(true).append(true).open(self.place.join(format!("{}.log", self.id)))?;
        let program = std::env::var_os("GATEWAY_PROGRAM");
        let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_gateway").into()));
        command
            .args(["serve", "--config", &format!("{}.toml", self.id)])
            .current_dir(&self.place)
            .env_remove("RUST_LOG");
        // To look up the names of a backtrace holds a worker up for half a second.
        command.env("RUST_BACKTRACE", "0");
        let errors: File = log.try_clone()?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.child = Some(command.spawn().context("the gateway cannot be started")?);
        let began = Instant::now();
        while began.elapsed() < START {
            if matches!(self.get("/ready").await, Ok((200, _))) {
                return Ok(began.elapsed());
            }
            if let Some(status) = self.exited()? {
                bail!("the gateway ended at its start: {status}");
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("the gateway was not ready within {START:?}")
    }

    fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.as_mut().context("the gateway is not running")?.try_wait()?)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("the gateway is not running")?;
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
    }

    /// Waits for its end; killed when that does not come in time.
    pub(crate) async fn ended(&mut self, within: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.exited()? {
                self.child = None;
                return Ok(Some(status));
            }
            if Instant::now() >= end {
                self.signal(Signal::SIGKILL)?;
                self.child.take().context("it is running")?.wait()?;
                return Ok(None);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The status of `/ready`.
    pub(crate) async fn readiness(&self) -> anyhow::Result<u16> {
        Ok(self.get("/ready").await?.0)
    }

    /// What `/metrics` shows now.
    pub(crate) async fn metrics(&self) -> anyhow::Result<Exposition> {
        let (status, text) = self.get("/metrics").await?;
        if status != 200 {
            bail!("/metrics says {status}");
        }
        Ok(Exposition::parse(&text))
    }

    async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let page = async {
            let mut stream = TcpStream::connect(self.monitor).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: chaos\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            let status = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok());
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            Ok((status.context("no HTTP")?, body.to_owned()))
        };
        tokio::time::timeout(PAGE, page).await.with_context(|| format!("no {path} within {PAGE:?}"))?
    }

    /// Waits until `/metrics` is as wanted: how long it took, or none. It has no events, so it is asked again and again.
    pub(crate) async fn shows(
        &self,
        within: Duration,
        wanted: impl Fn(&Exposition) -> bool,
    ) -> anyhow::Result<Option<Duration>> {
        let began = Instant::now();
        loop {
            if wanted(&self.metrics().await?) {
                return Ok(Some(began.elapsed()));
            }
            if began.elapsed() >= within {
                return Ok(None);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}
