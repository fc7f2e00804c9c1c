//! The gateway that is measured: this program as `serve`, with one worker, and a logic service behind it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bench::{ANY, BenchRun, free_address};
use crate::error::{BenchError, Trying as _};
use crate::process::{Process, RoleProcess};
use crate::role::control::Listening;
use crate::role::logic::{self, LogicService};

/// The key of tokens.
pub(crate) const SECRET: &str = "a secret of the bench, 32 bytes and more";

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(20);

/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(20);

/// How long its monitor may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How long its certificates may take to be made.
const CERTIFICATES: Duration = Duration::from_secs(20);

/// See the module. It ends with its handle.
pub(crate) struct GatewayUnderTest {
    process: Process,
    _logic: RoleProcess,
    /// TCP and QUIC.
    pub(crate) clients: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) websocket: SocketAddr,
    monitor: SocketAddr,
}

impl GatewayUnderTest {
    /// Starts it and waits until it is ready. Pushes of its service have a body of so many bytes.
    pub(crate) fn start(bench: &BenchRun<'_>, push_body: usize) -> Result<Self, BenchError> {
        Self::start_admitting(bench, push_body, 0)
    }

    /// The same with a bound on new connections a second, 0 for none.
    pub(crate) fn start_admitting(
        bench: &BenchRun<'_>,
        push_body: usize,
        admitted: u32,
    ) -> Result<Self, BenchError> {
        let place = bench.scratch();
        make_certificates(bench)?;
        let service = LogicService { listen: ANY, push_body };
        let (logic, Listening { address }) = bench.role(logic::NAME, &service, bench.load_core())?;
        let [clients, tls, websocket, monitor] =
            [free_address()?, free_address()?, free_address()?, free_address()?];
        let route = r#"{"zones":[{"id":"zone_a","weight":1}]}"#;
        let write = |name: &str, text: &str| {
            fs::write(place.join(name), text).doing(|| format!("cannot write {name}"))
        };
        write("route.json", route)?;
        write("gateway.toml", &config([clients, tls, websocket, monitor], address, admitted))?;
        let mut command = Command::new(&bench.settings.program);
        command.args(["serve", "--config", "gateway.toml"]).current_dir(place).env_remove("RUST_LOG");
        let process = bench.program("gateway", &command, bench.server_core())?;
        let mut gateway = Self { process, _logic: logic, clients, tls, websocket, monitor };
        gateway.await_ready()?;
        Ok(gateway)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The sum of a metric's samples with a label; an empty one is that of all.
    ///
    /// # Errors
    /// Its monitor does not answer, or has no such metric.
    pub(crate) fn metric(&self, name: &str, label: &str) -> Result<f64, BenchError> {
        let text = ask(self.monitor, "/metrics").doing(|| "the gateway shows no metrics".to_owned())?;
        sum_of(&text, name, label)
            .ok_or_else(|| BenchError::failed(format!("the gateway has no metric {name} {label}")))
    }

    fn await_ready(&mut self) -> Result<(), BenchError> {
        let by = Instant::now() + READY;
        while !ask(self.monitor, "/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            self.process.must_run()?;
            if Instant::now() >= by {
                return Err(self.process.blame("was not ready in time"));
            }
            sleep(LOOK);
        }
        Ok(())
    }
}

/// The answer of its monitor, whole.
fn ask(monitor: SocketAddr, path: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&monitor, ANSWER)?;
    socket.set_read_timeout(Some(ANSWER))?;
    write!(socket, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The sum of the samples of a name with a label.
fn sum_of(metrics: &str, name: &str, label: &str) -> Option<f64> {
    let samples = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    samples
        .map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .reduce(|sum, value| Some(sum? + value?))?
}

fn make_certificates(bench: &BenchRun<'_>) -> Result<(), BenchError> {
    let mut command = Command::new(&bench.settings.program);
    command.args(["certs", "--dir", "certs"]).current_dir(bench.scratch());
    bench.finish("certs", &command, CERTIFICATES)
}

/// One worker. Of the limits only those are off that bound what one client or one address may ask for: a bench asks for
/// more than any person.
fn config([clients, tls, websocket, monitor]: [SocketAddr; 4], logic: SocketAddr, admitted: u32) -> String {
    let mut text = format!(
        "[gateway]\nid = \"bench\"\nworkers = 1\n\
         [quic]\nlisten = \"{clients}\"\nkey_file = \"certs/quic.keys\"\n\
         [tcp]\nlisten = \"{clients}\"\ntls_listen = \"{tls}\"\n\
         [websocket]\nlisten = \"{websocket}\"\n\
         [tls]\ncert = \"certs/server.pem\"\nkey = \"certs/server.key\"\n\
         [auth]\nsecret = \"{SECRET}\"\n[route]\nfile = \"route.json\"\n\
         [monitor]\nlisten = \"{monitor}\"\n\
         [limits]\nframes_per_second = 0\nbytes_per_second = 0\nconnections_per_second = {admitted}\n\
         address_connections_per_second = 0\naddress_connections_share = 100\naddress_handshakes_share = 100\n\
         account_logins_per_second = 0\nretry_from_rate = 0\n"
    );
    for (service, id) in [("login", "login01"), ("chat", "chat01")] {
        text += &format!(
            "[[discovery.instances]]\nservice = \"{service}\"\nid = \"{id}\"\naddress = \"{logic}\"\n\
             zone = \"zone_a\"\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_metric_are_added_up() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# HELP gateway_closes_total x\ngateway_closes_total{reason=\"bye\"} 4\n\
                    gateway_closes_total{reason=\"slow_consumer\"} 5\n";
        assert_eq!(sum_of(text, "gateway_closes_total", ""), Some(9.0));
        assert_eq!(sum_of(text, "gateway_closes_total", "\"bye\""), Some(4.0));
        assert_eq!(sum_of(text, "gateway_opens_total", ""), None);
    }
}
