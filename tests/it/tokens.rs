//! Several keys, and tokens that are renewed in place or run out.

use std::time::Duration;

use gateway::config::{Config, OnExpiry, Secret, TokenKey, VerifyingKey};
use gateway::wire::pb;
use jsonwebtoken::{Algorithm, Header};
use prost::Message as _;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::harness::TestGateway;
use crate::support::identity;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::Raw;

const OTHER_SECRET: &[u8] = b"the secret that takes its place..";

fn key(id: Option<&str>, secret: &[u8]) -> TokenKey {
    TokenKey { id: id.map(str::to_owned), ..VerifyingKey::Hs256(Secret(secret.to_vec())).into() }
}

fn signed(kid: Option<&str>, claims: &Value, secret: &[u8]) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
    identity::signed_with(&header, claims, secret)
}

/// Claims that end so many seconds from now.
fn ending_in(account: &str, seconds: u64) -> Value {
    let mut claims = identity::claims(account);
    claims["exp"] = json!(identity::now() + seconds);
    claims
}

async fn signs_in(harness: &TestGateway, kind: Kind, token: &str) -> bool {
    let mut client = harness.connect(kind).await;
    let sequence = client.signin(token).await;
    match client.response(sequence).await.header.status {
        0 => true,
        105 => {
            client.closed_with(3500).await;
            false
        }
        other => panic!("answered {other}"),
    }
}

/// The status a renewal is answered.
async fn renews(client: &mut Raw, token: &str) -> i32 {
    let login = pb::LoginReq { token: token.to_owned(), ..pb::LoginReq::default() };
    let sequence = client.request("login.renew", "", &login.encode_to_vec()).await;
    let answer = client.response(sequence).await;
    assert_eq!((answer.header.command.as_str(), answer.header.meta.len()), ("login.renew", 0));
    answer.header.status
}

#[rstest]
#[tokio::test]
async fn b11_a_token_is_checked_with_the_key_it_names_and_that_key_speaks_for_its_apps(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with(|config| {
        let apps = Some([identity::APP.to_owned()].into());
        let ended = TokenKey { not_after: Some(identity::now()), ..key(Some("ended"), identity::SECRET) };
        config.token_keys = vec![
            key(Some("old"), identity::SECRET),
            TokenKey { apps, ..key(Some("new"), OTHER_SECRET) },
            ended,
        ];
    })
    .await;
    let claims = identity::claims("alice");
    let mut elsewhere = claims.clone();
    elsewhere["app"] = json!("elsewhere");
    for (kid, claims, secret, good) in [
        (Some("old"), &claims, identity::SECRET, true),
        (Some("new"), &claims, OTHER_SECRET, true),
        (None, &claims, identity::SECRET, true),
        (None, &claims, OTHER_SECRET, true),
        (Some("old"), &elsewhere, identity::SECRET, true),
        (Some("new"), &elsewhere, OTHER_SECRET, false),
        (None, &elsewhere, OTHER_SECRET, false),
        (Some("old"), &claims, OTHER_SECRET, false),
        (Some("new"), &claims, identity::SECRET, false),
        (Some("newer"), &claims, OTHER_SECRET, false),
        (Some("ended"), &claims, identity::SECRET, false),
    ] {
        let token = signed(kid, claims, secret);
        assert_eq!(signs_in(&harness, kind, &token).await, good, "{kid:?} {claims}");
    }
    harness.metric_is("gateway_reject_total", &["\"jwt_key\""], 2.0).await;
    harness.metric_is("gateway_reject_total", &["\"jwt_app\""], 2.0).await;
    harness.metric_is("gateway_reject_total", &["\"jwt_signature\""], 2.0).await;
}

fn closes(config: &mut Config) {
    config.leeway = Duration::ZERO;
    config.on_expiry = OnExpiry::Close(Duration::ZERO);
}

/// A session that ends with its token, in three seconds, and when that is.
async fn ending_session(kind: Kind) -> (TestGateway, Raw, u64) {
    let harness = TestGateway::with(closes).await;
    let mut alice = harness.connect(kind).await;
    let claims = ending_in("alice", 3);
    let sequence = alice.signin(&signed(None, &claims, identity::SECRET)).await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    (harness, alice, claims["exp"].as_u64().unwrap())
}

#[rstest]
#[tokio::test]
async fn b19_b23_a_session_goes_on_with_the_token_it_is_renewed_with(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let (harness, mut alice, end) = ending_session(kind).await;
    assert_eq!(renews(&mut alice, &signed(None, &ending_in("alice", 60), identity::SECRET)).await, 0);

    // Past the end of the first token, which a whole second may have rounded up.
    while identity::now() < end + 1 {
        alice.heartbeat(true).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let sequence = alice.talk("bob", "still here").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);

    // And a renewal may bring the end nearer.
    assert_eq!(renews(&mut alice, &signed(None, &ending_in("alice", 1), identity::SECRET)).await, 0);
    alice.closed_with(3507).await;
    assert_eq!(harness.login.packets("login.renew").len(), 0, "never forwarded");
    harness.metric_is("gateway_renewals_total", &["\"ok\""], 2.0).await;
}

#[rstest]
#[tokio::test]
async fn b23_a_renewal_for_somebody_else_or_with_a_bad_token_changes_nothing(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let (harness, mut alice, end) = ending_session(kind).await;

    let mut elsewhere = identity::claims("alice");
    elsewhere["app"] = json!("elsewhere");
    for token in [
        identity::token("bob"),
        signed(None, &elsewhere, identity::SECRET),
        signed(None, &identity::claims("alice"), OTHER_SECRET),
        signed(Some("unknown"), &identity::claims("alice"), OTHER_SECRET),
        signed(None, &json!({ "acc": "alice", "app": identity::APP, "exp": 1 }), identity::SECRET),
        String::new(),
        "x".repeat(5000),
    ] {
        assert_eq!(renews(&mut alice, &token).await, 105);
    }
    let sequence = alice.request("login.renew", "", b"\xFF").await;
    assert_eq!(alice.response(sequence).await.header.status, 105);
    let sequence = alice.talk("bob", "it goes on").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    alice.closed_with(3507).await;
    assert!(identity::now() >= end, "not before");
    assert_eq!(harness.login.packets("login.renew").len(), 0, "never forwarded");
    harness.metric_is("gateway_renewals_total", &["\"unauthenticated\""], 8.0).await;
    harness.metric_is("gateway_reject_total", &["\"renew_foreign\""], 2.0).await;
}

#[tokio::test]
async fn b20_b23_renewals_come_out_of_what_an_account_may_spend_on_logins() {
    let harness = TestGateway::with_limits(|limits| {
        limits.account_logins_per_second = 1;
        limits.account_login_burst = 3;
    })
    .await;
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    let token = identity::token("alice");
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(renews(&mut alice, &token).await);
    }
    assert!(answers.starts_with(&[0, 0]) && answers.contains(&300), "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 0 | 300)), "{answers:?}");
    let (mut bob, _) = harness.client(Tcp, "bob").await;
    assert_eq!(renews(&mut bob, &identity::token("bob")).await, 0);
}

/// One that a moment later would end at once is not begun.
#[rstest]
#[tokio::test]
async fn b19_no_login_is_accepted_behind_the_end_its_session_would_have(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let ended = json!({ "acc": "alice", "app": identity::APP, "exp": identity::now() - 20 });
    let expired = signed(None, &ended, identity::SECRET);
    let keeps = TestGateway::start().await;
    assert!(signs_in(&keeps, kind, &expired).await, "the leeway is a minute");
    let closes =
        TestGateway::with(|config| config.on_expiry = OnExpiry::Close(Duration::from_secs(10))).await;
    assert!(!signs_in(&closes, kind, &expired).await);
    let later =
        TestGateway::with(|config| config.on_expiry = OnExpiry::Close(Duration::from_secs(300))).await;
    assert!(signs_in(&later, kind, &expired).await);
}
