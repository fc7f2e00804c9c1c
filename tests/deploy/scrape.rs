//! What Prometheus gets from a gateway with the configuration of the containers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use gateway::gateway::Gateway;

use super::files::Files;

/// Longest wait for a gateway to begin, and between two looks.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);

/// Each series name with its labels, and the values each of them has.
pub type Families = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// As Prometheus stores them: `job` and `instance` say which gateway was asked, so an `instance` of the gateway's own
/// is called `exported_instance`.
pub fn families() -> &'static Families {
    static FAMILIES: LazyLock<Families> = LazyLock::new(|| {
        let mut families = parse(&render());
        families.insert("up".to_owned(), BTreeMap::new());
        for labels in families.values_mut() {
            if let Some(own) = labels.remove("instance") {
                labels.insert("exported_instance".to_owned(), own);
            }
            labels.insert("instance".to_owned(), BTreeSet::new());
            labels.insert("job".to_owned(), BTreeSet::from(["gateway".to_owned()]));
        }
        families
    });
    &FAMILIES
}

fn render() -> String {
    let (anywhere, nobody) = ("127.0.0.1:0", "127.0.0.1:1");
    let instances = format!(
        r#"[{{"service": "login", "id": "login01", "zone": "zone_a", "address": "{nobody}"}},
            {{"service": "chat", "id": "chat01", "zone": "zone_b", "address": "{nobody}"}}]"#
    );
    let overrides = [
        ("GATEWAY__QUIC__LISTEN", anywhere),
        ("GATEWAY__TCP__LISTEN", anywhere),
        ("GATEWAY__TCP__TLS_LISTEN", anywhere),
        ("GATEWAY__WEBSOCKET__LISTEN", anywhere),
        ("GATEWAY__WEBSOCKET__TLS_LISTEN", anywhere),
        ("GATEWAY__MONITOR__LISTEN", anywhere),
        ("GATEWAY__DISCOVERY__INSTANCES", &instances),
    ];
    let config = Files::read().config("config/compose.toml", &overrides);
    let gateway = Gateway::start(config).expect("free ports");
    // Shown only where keys are fetched, and once that went well.
    gateway.metrics().jwks().succeeded(1, 1);
    // A worker names its links once its thread runs.
    let by = Instant::now() + PATIENCE;
    loop {
        let text = gateway.metrics().render();
        let named = ["login01", "chat01"].iter().all(|id| text.contains(&format!("instance=\"{id}\"")));
        if named {
            return text;
        }
        assert!(Instant::now() < by, "no links within {PATIENCE:?}:\n{text}");
        std::thread::sleep(LOOK);
    }
}

fn parse(text: &str) -> Families {
    let mut families = Families::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _value) = line.rsplit_once(' ').expect("a value behind each series");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let family = families.entry(name.to_owned()).or_default();
        // No value of ours holds a comma or a quote.
        for pair in labels.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty()) {
            let (label, value) = pair.split_once('=').expect("label=\"value\"");
            family.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
    families
}

#[test]
fn every_kind_of_series_is_there() {
    let families = families();
    for (name, label) in [
        ("gateway_connections", "transport"),
        ("gateway_request_seconds_bucket", "le"),
        ("gateway_link_state", "exported_instance"),
        ("gateway_cert_not_after_seconds", "instance"),
    ] {
        assert!(families[name].contains_key(label), "{name} {label}");
    }
    assert!(families.len() > 30, "{}", families.len());
}
