//! The files, as text, so that a test can plant a fault in one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gateway::config::{self, Config, Options};
use serde_json::Value;

const NAMES: &[&str] = &[
    ".dockerignore",
    "Cargo.toml",
    "Dockerfile",
    "alerts.yml",
    "config/compose.toml",
    "config/gateway.toml",
    "config/route.json",
    "deploy/debian/gateway.toml",
    "deploy/debian/postinst",
    "deploy/helm/gateway/Chart.yaml",
    "deploy/systemd/gateway.service",
    "deploy/systemd/sysctl.d/60-gateway.conf",
    "deploy/systemd/sysusers.d/gateway.conf",
    "docker-compose.yml",
    "docs/operations.md",
    "docs/runbooks.md",
    "grafana/dashboards/gateway.json",
    "grafana/provisioning/dashboards/gateway.yml",
    "grafana/provisioning/datasources/prometheus.yml",
    "prometheus.yml",
    "tests/deploy/rendered.yaml",
];

pub struct Files(BTreeMap<&'static str, String>);

impl Files {
    pub fn read() -> Self {
        let read = |name: &&'static str| {
            let text =
                std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            (*name, text)
        };
        Self(NAMES.iter().map(read).collect())
    }

    /// The same with every `from` in one file replaced.
    pub fn with(mut self, name: &str, from: &str, to: &str) -> Self {
        let text = self.0.get_mut(name).unwrap_or_else(|| panic!("no {name} here"));
        assert!(text.contains(from), "{name} has no {from}");
        *text = text.replace(from, to);
        self
    }

    pub fn text(&self, name: &str) -> &str {
        &self.0[name]
    }

    pub fn yaml(&self, name: &str) -> Value {
        serde_saphyr::from_str(self.text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(self.text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn toml(&self, name: &str) -> toml::Value {
        toml::from_str(self.text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// [`config`] of a whole file.
    pub fn config(&self, name: &str, overrides: &[(&str, &str)]) -> Config {
        config(self.text(name), name, overrides)
    }
}

/// A configuration as the gateway would accept it, over certificates made for this test, with these overrides.
pub fn config(text: &str, name: &str, overrides: &[(&str, &str)]) -> Config {
    let environment = overrides.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    let options = Options { base: place(), ..Options::with_environment(environment) };
    config::parse(text, name, &options).unwrap_or_else(|error| panic!("{error}")).config
}

/// Whether bans outlive the process: they stand beside the state file, which does.
pub fn keeps_bans(config: &Config) -> bool {
    let place = config.admin.bans_file.as_deref().and_then(Path::parent);
    place.is_some() && place == config.state_file.as_deref().and_then(Path::parent)
}

/// The repository's root: where cargo runs the tests, which need not be where they were compiled.
pub fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// A directory with everything a configuration names.
fn place() -> PathBuf {
    static PLACE: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy");
        gateway::certs::ensure(&place.join("certs/dev")).expect("certificates");
        std::fs::create_dir_all(place.join("config")).expect("a directory");
        std::fs::copy(root().join("config/route.json"), place.join("config/route.json")).expect("the route");
        place
    });
    PLACE.clone()
}

/// A directory of this name that stands for the root of a system on which the gateway is installed with this route: what pods and the Debian
/// package have in `/etc/gateway` and `/var/lib/gateway`.
pub fn system(name: &str, route: &str) -> PathBuf {
    let system = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy").join(name);
    let certs = system.join("made");
    gateway::certs::ensure(&certs).expect("certificates");
    // Renamed into place: tests run side by side.
    let put = |name: &str, content: &[u8]| {
        let path = system.join(name);
        std::fs::create_dir_all(path.parent().expect("a directory above")).expect("a directory");
        let fresh = path.with_extension(format!("{:?}", std::thread::current().id()));
        std::fs::write(&fresh, content).expect("a file");
        std::fs::rename(fresh, path).expect("a file");
    };
    for (made, names) in [
        ("server.pem", &["etc/gateway/tls/tls.crt", "etc/gateway/tls/server.pem"][..]),
        ("server.key", &["etc/gateway/tls/tls.key", "etc/gateway/tls/server.key"]),
        ("jwt.secret", &["etc/gateway/secrets/jwt.secret", "etc/gateway/tls/jwt.secret"]),
        ("quic.keys", &["var/lib/gateway/quic.keys"]),
    ] {
        let content = std::fs::read(certs.join(made)).expect("it was made");
        names.iter().for_each(|name| put(name, &content));
    }
    put("etc/gateway/config/route.json", route.as_bytes());
    put("etc/gateway/route.json", route.as_bytes());
    system
}
