//! `gateway dev`: everything in one process, nothing to install. Login and chat services run beside the gateway and
//! are reached over real TCP links with the real handshake.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gateway::certs;
use gateway::config::{self, ConfigError, Instance, Loaded, Options};
use gateway::dispatch::selector::{Candidates, RouteSelector};
use gateway::gateway::{Addresses, Gateway};
use gateway::route::Route;
use gateway::wire::dialect::Dialect;
use gateway_client::default_tls_port;
use gateway_messenger::{Embedded, EmbeddedInstance};
use tokio::time::sleep;
use tracing::warn;

use crate::cli::DEV_SOCKET;
use crate::cli::check::refuse;
use crate::cli::log;
use crate::cli::output;
use crate::cli::shutdown::{self, Signals};

/// Where `dev` and `chat` look for development files, relative to the working directory.
const DEV_DIR: &str = "certs/dev";

/// The route `dev` runs with: the one that is shipped.
const ROUTE: &str = include_str!("../../config/route.json");

/// The services of `dev`: service, instance, zone, and their ports as distances from the gateway's.
const SERVICES: [(&str, &str, &str, u16); 3] = [
    ("login", "login01", "zone_a", 1001),
    ("chat", "chat01", "zone_a", 1002),
    ("chat", "chat02", "zone_b", 1003),
];

/// Where clients connect, unless it is moved.
const DEFAULT_PORT: u16 = 8000;

/// Distance of the monitor's port.
const MONITOR_PORT: u16 = 1;

/// Distance of the TLS port: 8443 beside 8000.
const TLS_PORT: u16 = 443;

/// Distances of the WebSocket ports, plain and TLS: 8002 and 8444 beside 8000.
const WS_PORT: u16 = 2;
const WSS_PORT: u16 = TLS_PORT + 1;

/// How long the start page waits for the links.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Between two looks at the readiness while starting.
const READY_LOOK: Duration = Duration::from_millis(10);

/// How many ports are looked at to find one that is free for TCP and UDP.
const FREE_PORT_TRIES: usize = 16;

/// Arguments of `gateway dev`.
#[derive(Debug, clap::Args)]
pub(crate) struct DevArgs {
    /// Clients connect here (QUIC and TCP); the monitor has the next port, WebSocket the one behind it, TLS and WebSocket
    /// over TLS those 443 and 444 above, the services those 1001 to 1003 above. 0 picks free ones
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(..=64_000))]
    pub(crate) port: u16,
}

/// Starts everything, prints where it is, and serves until a signal.
///
/// # Errors
/// A port that is taken, or files that cannot be made.
pub(crate) fn run(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let made = certs::ensure(Path::new(DEV_DIR)).context("cannot make the development files")?;
    look_for_ports(args.port)?;
    let logic_listeners = bind_services(args.port)?;
    let route = Arc::new(Route::from_json(ROUTE).context("the route that is shipped")?);
    let Loaded { config, warnings, .. } = match configuration(args.port, &logic_listeners, &route)? {
        Ok(loaded) => loaded,
        Err(error) => return Ok(refuse(error)),
    };
    let (_log, _level) = log::start(config.log)?;
    for warning in &warnings {
        warn!(event = "config", "{warning}");
    }
    let logic = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("logic")
        .enable_all()
        .build()
        .context("cannot start the runtime of the services")?;
    let _entered = logic.enter();
    let services = Embedded::start(embed(logic_listeners)?).context("cannot start the services")?;
    let instances = config.instances.clone();
    let gateway =
        Gateway::start(config).map_err(|error| anyhow::anyhow!("{error}. {}", another_port(args.port)))?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let signals = Signals::listen()?;
        await_links(&gateway).await?;
        let page = start_page(args.port, gateway.addresses(), &instances, &route, &made.made)?;
        output::tell(page);
        Ok(shutdown::until_end(gateway, signals).await)
    });
    drop(services);
    logic.shutdown_timeout(Duration::from_secs(1));
    code
}

fn another_port(port: u16) -> String {
    let other = if port == DEFAULT_PORT { 8100 } else { port.saturating_sub(1000).max(2000) };
    format!("--port {other} moves all ports together")
}

/// Names the setting of a port that is taken, the clients' first, before anything is started.
fn look_for_ports(port: u16) -> anyhow::Result<()> {
    if port == 0 {
        return Ok(());
    }
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let taken = [
        ("tcp.listen", at(port), TcpListener::bind(at(port)).err()),
        ("quic.listen", at(port), UdpSocket::bind(at(port)).err()),
        ("monitor.listen", at(port + MONITOR_PORT), TcpListener::bind(at(port + MONITOR_PORT)).err()),
    ];
    for (setting, address, error) in taken {
        if let Some(error) = error {
            let hint = another_port(port);
            anyhow::bail!(
                "{setting}: cannot listen on {address}: {error}; is another gateway running? {hint}"
            );
        }
    }
    Ok(())
}

fn bind_services(port: u16) -> anyhow::Result<Vec<TcpListener>> {
    SERVICES
        .iter()
        .map(|(_, id, _, distance)| {
            let port_here = if port == 0 { 0 } else { port + distance };
            TcpListener::bind((Ipv4Addr::LOCALHOST, port_here)).map_err(|error| {
                let hint = another_port(port);
                anyhow::anyhow!("service {id}: cannot listen on 127.0.0.1:{port_here}: {error}. {hint}")
            })
        })
        .collect()
}

/// A port that is free for TCP and UDP alike, so that clients need to know only one.
fn free_port() -> anyhow::Result<u16> {
    for _ in 0..FREE_PORT_TRIES {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = tcp.local_addr()?.port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port is free for TCP and UDP; choose one with --port")
}

fn embed(listeners: Vec<TcpListener>) -> anyhow::Result<Vec<EmbeddedInstance>> {
    SERVICES
        .iter()
        .zip(listeners)
        .map(|((service, ..), listener)| {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            Ok(EmbeddedInstance { service: (*service).to_owned(), listener, dialect: Dialect::XIm })
        })
        .collect()
}

/// The configuration of `dev`, as a file would have it; environment overrides count here, too.
fn configuration(
    port: u16,
    services: &[TcpListener],
    route: &Arc<Route>,
) -> anyhow::Result<Result<Loaded, ConfigError>> {
    let [monitor, tls, ws, wss] = [MONITOR_PORT, TLS_PORT, WS_PORT, WSS_PORT]
        .map(|distance| if port == 0 { 0 } else { port + distance });
    let port = if port == 0 { free_port()? } else { port };
    let mut text = format!(
        "[gateway]\nid = \"gate01\"\n[quic]\nlisten = \"127.0.0.1:{port}\"\nkey_file = \"{DEV_DIR}/quic.keys\"\n\
         [tcp]\nlisten = \"127.0.0.1:{port}\"\ntls_listen = \"127.0.0.1:{tls}\"\n\
         [websocket]\nlisten = \"127.0.0.1:{ws}\"\ntls_listen = \"127.0.0.1:{wss}\"\n\
         [tls]\ncert = \"{DEV_DIR}/server.pem\"\nkey = \"{DEV_DIR}/server.key\"\n\
         [auth]\nsecret_file = \"{DEV_DIR}/jwt.secret\"\n[monitor]\nlisten = \"127.0.0.1:{monitor}\"\n"
    );
    // Two of them may run side by side.
    let socket = match port {
        DEFAULT_PORT => DEV_SOCKET.to_owned(),
        port => format!("{DEV_DIR}/admin-{port}.sock"),
    };
    write!(text, "[admin]\nsocket = \"{socket}\"\n")?;
    // Scripts that try things out sign the same few accounts in again and again.
    text.push_str("[limits]\naccount_logins_per_second = 0\n");
    for ((service, id, zone, _), listener) in SERVICES.iter().zip(services) {
        let address = listener.local_addr()?;
        write!(
            text,
            "[[discovery.instances]]\nservice = \"{service}\"\nid = \"{id}\"\naddress = \"{address}\"\nzone = \"{zone}\"\n"
        )?;
    }
    let mut options = Options::with_environment(std::env::vars_os());
    options.dev = true;
    options.route = Some(Arc::clone(route));
    Ok(config::parse(&text, "gateway dev", &options))
}

async fn await_links(gateway: &Gateway) -> anyhow::Result<()> {
    let by = Instant::now() + READY_WITHIN;
    while !gateway.readiness().verdict(Instant::now()).is_ready() {
        anyhow::ensure!(
            Instant::now() < by,
            "not ready: {}",
            gateway.readiness().verdict(Instant::now()).reasons().join("; ")
        );
        sleep(READY_LOOK).await;
    }
    Ok(())
}

fn start_page(
    port: u16,
    addresses: &Addresses,
    instances: &[Instance],
    route: &Route,
    made: &[std::path::PathBuf],
) -> anyhow::Result<String> {
    let mut page = format!("gateway {} (development)\n\n", env!("CARGO_PKG_VERSION"));
    if !made.is_empty() {
        writeln!(page, "made {} development files in {DEV_DIR}/\n", made.len())?;
    }
    let line =
        |page: &mut String, what: &str, address: &SocketAddr| writeln!(page, "listening {what} {address}");
    for (what, bound) in addresses.for_clients() {
        for address in bound {
            line(&mut page, what, address)?;
        }
    }
    if let Some(address) = &addresses.monitor {
        line(&mut page, "monitor", address)?;
        writeln!(page, "          http://{address}/health  /ready  /metrics")?;
    }
    for instance in instances {
        let Instance { service, id, zone, address, .. } = instance;
        writeln!(page, "linked    {service} {id} in {zone} at {address}")?;
    }
    page.push('\n');
    for account in ["alice", "bob"] {
        writeln!(page, "{}", placement(account, instances, route))?;
    }
    let program = program();
    let (quic, tcp) = (addresses.quic.first(), addresses.tcp.first());
    let server = |address: Option<&SocketAddr>| match address {
        Some(address) if port != 8000 => format!(" --server {address}"),
        _ => String::new(),
    };
    let tls = tls_port(quic, addresses.tls.first());
    writeln!(page, "\nin a second terminal:  {program} chat --account alice{}{tls}", server(quic))?;
    writeln!(page, "in a third terminal:   {program} chat --account bob --transport tcp{}", server(tcp))?;
    writeln!(page, "then write:            bob hello\n\nready; Ctrl-C ends it")?;
    Ok(page)
}

/// The argument that names the port for TLS, where it is not the one a client assumes.
fn tls_port(server: Option<&SocketAddr>, tls: Option<&SocketAddr>) -> String {
    match (server, tls) {
        (Some(server), Some(tls)) if tls.port() != default_tls_port(&server.to_string()) => {
            format!(" --tls-port {}", tls.port())
        }
        _ => String::new(),
    }
}

/// How this program was started, to be started again: cargo tells the programs it runs where it is.
fn program() -> String {
    match std::env::var_os("CARGO") {
        Some(_) if cfg!(debug_assertions) => "cargo run --".to_owned(),
        Some(_) => "cargo run --release --".to_owned(),
        None => std::env::args().next().unwrap_or_else(|| "gateway".to_owned()),
    }
}

/// Where an account's messages go, in one line.
fn placement(account: &str, instances: &[Instance], route: &Route) -> String {
    let selector = RouteSelector::new(route);
    let of_chat = instances.iter().filter(|instance| instance.service == "chat");
    let candidates = Candidates::new(
        &selector,
        of_chat.map(|found| (found.id.as_str(), found.zone.as_str(), found.id.as_str())),
    );
    let zone = selector.zone_name(selector.route_key("x_im", account).zone).to_owned();
    let chosen = selector.lookup("x_im", account, &candidates).map_or("no instance", |choice| *choice.item);
    format!("{account:<5} lands in {zone} on {chosen}")
}
