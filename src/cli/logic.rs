//! `gateway logic`: the embedded login and chat services in a process of their own, for gateways started by `serve`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context as _;
use gateway::config::{Log, LogFormat};
use gateway::wire::dialect::Dialect;
use gateway_messenger::{Embedded, EmbeddedInstance};
use tracing::{info, warn};

use crate::cli::check::refuse;
use crate::cli::log;
use crate::cli::output;
use crate::cli::shutdown::{EXIT_INTERRUPTED, Signals};

/// The services that are embedded here.
const SERVICES: [&str; 2] = ["login", "chat"];

/// Longest zone name, bytes, as for the names of a configuration.
const MAX_ZONE: usize = 64;

/// What is allowed after `--serve`, for every refusal.
const FORM: &str = "allowed is SERVICE@ZONE=ADDRESS:PORT, such as chat@zone_a=127.0.0.1:9002";

/// Shown when nothing is to be served: what `config/gateway.toml` expects.
const EXAMPLE: &str = "gateway logic --serve login@zone_a=127.0.0.1:9001 --serve chat@zone_a=127.0.0.1:9002 \
                       --serve chat@zone_b=127.0.0.1:9003";

/// Arguments of `gateway logic`.
#[derive(Debug, clap::Args)]
pub(crate) struct LogicArgs {
    /// A listener: service (login or chat), zone, and where gateways dial it; may be repeated. All of them share one
    /// memory, which ends with the process
    #[arg(long = "serve", value_name = "SERVICE@ZONE=ADDR")]
    pub(crate) serve: Vec<ServeArg>,
    /// What the gateways have for these instances: x_im or kim
    #[arg(long, default_value_t = Dialect::XIm, value_parser = parse_dialect)]
    pub(crate) dialect: Dialect,
}

/// A dialect by its name.
pub(crate) fn parse_dialect(text: &str) -> Result<Dialect, String> {
    text.parse().map_err(|_| "allowed are x_im and kim".to_owned())
}

/// One `--serve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServeArg {
    service: String,
    /// Only shown: the zone of an instance is what the gateway's configuration says.
    zone: String,
    address: SocketAddr,
}

impl FromStr for ServeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@').and_then(|(service, rest)| Some((service, rest.rsplit_once('=')?)));
        let Some((service, (zone, address))) = parts else { return Err(FORM.to_owned()) };
        if !SERVICES.contains(&service) {
            return Err(format!("there is no service {service:?} here, only login and chat; {FORM}"));
        }
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '"' | '\\');
        if zone.is_empty() || zone.len() > MAX_ZONE || !zone.chars().all(plain) {
            return Err(format!(
                "{zone:?} is no zone: 1 to {MAX_ZONE} bytes without spaces and quotes; {FORM}"
            ));
        }
        let address = address
            .parse()
            .map_err(|_| format!("{address:?} is no IP address with a port (IPv6 as [::1]:9002); {FORM}"))?;
        Ok(Self { service: service.to_owned(), zone: zone.to_owned(), address })
    }
}

/// A listener that is bound, with the name it gets in a configuration.
struct BoundListener {
    id: String,
    wanted: ServeArg,
    socket: TcpListener,
    address: SocketAddr,
}

/// Serves gateways until a signal. Exit codes: 64 for arguments that make no sense, 1 for a start that failed, 0 for an
/// orderly end, 130 when a second SIGINT cut it short.
///
/// # Errors
/// An address that cannot be listened on, or a machine that gives no runtime.
pub(crate) fn run(args: &LogicArgs) -> anyhow::Result<ExitCode> {
    if args.serve.is_empty() {
        let missing = format_args!("nothing to serve: --serve is missing, for example\n  {EXAMPLE}");
        return Ok(refuse(missing));
    }
    if let Some(twice) = stands_twice(&args.serve) {
        return Ok(refuse(format_args!("--serve: {twice} stands twice; allowed is each address once")));
    }
    let (_log, _level) = log::start(Log { format: LogFormat::Text, level: tracing::Level::INFO })?;
    // One thread, as in `dev`: what it stores is stored in one order, and the other cores are the gateway's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let bound = bind(&args.serve)?;
        let page = start_page(&bound, args.dialect)?;
        let services = Embedded::start(embed(bound, args.dialect)?).context("cannot start the services")?;
        output::tell(page);
        let _drain = signals.next().await;
        tokio::select! {
            () = services.shutdown() => {
                info!(event = "stopped", orderly = true);
                Ok(ExitCode::SUCCESS)
            }
            _hurry = signals.next() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
        }
    })
}

/// An address that two listeners name. Port 0 is another one each time.
fn stands_twice(serve: &[ServeArg]) -> Option<SocketAddr> {
    let repeated = serve.iter().enumerate().find(|(index, listener)| {
        let earlier = &serve[..*index];
        listener.address.port() != 0 && earlier.iter().any(|other| other.address == listener.address)
    });
    repeated.map(|(_, listener)| listener.address)
}

/// Binds all of them, or none: `login01`, `chat01`, `chat02`, … in the order given.
fn bind(serve: &[ServeArg]) -> anyhow::Result<Vec<BoundListener>> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let bind_one = |wanted: &ServeArg, number: usize| -> anyhow::Result<BoundListener> {
        let ServeArg { service, zone, address } = wanted;
        let socket = TcpListener::bind(address).map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::AddrInUse => "; stop what listens there, or choose another port",
                std::io::ErrorKind::PermissionDenied => "; choose a port of 1024 or above",
                _ => "",
            };
            anyhow::anyhow!("--serve {service}@{zone}: cannot listen on {address}: {error}{hint}")
        })?;
        let address = socket.local_addr()?;
        Ok(BoundListener { id: format!("{service}{number:02}"), wanted: wanted.clone(), socket, address })
    };
    serve
        .iter()
        .map(|wanted| {
            let number = numbers.entry(&wanted.service).or_default();
            *number += 1;
            bind_one(wanted, *number)
        })
        .collect()
}

fn embed(bound: Vec<BoundListener>, dialect: Dialect) -> anyhow::Result<Vec<EmbeddedInstance>> {
    let embed_one = |bound: BoundListener| -> anyhow::Result<EmbeddedInstance> {
        let BoundListener { id, wanted: ServeArg { service, zone, .. }, socket, address } = bound;
        info!(event = "listening", service, instance = id, zone, %address);
        if !address.ip().is_loopback() {
            warn!(
                event = "config",
                "--serve {service}@{zone}: links on {address} are plain; keep it on a private network"
            );
        }
        socket.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(socket)?;
        Ok(EmbeddedInstance { service, listener, dialect })
    };
    bound.into_iter().map(embed_one).collect()
}

/// Where each listens, and the lines by which a gateway finds it.
fn start_page(bound: &[BoundListener], dialect: Dialect) -> anyhow::Result<String> {
    let mut page = format!("gateway {} (logic services, in memory)\n\n", env!("CARGO_PKG_VERSION"));
    for BoundListener { id, wanted, address, .. } in bound {
        writeln!(page, "listening {} {id} in {} at {address}", wanted.service, wanted.zone)?;
    }
    writeln!(page, "\nthe lines of gateway.toml that lead a gateway to them:\n")?;
    for BoundListener { id, wanted, address, .. } in bound {
        let ServeArg { service, zone, .. } = wanted;
        writeln!(page, "[[discovery.instances]]\nservice = \"{service}\"\nid = \"{id}\"")?;
        if address.ip().is_unspecified() {
            let port = address.port();
            writeln!(page, "address = \"HOST:{port}\"   # a name or an address of this machine")?;
        } else {
            writeln!(page, "address = \"{address}\"")?;
        }
        writeln!(page, "zone = \"{zone}\"")?;
        if dialect != Dialect::default() {
            writeln!(page, "dialect = \"{dialect}\"")?;
        }
        page.push('\n');
    }
    writeln!(page, "ready; Ctrl-C ends it, and forgets every message")?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_service_zone_and_address() {
        let read = |text: &str| text.parse::<ServeArg>();
        let chat = read("chat@zone_a=127.0.0.1:9002").unwrap();
        assert_eq!(
            (chat.service.as_str(), chat.zone.as_str(), chat.address.port()),
            ("chat", "zone_a", 9002)
        );
        assert!(read("login@eu=1=[::1]:9001").unwrap().zone == "eu=1", "the address is behind the last '='");
        for (text, says) in [
            ("", "SERVICE@ZONE"),
            ("chat", "SERVICE@ZONE"),
            ("chat=127.0.0.1:9002", "SERVICE@ZONE"),
            ("chat@zone_a", "SERVICE@ZONE"),
            ("chats@zone_a=127.0.0.1:9002", "no service \"chats\""),
            ("@zone_a=127.0.0.1:9002", "no service \"\""),
            ("chat@=127.0.0.1:9002", "\"\" is no zone"),
            ("chat@zone a=127.0.0.1:9002", "\"zone a\" is no zone"),
            ("chat@zone_a=localhost:9002", "\"localhost:9002\" is no IP address"),
            ("chat@zone_a=127.0.0.1", "\"127.0.0.1\" is no IP address"),
            ("chat@zone_a=127.0.0.1:70000", "is no IP address"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
            assert!(error.contains("such as chat@zone_a=127.0.0.1:9002"), "{text}: {error}");
        }
        let long = format!("chat@{}=127.0.0.1:9002", "z".repeat(MAX_ZONE + 1));
        assert!(read(&long).unwrap_err().contains("no zone"));
    }

    #[test]
    fn the_example_is_what_the_shipped_configuration_expects() {
        let text: toml::Value = toml::from_str(include_str!("../../config/gateway.toml")).unwrap();
        let of = |entry: &toml::Value, key: &str| entry[key].as_str().unwrap().to_owned();
        let expected: Vec<ServeArg> = text["discovery"]["instances"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| ServeArg {
                service: of(entry, "service"),
                zone: of(entry, "zone"),
                address: of(entry, "address").parse().unwrap(),
            })
            .collect();
        let shown: Vec<ServeArg> =
            EXAMPLE.split(" --serve ").skip(1).map(|listener| listener.parse().unwrap()).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_address_stands_once_but_any_free_port_as_often_as_you_like() {
        let of = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<ServeArg>>();
        let twice = of(&["login@a=127.0.0.1:9001", "chat@a=127.0.0.1:9002", "chat@b=127.0.0.1:9001"]);
        assert_eq!(stands_twice(&twice), Some("127.0.0.1:9001".parse().unwrap()));
        assert_eq!(stands_twice(&of(&["chat@a=127.0.0.1:9001", "chat@a=127.0.0.2:9001"])), None);
        assert_eq!(stands_twice(&of(&["chat@a=127.0.0.1:0", "chat@b=127.0.0.1:0"])), None);
    }

    #[test]
    fn a_listener_on_every_address_is_named_as_one_to_fill_in() {
        let bound = bind(&["chat@zone_b=0.0.0.0:0".parse().unwrap()]).unwrap();
        let page = start_page(&bound, Dialect::Kim).unwrap();
        let port = bound[0].address.port();
        assert!(page.contains(&format!("address = \"HOST:{port}\"")), "{page}");
        assert!(page.contains("dialect = \"kim\""), "{page}");
    }
}
