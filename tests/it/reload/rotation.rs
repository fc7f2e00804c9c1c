//! A key of tokens takes the place of another one, step by step, while clients are connected (rows B11, B19, F17).

use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};

use super::home::pem;
use super::*;
use crate::support::identity::{SECRET, signed_with};
use crate::support::key_server::{IssuerKey, KeyServer, published};

const NEW_SECRET: &[u8] = b"the secret that takes its place..";

const OLD: &str = "[[auth.keys]]\nid = \"2026\"\nalgorithm = \"HS256\"\nsecret_file = \"jwt.secret\"\n";
const NEW: &str = "[[auth.keys]]\nid = \"2027\"\nalgorithm = \"HS256\"\nsecret_file = \"new.secret\"\n";

/// The gateway's configuration with these lines in `[auth]`.
fn configure(home: &GatewayHome, services: (&FakeLogic, &FakeLogic), auth: &str) {
    home.configure(services, &ConfigLines::default());
    let path = home.directory.join("gateway.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    home.write("gateway.toml", text.replace("secret_file = \"jwt.secret\"", auth));
}

fn token_of(kid: &str, claims: &Value) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
    signed_with(&header, claims, if kid == "2026" { SECRET } else { NEW_SECRET })
}

async fn joined(harness: &TestGateway, kind: Kind, token: &str) -> Raw {
    let mut client = harness.connect(kind).await;
    let sequence = client.signin(token).await;
    assert_eq!(client.response(sequence).await.header.status, 0);
    client
}

async fn renew(client: &mut Raw, token: &str) -> i32 {
    let login = pb::LoginReq { token: token.to_owned(), ..pb::LoginReq::default() };
    let sequence = client.request("login.renew", "", &prost::Message::encode_to_vec(&login)).await;
    client.response(sequence).await.header.status
}

#[rstest]
#[tokio::test]
async fn b11_b19_f17_two_keys_overlap_and_the_old_one_is_removed(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values("keep", "close")] on_expiry: &str,
) {
    let lines = format!("on_expiry = \"{on_expiry}\"\nexpiry_grace = \"0s\"\nleeway = \"0s\"\n");
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    let (home, harness) = GatewayHome::with(login, chat, HALVES, |home, services| {
        configure(home, services, &format!("{lines}{OLD}"))
    })
    .await;
    home.write("new.secret", NEW_SECRET);
    let services = (&harness.login, &harness.chat);
    let ends = identity::now() + 8;
    let ending = |account: &str| {
        let mut claims = claims(account);
        claims["exp"] = json!(ends);
        claims
    };

    // 1. One key.
    let mut alice = joined(&harness, kind, &token_of("2026", &ending("alice"))).await;
    let mut renewing = joined(&harness, kind, &token_of("2026", &ending("renewing"))).await;
    assert_eq!(sign_in(&harness, &token_of("2027", &claims("bob"))).await, UNAUTHENTICATED);

    // 2. Both: whoever signs with either gets in.
    configure(&home, services, &format!("{lines}{OLD}{NEW}"));
    let changed = reloaded(&harness);
    assert_eq!(changed, ["auth: keys: new 2027"]);
    assert_eq!(sign_in(&harness, &token_of("2026", &claims("bob"))).await, 0);
    assert_eq!(sign_in(&harness, &token_of("2027", &claims("bob"))).await, 0);

    // 3. The new one alone: tokens of the old one are refused, and nobody is thrown out.
    configure(&home, services, &format!("{lines}{NEW}"));
    assert_eq!(reloaded(&harness), ["auth: keys: gone 2026"]);
    assert_eq!(sign_in(&harness, &token_of("2026", &claims("bob"))).await, UNAUTHENTICATED);
    assert_eq!(sign_in(&harness, &token_of("2027", &claims("bob"))).await, 0);
    talks(&mut alice).await;
    assert_eq!(renew(&mut renewing, &token_of("2026", &claims("renewing"))).await, UNAUTHENTICATED);
    assert_eq!(renew(&mut renewing, &token_of("2027", &claims("renewing"))).await, 0);

    // 4. The old token runs out.
    if on_expiry == "close" {
        alice.closed_with(3507).await;
        assert!(identity::now() >= ends, "not before");
    } else {
        while identity::now() <= ends {
            alice.heartbeat(true).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        talks(&mut alice).await;
    }
    talks(&mut renewing).await;
}

#[tokio::test]
async fn b24_f17_keys_that_were_fetched_outlast_a_reload() {
    let published_key = IssuerKey::new("published");
    let server = KeyServer::start(false, published(&[&published_key])).await;
    let target = server.url().target;
    let url = format!("jwks_url = \"http://{}:{}/keys\"\n", target.host, target.port);
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    let (home, harness) =
        GatewayHome::with(login, chat, HALVES, |home, services| configure(home, services, &url)).await;
    let services = (&harness.login, &harness.chat);
    let token = published_key.sign(&claims("alice"));
    assert_eq!(sign_in(&harness, &token).await, 0);
    configure(&home, services, &format!("{url}{OLD}"));
    assert_eq!(reloaded(&harness), ["auth: keys: new 2026"]);
    assert_eq!(sign_in(&harness, &token).await, 0, "it was not fetched again");
    assert_eq!(sign_in(&harness, &token_of("2026", &claims("bob"))).await, 0);
    assert_eq!(server.asked(), 1);
    // Another URL needs a restart.
    configure(&home, services, &format!("jwks_url = \"http://127.0.0.1:9/\"\n{OLD}"));
    assert_eq!(harness.reload().unwrap().needs_restart, ["auth.jwks_url"]);
    assert_eq!(sign_in(&harness, &token).await, 0);
}

/// Whoever fetches has its roots from the start.
#[tokio::test]
async fn b24_f17_another_ca_of_the_url_needs_a_restart_and_is_named() {
    let auth =
        "jwks_url = \"https://localhost:9/keys\"\njwks_ca_file = \"ca.pem\"\nsecret_file = \"jwt.secret\"\n";
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    let (home, harness) = GatewayHome::with(login, chat, HALVES, |home, services| {
        home.write("ca.pem", pem("CERTIFICATE", &CERTIFICATES.ca));
        configure(home, services, auth);
    })
    .await;
    assert_eq!(harness.reload().unwrap().needs_restart, [""; 0]);
    home.write("ca.pem", pem("CERTIFICATE", &CERTIFICATES.renewed().0));
    for _ in 0..2 {
        let report = harness.reload().unwrap();
        assert_eq!(
            (&report.needs_restart[..], report.changed.len()),
            (&["auth.jwks_ca_file".to_owned()][..], 0)
        );
    }
    home.write("ca.pem", pem("CERTIFICATE", &CERTIFICATES.ca));
    assert_eq!(harness.reload().unwrap().needs_restart, [""; 0]);
}
