//! A directory with the files of one gateway, which a test may change.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::config::{ConfigFile, Options, QuicKeys, TicketKeys};
use gateway::wire::dialect::Dialect;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::fake_logic::FakeLogic;
use crate::support::harness::TestGateway;
use crate::support::identity::{CERTIFICATES, SECRET};

/// Removed at the end.
pub(super) struct GatewayHome {
    pub(super) directory: PathBuf,
    /// Instance `chat02` of service `chat` in `zone_b`; the configuration names it once a test says so.
    pub(super) second: FakeLogic,
}

/// What a test may change of the configuration.
#[derive(Default)]
pub(super) struct ConfigLines<'a> {
    /// Lines of `[gateway]` behind the id.
    pub(super) gateway: &'a str,
    /// Lines of `[websocket]`.
    pub(super) websocket: &'a str,
    /// Lines of `[limits]`.
    pub(super) limits: &'a str,
    /// Sections of their own, and more instances.
    pub(super) more: &'a str,
}

/// One zone.
pub(super) const ALL_IN_A: &str = r#"{"zones":[{"id":"zone_a","weight":1}]}"#;

/// Half of the accounts in each.
pub(super) const HALVES: &str = r#"{"zones":[{"id":"zone_a","weight":1},{"id":"zone_b","weight":1}]}"#;

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

impl GatewayHome {
    /// A gateway with all transports over one login and one chat instance, and its files.
    pub(super) async fn start() -> (Self, TestGateway) {
        let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
        Self::with(login, chat, HALVES, |home, harness| home.configure(harness, &ConfigLines::default()))
            .await
    }

    /// The same with a route and a configuration of the test's own.
    pub(super) async fn with(
        login: FakeLogic,
        chat: FakeLogic,
        route: &str,
        configure: impl FnOnce(&Self, (&FakeLogic, &FakeLogic)),
    ) -> (Self, TestGateway) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("gateway-reload-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let home = Self { directory, second: FakeLogic::start(Dialect::XIm) };
        home.write("quic.keys", QuicKeys::generate().unwrap().to_text());
        home.write("jwt.secret", SECRET);
        home.write("ticket.keys", TicketKeys::generate().unwrap().to_text());
        home.certificate(&CERTIFICATES.server, &CERTIFICATES.key);
        home.write("route.json", route);
        configure(&home, (&login, &chat));
        let options = Options { base: home.directory.clone(), ..Options::default() };
        let file = ConfigFile { path: home.directory.join("gateway.toml"), options };
        let harness = TestGateway::of_file(file, login, chat).await;
        (home, harness)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.directory.join(name), content).unwrap();
    }

    pub(super) fn certificate(&self, certificate: &CertificateDer<'_>, key: &PrivateKeyDer<'_>) {
        self.write("server.pem", pem("CERTIFICATE", certificate));
        self.write("server.key", pem("PRIVATE KEY", key.secret_der()));
    }

    /// The configuration of a gateway in this directory over these services.
    pub(super) fn configure(&self, (login, chat): (&FakeLogic, &FakeLogic), keys: &ConfigLines<'_>) {
        let ConfigLines { gateway, websocket, limits, more } = keys;
        let mut text = format!(
            "[gateway]\nid = \"gate01\"\n{gateway}\n[quic]\nlisten = \"127.0.0.1:0\"\nkey_file = \"quic.keys\"\n\
             [tcp]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\n\
             [websocket]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\n{websocket}\n\
             [tls]\ncert = \"server.pem\"\nkey = \"server.key\"\nticket_key_file = \"ticket.keys\"\n\
             [auth]\nsecret_file = \"jwt.secret\"\n\
             [route]\nfile = \"route.json\"\n[monitor]\nlisten = \"127.0.0.1:0\"\n[drain]\nwindow = \"0s\"\n\
             [limits]\naccount_logins_per_second = 0\nframes_per_second = 0\nbytes_per_second = 0\n{limits}\n"
        );
        for (service, id, zone, address) in
            [("login", "login01", "zone_a", login.address), ("chat", "chat01", "zone_a", chat.address)]
        {
            text += &instance(service, id, zone, &address.to_string());
        }
        self.write("gateway.toml", text + more);
    }

    /// The lines that name [`GatewayHome::second`].
    pub(super) fn second(&self) -> String {
        instance("chat", "chat02", "zone_b", &self.second.address.to_string())
    }
}

/// An entry of the list of instances.
pub(super) fn instance(service: &str, id: &str, zone: &str, address: &str) -> String {
    format!(
        "[[discovery.instances]]\nservice = \"{service}\"\nid = \"{id}\"\nzone = \"{zone}\"\naddress = \"{address}\"\n"
    )
}

impl Drop for GatewayHome {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.directory);
    }
}
