//! docker-compose.yml, and what its services are told about each other.

use std::time::Duration;

use gateway::config::Config;
use gateway::limits::RESERVED_FILES;
use serde_json::Value;

use super::files::{Files, root};

const NAME: &str = "docker-compose.yml";

pub fn check(files: &Files, found: &mut Vec<String>) {
    let compose = files.yaml(NAME);
    let config = files.config("config/compose.toml", &[]);
    let mut fail = |problem: String| found.push(format!("{NAME}: {problem}"));
    gateway(&compose, &config, &mut fail);
    instances(&compose, &config, &mut fail);
    files_and_images(&compose, files, &mut fail);
    targets(&compose, &config, files, &mut fail);
    networks(&compose, &mut fail);
    operations(files, &mut fail);
}

/// The ports clients connect to, as `8000/udp`.
pub fn listeners(config: &Config) -> Vec<String> {
    let quic = config.quic.iter().flat_map(|quic| &quic.listen).map(|address| (address, "udp"));
    let tls = config.tls.iter().flat_map(|tls| &tls.listen).map(|address| (address, "tcp"));
    let tcp = config.tcp.iter().map(|address| (address, "tcp"));
    let websocket = config.websocket.iter().flat_map(|websocket| {
        websocket.listen.iter().chain(websocket.tls.iter().flat_map(|tls| &tls.listen))
    });
    let websocket = websocket.map(|address| (address, "tcp"));
    quic.chain(tcp)
        .chain(tls)
        .chain(websocket)
        .map(|(address, kind)| format!("{}/{kind}", address.port()))
        .collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

fn service<'a>(compose: &'a Value, name: &str) -> &'a Value {
    compose["services"].get(name).unwrap_or_else(|| panic!("{NAME}: no service {name}"))
}

fn gateway(compose: &Value, config: &Config, fail: &mut impl FnMut(String)) {
    let gateway = service(compose, "gateway");
    let published = texts(&gateway["ports"]);
    let inside: Vec<&str> = published.iter().filter_map(|port| port.rsplit(':').next()).collect();
    for port in listeners(config) {
        if !inside.contains(&port.as_str()) {
            fail(format!("{port} is listened on and not published"));
        }
    }
    for port in &inside {
        if !listeners(config).iter().any(|listened| listened == port) {
            fail(format!("{port} is published and nobody listens there"));
        }
    }
    let monitor = config.monitor.map(|address| address.port()).unwrap_or_default();
    if inside.contains(&format!("{monitor}/tcp").as_str()) {
        fail("the monitor is published".to_owned());
    }
    let websocket = config.websocket.iter().flat_map(|websocket| &websocket.listen);
    for address in config.tcp.iter().chain(websocket) {
        let open = published
            .iter()
            .find(|port| port.ends_with(&format!(":{}/tcp", address.port())) && !port.starts_with("127."));
        if let Some(open) = open {
            fail(format!("{open} publishes a plain listener beyond this machine"));
        }
    }
    if texts(&gateway["healthcheck"]["test"]) != ["CMD", "gateway", "health", "--ready"] {
        fail("the healthcheck of gateway does not ask whether the configured one is ready".to_owned());
    }
    let grace = gateway["stop_grace_period"].as_str().and_then(|text| humantime::parse_duration(text).ok());
    if grace < Some(config.drain_hard_stop) || grace < Some(Duration::from_secs(40)) {
        fail(format!("stop_grace_period {grace:?} is too short for a drain"));
    }
    let needed = config.limits.max_connections as u64 + RESERVED_FILES;
    for limit in ["soft", "hard"] {
        if gateway["ulimits"]["nofile"][limit].as_u64() < Some(needed) {
            fail(format!("nofile {limit} is below limits.max_connections and {RESERVED_FILES}: {needed}"));
        }
    }
}

/// Each instance of the configuration is a listener of the service its host names, and the other way round.
fn instances(compose: &Value, config: &Config, fail: &mut impl FnMut(String)) {
    let mut listeners = Vec::new();
    for (name, service) in compose["services"].as_object().expect("services") {
        for argument in texts(&service["command"]) {
            if let Some(listener) = argument.strip_prefix("--serve=") {
                let (kind, address) = listener.rsplit_once('=').unwrap_or_default();
                listeners.push(match address.strip_prefix("0.0.0.0:") {
                    Some(port) => format!("{kind} at {name}:{port}"),
                    None => format!("{listener} of {name}, which other containers cannot reach"),
                });
            }
        }
    }
    let mut wanted: Vec<String> = config
        .instances
        .iter()
        .map(|instance| format!("{}@{} at {}", instance.service, instance.zone, instance.address))
        .collect();
    wanted.sort();
    listeners.sort();
    if wanted != listeners {
        fail(format!("logic services listen as {listeners:?}, config/compose.toml expects {wanted:?}"));
    }
}

/// What is mounted is there and where it is looked for; images are pinned.
fn files_and_images(compose: &Value, files: &Files, fail: &mut impl FnMut(String)) {
    for (name, service) in compose["services"].as_object().expect("services") {
        let image = service["image"].as_str().unwrap_or_default();
        let tag = image.rsplit_once(':').map(|(_, tag)| tag).unwrap_or("latest");
        let exact = service["build"].is_object() || tag.contains(|c: char| c.is_ascii_digit());
        if tag == "latest" || !exact {
            fail(format!("{name}: the image {image:?} is not pinned, it is of tag {tag}"));
        }
        for mount in texts(&service["volumes"]) {
            let source = mount.split(':').next().unwrap_or_default();
            if source.starts_with("./") && !root().join(source).exists() {
                fail(format!("{name}: {source} is mounted and not there"));
            } else if !source.starts_with(['.', '~']) && compose["volumes"].get(source).is_none() {
                fail(format!("{name}: the volume {source} is not declared"));
            }
        }
    }
    let home = files
        .text("Dockerfile")
        .lines()
        .find_map(|line| line.strip_prefix("WORKDIR /srv"))
        .map(|path| format!("/srv{path}"))
        .unwrap_or_default();
    let certificate =
        files.toml("config/compose.toml")["tls"]["cert"].as_str().unwrap_or_default().to_owned();
    let directory = certificate.rsplit_once('/').map(|(directory, _)| directory).unwrap_or_default();
    for (name, mode) in [("certs", ""), ("gateway", ":ro")] {
        let wanted = format!("certs:{home}/{directory}{mode}");
        if !texts(&service(compose, name)["volumes"]).contains(&wanted.as_str()) {
            fail(format!("{name} does not have the certs where {certificate} is: {wanted}"));
        }
    }
    let arguments = texts(&service(compose, "gateway")["command"]);
    // Not by an argument, which the health check would not know.
    let config =
        service(compose, "gateway")["environment"]["GATEWAY_CONFIG"].as_str().unwrap_or_default().to_owned();
    if arguments != ["serve"] || config != "config/compose.toml" {
        fail(format!("gateway is run with {arguments:?} and the configuration {config:?}"));
    }
    let prometheus = texts(&service(compose, "prometheus")["volumes"]);
    if !prometheus.contains(&"~/data/prometheus:/prometheus") {
        fail("Prometheus does not keep its data in ~/data/prometheus".to_owned());
    }
}

/// Prometheus asks the monitor, Grafana asks Prometheus and finds its dashboards.
fn targets(compose: &Value, config: &Config, files: &Files, fail: &mut impl FnMut(String)) {
    let Some(monitor) = config.monitor else { return fail("config/compose.toml has no monitor".to_owned()) };
    if monitor.ip().is_loopback() {
        fail(format!("the monitor listens on {monitor}, the loopback of its container"));
    }
    let prometheus = files.yaml("prometheus.yml");
    let mut all = Vec::new();
    for job in prometheus["scrape_configs"].as_array().expect("scrape_configs") {
        for group in job["static_configs"].as_array().expect("static_configs") {
            all.extend(texts(&group["targets"]).into_iter().map(|target| (job["job_name"].clone(), target)));
        }
    }
    let wanted = format!("gateway:{}", monitor.port());
    if !all.iter().any(|(job, target)| job == "gateway" && *target == wanted) {
        fail(format!("prometheus.yml does not scrape {wanted} as job gateway"));
    }
    for (_, target) in all.iter().filter(|(_, target)| *target != wanted && *target != "localhost:9090") {
        fail(format!("prometheus.yml scrapes {target}, where nobody listens"));
    }
    let source = files.yaml("grafana/provisioning/datasources/prometheus.yml");
    let url = source["datasources"][0]["url"].as_str().unwrap_or_default();
    if url != "http://prometheus:9090" {
        fail(format!("Grafana looks for Prometheus at {url}"));
    }
    let provider = files.yaml("grafana/provisioning/dashboards/gateway.yml");
    let path = provider["providers"][0]["options"]["path"].as_str().unwrap_or_default();
    let grafana = service(compose, "grafana");
    if !texts(&grafana["volumes"]).contains(&format!("./grafana/dashboards:{path}:ro").as_str()) {
        fail(format!("Grafana looks for dashboards in {path}, where none are mounted"));
    }
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str();
    if home != Some(&format!("{path}/gateway.json")) {
        fail(format!("the dashboard Grafana begins with is {home:?}"));
    }
}

/// Logic services and the monitor stand in a network that leads nowhere; what is published for people is on loopback.
fn networks(compose: &Value, fail: &mut impl FnMut(String)) {
    let is_internal = |name: &str| compose["networks"][name]["internal"] == true;
    let shared = |other: &str| {
        let of_gateway = texts(&service(compose, "gateway")["networks"]);
        texts(&service(compose, other)["networks"])
            .into_iter()
            .filter(|name| of_gateway.contains(name))
            .all(is_internal)
    };
    for other in ["logic", "prometheus", "grafana"] {
        if !shared(other) {
            fail(format!("{other} meets the gateway in a network that is not internal"));
        }
    }
    if !texts(&service(compose, "logic")["networks"]).into_iter().all(is_internal) {
        fail("logic is in a network that is not internal".to_owned());
    }
    for name in ["prometheus", "grafana"] {
        for port in texts(&service(compose, name)["ports"]) {
            if !port.starts_with("127.0.0.1:") {
                fail(format!("{name} is published beyond this machine: {port}"));
            }
        }
    }
}

/// What docs/operations.md shows is what config/gateway.toml and the containers expect.
fn operations(files: &Files, fail: &mut impl FnMut(String)) {
    let text = files.text("docs/operations.md").replace("\\\n", " ");
    let shown: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("gateway logic --serve"))
        .flat_map(|line| line.split("--serve ").skip(1))
        .map(str::trim)
        .collect();
    let config = files.config("config/gateway.toml", &[]);
    let wanted: Vec<String> = config
        .instances
        .iter()
        .map(|instance| format!("{}@{}={}", instance.service, instance.zone, instance.address))
        .collect();
    if shown != wanted {
        fail(format!("docs/operations.md serves {shown:?}, config/gateway.toml expects {wanted:?}"));
    }
    for needed in ["mkdir -p ~/data/prometheus", "chown 65534:65534 ~/data/prometheus"] {
        if !text.contains(needed) {
            fail(format!("docs/operations.md does not say `{needed}`"));
        }
    }
}
