//! Reloads: what is read again comes into effect while everybody stays connected, or nothing does (rows F5, F6, F17).

use std::net::SocketAddr;
use std::time::Duration;

use gateway::config::TicketKeys;
use gateway::wire::dialect::Dialect;
use gateway::wire::pb;
use rstest::rstest;
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use self::home::{ALL_IN_A, ConfigLines, GatewayHome, HALVES, instance};
use crate::resumption::Returning;
use crate::support::fake_logic::FakeLogic;
use crate::support::harness::TestGateway;
use crate::support::identity::{self, ALPN, CERTIFICATES, HTTP_ALPN, claims, signed, token};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::Raw;
use crate::support::soon;
use crate::support::webhook::Webhook;
use crate::support::websocket::{read_head, upgrade_request};

mod consul;
mod home;
mod rotation;

const SYSTEM_EXCEPTION: i32 = pb::Status::SystemException as i32;
const UNAUTHENTICATED: i32 = pb::Status::Unauthenticated as i32;
const INVALID_COMMAND: i32 = pb::Status::InvalidCommand as i32;

impl GatewayHome {
    fn configured(&self, harness: &TestGateway, keys: &ConfigLines<'_>) {
        self.configure((&harness.login, &harness.chat), keys);
    }
}

/// The lines of a reload that must succeed.
fn reloaded(harness: &TestGateway) -> Vec<String> {
    let report = harness.reload().unwrap();
    assert!(!report.is_pending, "{report}");
    report.changed
}

/// What is wrong with one that must fail.
fn refused(harness: &TestGateway) -> String {
    harness.reload().unwrap_err().to_string()
}

async fn talks(client: &mut Raw) {
    let sequence = client.talk("bob", "still here").await;
    assert_eq!(client.response(sequence).await.header.status, 0);
}

/// The status of a request.
async fn ask(client: &mut Raw, command: &str) -> i32 {
    let sequence = client.request(command, "bob", b"").await;
    client.response(sequence).await.header.status
}

async fn sign_in(harness: &TestGateway, token: &str) -> i32 {
    let mut client = harness.connect(Tcp).await;
    let sequence = client.signin(token).await;
    client.response(sequence).await.header.status
}

/// What a new client over TLS is shown.
async fn shown_over_tls(harness: &TestGateway) -> CertificateDer<'static> {
    shown_at(harness.target.tls, ALPN).await
}

/// The same over WebSocket.
async fn shown_over_wss(harness: &TestGateway) -> CertificateDer<'static> {
    shown_at(harness.target.wss, HTTP_ALPN).await
}

async fn shown_at(address: SocketAddr, alpn: &[u8]) -> CertificateDer<'static> {
    let socket = TcpStream::connect(address).await.unwrap();
    let stream = identity::tls_connect(socket, &[alpn]).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// The same over QUIC.
async fn shown_over_quic(harness: &TestGateway) -> CertificateDer<'static> {
    let client = harness.connect(QuicOne).await;
    let identity = client.quic().1.peer_identity().unwrap();
    identity.downcast::<Vec<CertificateDer<'static>>>().unwrap()[0].clone()
}

#[tokio::test]
async fn f17_a_reload_without_a_change_says_so_and_changes_nothing() {
    let (_home, harness) = GatewayHome::start().await;
    let (mut alice, _) = harness.client(QuicMany, "alice").await;
    let report = harness.reload().unwrap();
    assert_eq!((report.changed.len(), report.needs_restart.len()), (0, 0), "{report}");
    talks(&mut alice).await;
}

#[tokio::test]
async fn f17_a_new_certificate_is_shown_to_new_handshakes_and_old_connections_live() {
    let (home, harness) = GatewayHome::start().await;
    let mut clients = Vec::new();
    for (kind, account) in [(Tls, "alice"), (QuicMany, "bob"), (Wss, "carol")] {
        clients.push(harness.client(kind, account).await.0);
    }
    assert_eq!(shown_over_tls(&harness).await, CERTIFICATES.server);
    let (renewed, key) = CERTIFICATES.renewed();
    home.certificate(&renewed, &key);
    let changed = reloaded(&harness);
    assert!(matches!(&changed[..], [line] if line.starts_with("certificate: ends 4096-")), "{changed:?}");
    assert_eq!(shown_over_tls(&harness).await, renewed);
    assert_eq!(shown_over_wss(&harness).await, renewed);
    assert_eq!(shown_over_quic(&harness).await, renewed);
    for client in &mut clients {
        talks(client).await;
    }
}

#[rstest]
#[tokio::test]
async fn f17_c28_tickets_stay_good_over_a_renewed_certificate_and_a_rotation_of_their_keys(
    #[values(Tls, Wss, QuicMany)] kind: Kind,
) {
    let (home, harness) = GatewayHome::start().await;
    let keys = TicketKeys::generate().unwrap();
    home.write("ticket.keys", keys.to_text());
    assert_eq!(reloaded(&harness), ["TLS tickets: other keys"]);
    let mut client = Returning::new();
    assert!(!client.comes(kind, &harness.target).await);
    let (renewed, key) = CERTIFICATES.renewed();
    home.certificate(&renewed, &key);
    assert_eq!(reloaded(&harness).len(), 1);
    assert!(client.comes(kind, &harness.target).await, "it was spared the new certificate");
    home.write("ticket.keys", keys.rotated().unwrap().to_text());
    assert_eq!(reloaded(&harness), ["TLS tickets: other keys"]);
    assert!(client.comes(kind, &harness.target).await, "the older keys are still taken");
    home.write("ticket.keys", TicketKeys::generate().unwrap().to_text());
    assert_eq!(reloaded(&harness).len(), 1);
    assert!(!client.comes(kind, &harness.target).await, "its key is gone");
}

#[tokio::test]
async fn f17_the_tokens_of_a_key_that_is_gone_are_refused_and_whoever_is_signed_in_stays() {
    let (home, harness) = GatewayHome::start().await;
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    let other = b"another secret of the tests, 32.";
    let new = signed(&claims("bob"), jsonwebtoken::Algorithm::HS256, other);
    assert_eq!(sign_in(&harness, &new).await, UNAUTHENTICATED);
    home.write("jwt.secret", other);
    let changed = reloaded(&harness);
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!(changed[0], "auth: keys: new one without an id; gone one without an id");
    assert_eq!(sign_in(&harness, &token("carol")).await, UNAUTHENTICATED);
    assert_eq!(sign_in(&harness, &new).await, 0);
    talks(&mut alice).await;
}

/// By the selector of the tests' vectors, `u0` to `u9` stand for all accounts.
#[tokio::test]
async fn f17_another_route_sends_new_accounts_elsewhere_and_says_how_many() {
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    let configure = |home: &GatewayHome, services: (&FakeLogic, &FakeLogic)| {
        // The second instance stands in a zone that has no accounts yet.
        home.write("route.json", r#"{"zones":[{"id":"zone_a","weight":99},{"id":"zone_b","weight":1}]}"#);
        let second = home.second();
        home.configure(services, &ConfigLines { more: &second, ..ConfigLines::default() });
    };
    let (home, harness) = GatewayHome::with(login, chat, ALL_IN_A, configure).await;
    home.second.handshake(0).await;
    let (mut before, _) = harness.client(Tcp, "u1").await;
    talks(&mut before).await;
    home.write("route.json", r#"{"zones":[{"id":"zone_b","weight":1}],"whitelist":[]}"#);
    let problem = refused(&harness);
    assert!(problem.contains("discovery.instances"), "the instances stand in zone_a: {problem}");
    home.write("route.json", r#"{"zones":[{"id":"zone_a","weight":1},{"id":"zone_b","weight":99}]}"#);
    let changed = reloaded(&harness);
    assert_eq!(changed, ["route: zone_a 99 → 1, zone_b 1 → 99, 98 % of accounts move"]);
    for n in 0..10 {
        let (mut client, _) = harness.client(Tcp, &format!("u{n}-new")).await;
        talks(&mut client).await;
    }
    let new = home.second.packets("chat.user.talk").len();
    assert!(new >= 9, "{new} of ten go to zone_b");
    let here = harness.chat.packets("chat.user.talk").len();
    talks(&mut before).await;
    assert_eq!(harness.chat.packets("chat.user.talk").len(), here + 1, "who has an instance keeps it");
}

#[rstest]
#[tokio::test]
async fn f17_limits_apply_to_those_who_come_and_to_those_who_are_here(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let (home, harness) = GatewayHome::start().await;
    harness.chat.hold("chat.user.talk");
    let (mut alice, _) = harness.client(kind, "alice").await;
    let first = alice.talk("bob", "one").await;
    harness.chat.packet("chat.user.talk", 0).await;
    home.configured(
        &harness,
        &ConfigLines { limits: "max_pending = 1\nmax_connections = 1", ..ConfigLines::default() },
    );
    let changed = reloaded(&harness);
    assert_eq!(changed, ["limits.max_connections: 100000 → 1", "limits.max_pending: 256 → 1"]);
    let second = alice.talk("bob", "two").await;
    assert_eq!(alice.response(second).await.header.status, SYSTEM_EXCEPTION, "one is unanswered");
    harness.connect(Tcp).await.closed_with(3003).await;
    harness.metric_is("gateway_max_connections", &[], 1.0).await;
    harness.ready_is(503).await;
    home.configured(&harness, &ConfigLines::default());
    assert_eq!(reloaded(&harness).len(), 2);
    harness.chat.answer_default(&harness.chat.packet("chat.user.talk", 0).await);
    assert_eq!(alice.response(first).await.header.status, 0);
    harness.client(Tcp, "bob").await;
}

/// The status of the answer to an upgrade from a page of this origin.
async fn upgrade_from(harness: &TestGateway, path: &str, origin: &str) -> String {
    let mut socket = TcpStream::connect(harness.target.ws).await.unwrap();
    let request = upgrade_request(path, &format!("Origin: https://{origin}\r\n"));
    socket.write_all(request.as_bytes()).await.unwrap();
    let answer = soon("the answer to the upgrade", read_head(&mut socket)).await;
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn f17_origins_and_paths_of_websocket_apply_to_whoever_upgrades_next() {
    let (home, harness) = GatewayHome::start().await;
    let (mut alice, _) = harness.client(Ws, "alice").await;
    assert_eq!(upgrade_from(&harness, "/", "a.example").await, "101");
    let websocket = "allowed_origins = [\"https://b.example\"]";
    home.configured(&harness, &ConfigLines { websocket, ..ConfigLines::default() });
    assert_eq!(reloaded(&harness), ["websocket.allowed_origins: not set → [\"https://b.example\"]"]);
    assert_eq!(upgrade_from(&harness, "/", "a.example").await, "403");
    assert_eq!(upgrade_from(&harness, "/", "b.example").await, "101");
    let websocket = "allowed_origins = [\"https://b.example\"]\npaths = [\"/im\"]";
    home.configured(&harness, &ConfigLines { websocket, ..ConfigLines::default() });
    assert_eq!(reloaded(&harness), ["websocket.paths: not set → [\"/im\"]"]);
    assert_eq!(upgrade_from(&harness, "/", "b.example").await, "404");
    assert_eq!(upgrade_from(&harness, "/im", "b.example").await, "101");
    let websocket = "allowed_origins = [\"b.example\"]";
    home.configured(&harness, &ConfigLines { websocket, ..ConfigLines::default() });
    assert!(refused(&harness).contains("websocket.allowed_origins: "));
    assert_eq!(upgrade_from(&harness, "/im", "b.example").await, "101");
    talks(&mut alice).await;
}

#[tokio::test]
async fn f17_a_shorter_read_idle_ends_a_silent_session_that_began_before() {
    let (home, harness) = GatewayHome::start().await;
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    home.configured(&harness, &ConfigLines { limits: "read_idle = \"300ms\"", ..ConfigLines::default() });
    reloaded(&harness);
    // Its next turn takes the new limits; from then on it is silent.
    talks(&mut alice).await;
    alice.closed_with(3001).await;
}

#[tokio::test]
async fn f17_instances_and_services_come_and_go_by_the_list() {
    let (home, harness) = GatewayHome::start().await;
    let (mut alice, _) = harness.client(QuicMany, "alice").await;
    assert_eq!(ask(&mut alice, "game.start").await, INVALID_COMMAND);
    let game = FakeLogic::start(Dialect::XIm);
    let more = home.second() + &instance("game", "game01", "zone_a", &game.address.to_string());
    home.configured(&harness, &ConfigLines { more: &more, ..ConfigLines::default() });
    let changed = reloaded(&harness);
    assert_eq!(changed, ["discovery.instances: chat02 of chat added, game01 of game added"]);
    home.second.handshake(0).await;
    game.handshake(0).await;
    harness.metric_is("gateway_link_state", &["game01", "state=\"healthy\""], 1.0).await;
    assert_eq!(ask(&mut alice, "game.start").await, 0);
    home.configured(&harness, &ConfigLines::default());
    assert_eq!(reloaded(&harness), ["discovery.instances: chat02 of chat removed, game01 of game removed"]);
    home.second.ended(0).await;
    game.ended(0).await;
    assert_eq!(ask(&mut alice, "game.start").await, INVALID_COMMAND);
    talks(&mut alice).await;
}

#[tokio::test]
async fn f17_events_go_to_the_webhook_of_now() {
    let (home, harness) = GatewayHome::start().await;
    let (first, second) = (Webhook::start(), Webhook::start());
    let mut told = Vec::new();
    for webhook in [&first, &second] {
        let more = format!("[events]\nwebhook = \"http://{}/\"\n", webhook.address);
        home.configured(&harness, &ConfigLines { more: &more, ..ConfigLines::default() });
        told.push(reloaded(&harness));
        home.write("route.json", "nothing");
        refused(&harness);
        let event = webhook.event("reload_failed", "raised").await;
        assert!(event.text("detail").starts_with("route.file: "), "{event:?}");
        home.write("route.json", HALVES);
        reloaded(&harness);
        webhook.event("reload_failed", "cleared").await;
    }
    assert!(told[0][0].starts_with("events.webhook: not set → \"http://127.0.0.1:"), "{told:?}");
}

/// Each broken in its own way; what else changed beside it does not come into effect either.
#[rstest]
#[case::syntax("gateway.toml", "[gateway", "line")]
#[case::key("gateway.toml", "[gateway]\nid = \"gate01\"\nidd = 1\n", "gateway.idd: is not a known key")]
#[case::route("route.json", "{\"zones\":[]}", "route.file: route.json: zones: is empty")]
#[case::certificate("server.pem", "nothing", "tls.cert: server.pem")]
#[case::secret("jwt.secret", "short", "auth.secret_file: holds 5 bytes")]
#[case::quic_keys("quic.keys", "nothing", "quic.key_file: quic.keys")]
#[case::ticket_keys("ticket.keys", "nothing", "tls.ticket_key_file: ticket.keys")]
#[tokio::test]
async fn f6_a_broken_file_changes_nothing_and_is_named(
    #[case] file: &str,
    #[case] content: &str,
    #[case] problem: &str,
) {
    let (home, harness) = GatewayHome::start().await;
    let (mut alice, _) = harness.client(Tls, "alice").await;
    home.configured(&harness, &ConfigLines { limits: "max_connections = 1", ..ConfigLines::default() });
    let (renewed, key) = CERTIFICATES.renewed();
    home.certificate(&renewed, &key);
    let good = std::fs::read(home.directory.join(file)).unwrap();
    home.write(file, content);
    let told = refused(&harness);
    assert!(told.contains(problem), "{told}");
    harness.metric_is("gateway_events_active", &["reload_failed"], 1.0).await;
    assert_eq!(shown_over_tls(&harness).await, CERTIFICATES.server);
    let (mut bob, _) = harness.client(QuicMany, "bob").await;
    talks(&mut bob).await;
    talks(&mut alice).await;
    home.write(file, good);
    assert_eq!(reloaded(&harness).len(), 2);
    harness.metric_is("gateway_events_active", &["reload_failed"], 0.0).await;
}

#[tokio::test]
async fn f6_a_key_that_belongs_to_another_certificate_is_refused() {
    let (home, harness) = GatewayHome::start().await;
    home.certificate(&CERTIFICATES.renewed().0, &CERTIFICATES.key);
    assert!(refused(&harness).contains("tls.key: server.key does not belong to tls.cert"));
    assert_eq!(shown_over_tls(&harness).await, CERTIFICATES.server);
}

#[tokio::test]
async fn f17_what_needs_a_restart_is_named_and_the_rest_applies() {
    let (home, harness) = GatewayHome::start().await;
    let (mut alice, _) = harness.client(QuicOne, "alice").await;
    let gateway = "workers = 2\ndialect = \"kim\"";
    let (limits, more) = ("max_account = 5", "[log]\nformat = \"json\"\n[quic.lb]\nserver_id = \"c460\"\n");
    let keys = ConfigLines { gateway, limits, more, ..ConfigLines::default() };
    home.configured(&harness, &keys);
    home.write("quic.keys", gateway::config::QuicKeys::generate().unwrap().to_text());
    for _ in 0..2 {
        let report = harness.reload().unwrap();
        let lists = ["quic.lb", "login.service", "log.format", "quic.key_file"];
        let named = [&["gateway.workers", "gateway.dialect"][..], &lists].concat();
        assert_eq!(report.needs_restart, named, "as often as it is asked");
    }
    assert_eq!(sign_in(&harness, &token("caroline")).await, UNAUTHENTICATED, "a name of more than 5 bytes");
    assert_eq!(sign_in(&harness, &token("carol")).await, 0, "the login service still speaks x_im");
    talks(&mut alice).await;
}

/// As Kubernetes does it, and as a person does who copies one file after the other.
#[tokio::test]
async fn f5_replaced_certificates_are_found_by_content_and_shown_only_as_a_pair() {
    let (home, harness) = GatewayHome::start().await;
    let (mut alice, _) = harness.client(Tls, "alice").await;
    let (renewed, key) = CERTIFICATES.renewed();
    home.certificate(&renewed, &CERTIFICATES.key);
    harness.metric_within("gateway_events_active", &["reload_failed"], 1.0, LOOKS).await;
    assert_eq!(shown_over_tls(&harness).await, CERTIFICATES.server);
    home.certificate(&renewed, &key);
    harness.metric_within("gateway_events_active", &["reload_failed"], 0.0, LOOKS).await;
    assert_eq!(shown_over_tls(&harness).await, renewed);
    assert_eq!(shown_over_quic(&harness).await, renewed);
    talks(&mut alice).await;
}

/// As one that a CA has just made, whose clock is ahead: no file changes between the looks.
#[tokio::test]
async fn f5_a_certificate_that_is_not_valid_yet_comes_into_effect_when_it_is() {
    let (home, harness) = GatewayHome::start().await;
    // Beyond the first look, and before the third one.
    let (renewed, key) = CERTIFICATES.valid_from(identity::now() + 15);
    home.certificate(&renewed, &key);
    harness.metric_within("gateway_events_active", &["reload_failed"], 1.0, LOOKS).await;
    assert_eq!(shown_over_tls(&harness).await, CERTIFICATES.server);
    harness.metric_within("gateway_events_active", &["reload_failed"], 0.0, LOOKS).await;
    assert_eq!(shown_over_tls(&harness).await, renewed);
    assert_eq!(harness.metric("gateway_events_total", &["reload_failed"]).await, 1.0, "it was told once");
}

/// Two looks, and what a loaded machine adds.
const LOOKS: Duration = Duration::from_secs(40);
