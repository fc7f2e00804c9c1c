//! The programs a run compares with where they are installed.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bench::{BenchRun, free_address};
use crate::error::{BenchError, Trying as _};
use crate::process::Process;

/// Where Debian installs them, beside what is asked for by name.
const PLACES: [&str; 5] = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin", "/bin"];

/// How long one may take to listen.
const START: Duration = Duration::from_secs(10);

/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(20);

/// Where a program is installed.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    PLACES.iter().map(|place| PathBuf::from(place).join(name)).find(|path| path.is_file())
}

/// What is said of those that are not installed.
pub(crate) fn missing_peers(names: &[&str]) -> Vec<String> {
    let missing = names.iter().filter(|name| find(name).is_none());
    missing.map(|name| format!("{name} is not installed; its row is left out")).collect()
}

/// A peer that listens.
pub(crate) struct PeerServer {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// haproxy before a TCP server, with one thread, ending TLS or not; none where it is not installed.
pub(crate) fn haproxy(
    bench: &BenchRun<'_>,
    behind: SocketAddr,
    ends_tls: bool,
) -> Result<Option<PeerServer>, BenchError> {
    let Some(program) = find("haproxy") else { return Ok(None) };
    let address = free_address()?;
    let certificate = bench.scratch().join("haproxy.pem");
    if ends_tls {
        let read = |name: &str| fs::read_to_string(bench.scratch().join("certs").join(name));
        let both = read("server.pem").and_then(|chain| Ok(chain + &read("server.key")?));
        both.and_then(|both| fs::write(&certificate, both))
            .doing(|| "no certificate for haproxy".to_owned())?;
    }
    let tls = if ends_tls { format!(" ssl crt {}", certificate.display()) } else { String::new() };
    let config = format!(
        "global\n  nbthread 1\n  maxconn 9000\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  \
         timeout server 1h\nlisten echo\n  bind {address}{tls}\n  server behind {behind}\n"
    );
    let path = bench.scratch().join(format!("haproxy-{}.cfg", address.port()));
    fs::write(&path, config).doing(|| "cannot write haproxy's configuration".to_owned())?;
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(path);
    listening(bench, "haproxy", &command, address).map(Some)
}

/// A NATS server with one processor; none where it is not installed.
pub(crate) fn nats(bench: &BenchRun<'_>) -> Result<Option<PeerServer>, BenchError> {
    let Some(program) = find("nats-server") else { return Ok(None) };
    let address = free_address()?;
    let config = format!("listen: \"{address}\"\nping_interval: \"1h\"\nmax_connections: 20000\n");
    let path = bench.scratch().join(format!("nats-{}.conf", address.port()));
    fs::write(&path, config).doing(|| "cannot write the configuration of nats".to_owned())?;
    let mut command = Command::new(program);
    command.arg("-c").arg(path).env("GOMAXPROCS", "1");
    listening(bench, "nats-server", &command, address).map(Some)
}

/// A Redis server that keeps nothing; none where it is not installed.
pub(crate) fn redis(bench: &BenchRun<'_>) -> Result<Option<PeerServer>, BenchError> {
    let Some(program) = find("redis-server") else { return Ok(None) };
    let address = free_address()?;
    let mut command = Command::new(program);
    let port = address.port().to_string();
    command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
    command.args([
        "--protected-mode",
        "no",
        "--maxclients",
        "10000",
        "--client-output-buffer-limit",
        "pubsub 0 0 0",
    ]);
    command.current_dir(bench.scratch());
    listening(bench, "redis-server", &command, address).map(Some)
}

/// A mosquitto that lets everybody in; none where it is not installed.
pub(crate) fn mosquitto(bench: &BenchRun<'_>) -> Result<Option<PeerServer>, BenchError> {
    let Some(program) = find("mosquitto") else { return Ok(None) };
    let address = free_address()?;
    let config = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\n\
         user root\nlog_type error\n",
        address.port()
    );
    let path = bench.scratch().join(format!("mosquitto-{}.conf", address.port()));
    fs::write(&path, config).doing(|| "cannot write the configuration of mosquitto".to_owned())?;
    let mut command = Command::new(program);
    command.arg("-c").arg(path);
    listening(bench, "mosquitto", &command, address).map(Some)
}

/// Starts a program and waits until it listens.
fn listening(
    bench: &BenchRun<'_>,
    name: &str,
    command: &Command,
    address: SocketAddr,
) -> Result<PeerServer, BenchError> {
    let mut process = bench.program(name, command, bench.server_core())?;
    let by = Instant::now() + START;
    while TcpStream::connect_timeout(&address, LOOK).is_err() {
        process.must_run()?;
        if Instant::now() >= by {
            return Err(process.blame("did not listen in time"));
        }
        sleep(LOOK);
    }
    Ok(PeerServer { process, address })
}
