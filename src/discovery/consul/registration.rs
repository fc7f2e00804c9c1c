//! The gateway's own entry in Consul: made once, looked after, and taken out first of all when the gateway drains.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;
use tracing::{info, warn};

use super::client::{ConsulClient, ConsulError};
use super::contact::Asker;
use crate::config::{Advertise, Config, Consul, HttpTarget, Register};
use crate::discovery::source::{BoundPorts, DiscoveryContext};
use crate::monitor::readiness::Readiness;

/// How often Consul asks for the gateway's health.
const CHECK_INTERVAL: &str = "2s";

/// How long it waits for the answer.
const CHECK_TIMEOUT: &str = "2s";

/// How often the gateway reports its readiness where Consul cannot ask for it.
const REPORT_INTERVAL: Duration = Duration::from_secs(3);

/// Without a report for so long Consul takes it for dead: three reports missed, and a second.
const REPORT_TTL: &str = "10s";

/// How often it is looked whether the entry is still there: an agent that lost its data has lost it.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// A gateway that is dead for so long is taken out; the shortest that Consul allows.
const FORGOTTEN_AFTER: &str = "1m";

/// How long the drain may wait for Consul to hear of it, and the share of the hard stop it may take.
const LEAVE: (Duration, u32) = (Duration::from_secs(1), 10);

/// How Consul learns whether the gateway is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Check {
    /// It asks there.
    Http(String),
    /// The gateway tells it.
    Report,
}

/// One entry.
#[derive(Clone)]
pub(super) struct Registration {
    id: String,
    /// Where the agent is.
    agent: (String, u16),
    definition: Value,
    check: Check,
    client: ConsulClient,
    asker: Asker,
    readiness: Arc<Readiness>,
    /// How long its leave may take.
    patience: Duration,
}

impl Registration {
    /// The entry of a gateway that listens there.
    pub(super) fn new(
        context: &DiscoveryContext,
        consul: &Consul,
        register: &Register,
        client: ConsulClient,
        asker: Asker,
    ) -> Self {
        let (config, listening) = (&*context.config, &context.listening);
        let readiness = Arc::clone(&context.readiness);
        let check = check(register, &consul.agent, listening);
        if check == Check::Report {
            info!(
                event = "consul_ttl_check",
                "Consul's agent could not reach monitor.listen, so the gateway reports its readiness itself; \
                 discovery.register.check_url names an address that it can reach"
            );
        }
        let definition = definition(config, register, listening, &check);
        let patience = LEAVE.0.min(config.drain_hard_stop / LEAVE.1);
        let (id, agent) = (config.id.clone(), (consul.agent.host.clone(), consul.agent.port));
        Self { id, agent, definition, check, client, asker, readiness, patience }
    }

    /// Returns `true` if this entry takes the place of that one: an agent has one of each id.
    pub(super) fn replaces(&self, last: &Self) -> bool {
        (&self.id, &self.agent) == (&last.id, &last.agent)
    }

    /// Keeps the entry in Consul until it is dropped.
    pub(super) async fn keep(mut self) {
        loop {
            match self.asker.ask(self.client.register(&self.definition)).await {
                Ok(()) => {
                    info!(event = "consul_registered", id = self.id);
                    self.look_after().await;
                    warn!(event = "consul_registration_lost", id = self.id, "registering again");
                }
                Err(_told) => self.asker.pause().await,
            }
        }
    }

    /// Ends when the agent no longer knows the entry.
    async fn look_after(&mut self) {
        loop {
            let known = match &self.check {
                Check::Report => {
                    let ready = self.readiness.verdict(Instant::now()).is_ready();
                    self.asker.ask(self.client.report(&check_id(&self.id), ready)).await
                }
                Check::Http(_) => self.asker.ask(self.client.is_registered(&self.id)).await,
            };
            match (known, &self.check) {
                (Ok(false), _) => return,
                (Ok(true), Check::Report) => sleep(REPORT_INTERVAL).await,
                (Ok(true), Check::Http(_)) => sleep(LOOK_INTERVAL).await,
                (Err(_told), _) => self.asker.pause().await,
            }
        }
    }

    /// Takes the entry out, within a short time or not at all.
    pub(super) async fn leave(&self) {
        match self.client.deregister(&self.id, self.patience).await {
            Ok(()) | Err(ConsulError::Status(404)) => info!(event = "consul_deregistered", id = self.id),
            Err(error) => warn!(
                event = "consul_not_deregistered",
                id = self.id,
                %error,
                "draining all the same; the entry is critical once the gateway has ended"
            ),
        }
    }
}

fn check_id(id: &str) -> String {
    format!("service:{id}")
}

/// Where an agent can ask for the readiness.
fn check(register: &Register, agent: &HttpTarget, listening: &BoundPorts) -> Check {
    if let Some(url) = &register.check_url {
        return Check::Http(url.clone());
    }
    let Some(monitor) = listening.monitor else { return Check::Report };
    let host = match (monitor.ip(), agent.is_local()) {
        (ip, false) if ip.is_loopback() => return Check::Report,
        (ip, true) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        (ip, false) if ip.is_unspecified() => bracketed(&register.advertise.host),
        (IpAddr::V6(ip), _) => format!("[{ip}]"),
        (IpAddr::V4(ip), _) => ip.to_string(),
    };
    Check::Http(format!("http://{host}:{}/ready", monitor.port()))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// What clients connect to, from the plainest to the most particular, and the ports they see.
struct Ports {
    protocol: &'static str,
    main: u16,
    /// Those of the other transports, by the key under which they are registered.
    others: [(&'static str, Option<u16>); 4],
}

/// The advertised port stands for the one that is listened on: that of TCP, without it TLS, then WebSocket, WebSocket on TLS
/// and QUIC; and for others of the same number.
fn ports(advertise: &Advertise, listening: &BoundPorts) -> Ports {
    let BoundPorts { tcp, tls, ws, wss, quic, .. } = *listening;
    let (protocol, main) = [("tcp", tcp), ("tls", tls), ("ws", ws), ("wss", wss), ("quic", quic)]
        .into_iter()
        .find_map(|(protocol, port)| Some((protocol, port?)))
        .unwrap_or(("tcp", 0));
    let seen = |port: u16| advertise.port.filter(|_| port == main).unwrap_or(port);
    let others = [("quic_port", quic), ("tls_port", tls), ("ws_port", ws), ("wss_port", wss)];
    Ports { protocol, main: seen(main), others: others.map(|(key, port)| (key, port.map(seen))) }
}

fn definition(config: &Config, register: &Register, listening: &BoundPorts, check: &Check) -> Value {
    let ports = ports(&register.advertise, listening);
    let host = &register.advertise.host;
    let own_domain = || format!("{}://{}:{}", ports.protocol, bracketed(host), ports.main);
    let mut meta = json!({
        "protocol": ports.protocol,
        "domain": register.domain.clone().unwrap_or_else(own_domain),
        "workers": config.workers.to_string(),
    });
    for (key, port) in ports.others {
        if let Some(port) = port {
            meta[key] = port.to_string().into();
        }
    }
    let mut check = match check {
        Check::Http(url) => json!({ "HTTP": url, "Interval": CHECK_INTERVAL, "Timeout": CHECK_TIMEOUT }),
        Check::Report => json!({ "TTL": REPORT_TTL }),
    };
    check["CheckID"] = check_id(&config.id).into();
    check["Name"] = "ready".into();
    check["DeregisterCriticalServiceAfter"] = FORGOTTEN_AFTER.into();
    json!({
        "ID": config.id,
        "Name": register.name,
        "Address": host,
        "Port": ports.main,
        "Tags": register.tags,
        "Meta": meta,
        "Check": check,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(check_url: Option<&str>, host: &str, port: Option<u16>) -> Register {
        let advertise = Advertise { host: host.to_owned(), port };
        Register {
            name: "tgateway".to_owned(),
            tags: Vec::new(),
            domain: None,
            check_url: check_url.map(str::to_owned),
            advertise,
        }
    }

    fn agent(host: &str) -> HttpTarget {
        HttpTarget::plain(host, 8500)
    }

    fn monitor(address: Option<&str>) -> BoundPorts {
        let monitor = address.map(|address| address.parse().unwrap());
        BoundPorts { tcp: Some(8000), tls: None, ws: None, wss: None, quic: None, monitor }
    }

    #[test]
    fn consul_asks_where_it_can_reach_the_monitor_and_is_told_where_it_cannot() {
        let http = |url: &str| Check::Http(url.to_owned());
        for (url, listen, consul, expected) in [
            (Some("http://a/ready"), None, "10.0.0.1", http("http://a/ready")),
            (None, Some("127.0.0.1:81"), "localhost", http("http://127.0.0.1:81/ready")),
            (None, Some("[::1]:81"), "::1", http("http://[::1]:81/ready")),
            (None, Some("127.0.0.1:81"), "10.0.0.1", Check::Report),
            (None, Some("10.0.0.7:81"), "10.0.0.1", http("http://10.0.0.7:81/ready")),
            (None, Some("0.0.0.0:81"), "127.0.0.1", http("http://127.0.0.1:81/ready")),
            (None, Some("[::]:81"), "10.0.0.1", http("http://gate.example.org:81/ready")),
            (None, None, "127.0.0.1", Check::Report),
        ] {
            let register = register(url, "gate.example.org", None);
            assert_eq!(check(&register, &agent(consul), &monitor(listen)), expected, "{listen:?} {consul}");
        }
    }

    #[test]
    fn the_advertised_port_stands_for_the_first_and_for_those_of_its_number() {
        let seen = |tcp, tls, quic, port| {
            let advertise = Advertise { host: "h".to_owned(), port };
            let listening = BoundPorts { tcp, tls, ws: Some(8444), wss: None, quic, monitor: None };
            let ports = ports(&advertise, &listening);
            let [(_, quic), (_, tls), ..] = ports.others;
            (ports.protocol, ports.main, tls, quic)
        };
        let (tcp, tls) = (Some(8000), Some(8443));
        assert_eq!(seen(tcp, tls, tcp, None), ("tcp", 8000, tls, tcp));
        assert_eq!(seen(tcp, tls, tcp, Some(80)), ("tcp", 80, tls, Some(80)));
        assert_eq!(seen(tcp, tls, Some(9000), Some(80)), ("tcp", 80, tls, Some(9000)));
        assert_eq!(seen(None, tls, tcp, Some(443)), ("tls", 443, Some(443), tcp));
        assert_eq!(seen(None, None, tcp, Some(80)), ("ws", 80, None, tcp));
    }
}
