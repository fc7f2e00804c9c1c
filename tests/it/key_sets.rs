//! Keys of tokens that are fetched from a URL (row B24).

use std::time::Duration;

use gateway::config::{Config, Secret, VerifyingKey};
use rstest::rstest;
use serde_json::json;

use crate::support::fake_logic::FakeLogic;
use crate::support::harness::TestGateway;
use crate::support::identity::{self, SECRET, claims};
use crate::support::key_server::{IssuerKey, KeyAnswer, KeyServer, published};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use gateway::wire::dialect::Dialect;

/// The status of a login, and the code its connection is closed with if it is refused.
async fn login(harness: &TestGateway, kind: Kind, token: &str) -> (i32, Option<u16>) {
    let mut client = harness.connect(kind).await;
    let sequence = client.signin(token).await;
    let status = client.response(sequence).await.header.status;
    (status, if status == 0 { None } else { client.farewell().await.code })
}

fn only_fetched(server: &KeyServer) -> impl FnOnce(&mut Config) {
    let url = server.url();
    move |config| {
        config.token_keys.clear();
        config.jwks = Some(url);
        // Longer than the pace of fetches, so that no login has to come back.
        config.limits.login_deadline = Duration::from_secs(20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b24_a_login_waits_for_a_key_that_was_published_since_and_all_of_them_ask_once() {
    let (one, two, three) = (IssuerKey::new("one"), IssuerKey::new("two"), IssuerKey::new("three"));
    let server = KeyServer::start(true, published(&[&one])).await;
    let harness = TestGateway::with(only_fetched(&server)).await;
    for kind in [Tcp, Tls, Ws, Wss, QuicOne, QuicMany] {
        assert_eq!(login(&harness, kind, &one.sign(&claims("alice"))).await, (0, None));
    }
    assert_eq!(server.asked(), 1);

    server.answers(published(&[&one, &two]));
    let (bob, carol) = (two.sign(&claims("bob")), three.sign(&claims("carol")));
    let known = one.sign(&claims("dave"));
    let newer = async {
        tokio::join!(
            login(&harness, Tcp, &bob),
            login(&harness, Tls, &bob),
            login(&harness, QuicOne, &bob),
            login(&harness, QuicMany, &bob),
            login(&harness, Ws, &bob),
            login(&harness, Wss, &bob),
            login(&harness, Tcp, &carol),
            login(&harness, QuicOne, &carol),
        )
    };
    let meanwhile = async {
        let begun = std::time::Instant::now();
        assert_eq!(login(&harness, Tcp, &known).await, (0, None), "a known key is waited for by nobody");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    };
    let ((one, two, three, four, five, six, seven, eight), ()) = tokio::join!(newer, meanwhile);
    assert_eq!([one, two, three, four, five, six], [(0, None); 6]);
    assert_eq!([seven, eight], [(105, Some(3500)); 2], "it is not published");
    assert_eq!(server.asked(), 2, "once for all of them");
    harness.metric_is("gateway_jwks_refreshes_total", &["\"ok\""], 2.0).await;
    harness.metric_is("gateway_jwks_keys", &[], 2.0).await;
    harness.metric_is("gateway_reject_total", &["\"jwt_key\""], 2.0).await;
}

#[tokio::test]
async fn b24_a_source_that_hangs_delays_nobody_whose_key_is_known_and_others_are_told_to_come_back() {
    let unknown = IssuerKey::new("unknown");
    let server = KeyServer::start(false, KeyAnswer::Hang).await;
    let url = server.url();
    let harness = TestGateway::with(|config| config.jwks = Some(url)).await;
    server.asked_times(1).await;
    assert_eq!(login(&harness, Tcp, &identity::token("alice")).await, (0, None));
    let token = unknown.sign(&claims("bob"));
    let (waits, ()) = tokio::join!(login(&harness, Tcp, &token), async {
        assert_eq!(login(&harness, QuicOne, &identity::token("carol")).await, (0, None));
    });
    assert_eq!(waits, (300, Some(3003)), "it is not the client's fault");
    harness.metric_is("gateway_jwks_refreshes_total", &["\"timeout\""], 1.0).await;
    harness.metric_is("gateway_events_active", &["\"jwks_failed\""], 1.0).await;
    harness.metric_is("gateway_reject_total", &["\"key_fetch\""], 1.0).await;
}

#[tokio::test]
async fn b24_the_last_good_keys_stay_when_the_source_fails() {
    let (one, two) = (IssuerKey::new("one"), IssuerKey::new("two"));
    let server = KeyServer::start(false, published(&[&one])).await;
    let harness = TestGateway::with(only_fetched(&server)).await;
    server.answers(KeyAnswer::Raw(500, Vec::new()));
    assert_eq!(login(&harness, Tcp, &two.sign(&claims("bob"))).await, (300, Some(3003)));
    harness.metric_is("gateway_events_active", &["\"jwks_failed\""], 1.0).await;
    assert_eq!(login(&harness, QuicMany, &one.sign(&claims("alice"))).await, (0, None));
    // Another answer is of no use either: it must not take the place of what there is.
    harness.metric_is("gateway_jwks_keys", &[], 1.0).await;
}

#[rstest]
#[case::redirect(KeyAnswer::Raw(302, Vec::new()), "status")]
#[case::page(KeyAnswer::Raw(200, b"<html></html>".to_vec()), "bad_answer")]
#[case::no_keys(KeyAnswer::Keys(json!({ "keys": [] })), "bad_answer")]
#[case::secret(KeyAnswer::Keys(json!({ "keys": [{ "kty": "oct", "k": "YSBzZWNyZXQgb2YgdGhlIHRlc3RzLCAzMiBieXRlcyE" }] })), "bad_answer")]
#[case::huge(KeyAnswer::Raw(200, vec![b' '; 1 << 20]), "bad_answer")]
#[case::closed(KeyAnswer::Close, "unreachable")]
#[tokio::test]
async fn b24_an_answer_without_keys_is_none_and_without_keys_the_gateway_is_not_ready(
    #[case] answer: KeyAnswer,
    #[case] outcome: &str,
) {
    let server = KeyServer::start(true, answer).await;
    let (login_service, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    let harness = TestGateway::unready(login_service, chat, Dialect::XIm, only_fetched(&server));
    let label = format!("\"{outcome}\"");
    harness.metric_is("gateway_jwks_refreshes_total", &[&label], 1.0).await;
    let (status, body) = harness.get("/ready").await;
    assert!(status == 503 && body.contains("no keys have been fetched from auth.jwks_url yet"), "{body}");
    assert_eq!(login(&harness, Tcp, &identity::token("alice")).await, (105, Some(3500)), "no key, no login");
}

#[tokio::test]
async fn b24_a_key_of_the_configuration_stands_above_one_that_was_fetched() {
    let fetched = IssuerKey::new("same");
    let server = KeyServer::start(false, published(&[&fetched])).await;
    let url = server.url();
    let harness = TestGateway::with(|config| {
        let key = VerifyingKey::Hs256(Secret(SECRET.to_vec()));
        config.token_keys = vec![gateway::config::TokenKey { id: Some("same".into()), ..key.into() }];
        config.jwks = Some(url);
    })
    .await;
    harness.metric_is("gateway_jwks_keys", &[], 1.0).await;
    assert_eq!(login(&harness, Tcp, &fetched.sign(&claims("alice"))).await, (105, Some(3500)));
    assert_eq!(login(&harness, Tcp, &identity::token("alice")).await, (0, None));
}
