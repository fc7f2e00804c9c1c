//! Every way in which a login fails, each with its status, its close code, and its sign-out or none.

use std::time::Duration;

use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Opcode, encode};
use gateway::wire::packet::{BASIC_PING, encode_basic};
use gateway::wire::pb;
use jsonwebtoken::Algorithm;
use prost::Message as _;
use rstest::rstest;
use serde_json::json;

use crate::support::fake_logic::FakeLogic;
use crate::support::harness::TestGateway;
use crate::support::identity::{ALPN, SECRET, claims, now, quic_client, signed, signed_with, token};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::request;
use crate::support::soon;
use crate::support::stream::Seen;

/// Tokens the gateway must refuse, each with the rows it stands for.
fn bad_tokens() -> Vec<(&'static str, String)> {
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = claims("alice");
        claims[key] = value;
        signed(&claims, Algorithm::HS256, SECRET)
    };
    let without = |key: &str| {
        let mut claims = claims("alice");
        claims.as_object_mut().unwrap().remove(key);
        signed(&claims, Algorithm::HS256, SECRET)
    };
    let mut critical = jsonwebtoken::Header::new(Algorithm::HS256);
    critical.extras.insert("crit".into(), r#"["exp"]"#.into());
    let good = token("alice");
    let mut parts = good.split('.');
    let (_, body, signature) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    vec![
        ("B10 alg none", format!("eyJhbGciOiJub25lIn0.{body}.")),
        ("B10 alg nOnE", format!("eyJhbGciOiJuT25FIn0.{body}.{signature}")),
        ("B11 HS384", signed(&claims("alice"), Algorithm::HS384, SECRET)),
        ("B11 HS512", signed(&claims("alice"), Algorithm::HS512, SECRET)),
        ("B11 crit", signed_with(&critical, &claims("alice"), SECRET)),
        ("B12 expired", with("exp", json!(now() - 61))),
        ("B12 no exp", without("exp")),
        ("B12 exp is a string", with("exp", json!("9999999999"))),
        ("B12 exp is negative", with("exp", json!(-1))),
        ("B12 exp is huge", with("exp", json!(1e308))),
        ("B13 nbf in the future", with("nbf", json!(now() + 120))),
        ("B13 nbf is a string", with("nbf", json!("0"))),
        ("B14 wrong secret", signed(&claims("alice"), Algorithm::HS256, b"another secret, 32 bytes long...")),
        ("B15 not base64", "!!!.???.###".into()),
        ("B15 10 dots", "..........".into()),
        ("B15 empty", String::new()),
        ("B15 too long", format!("{good}{}", "A".repeat(4096))),
        ("B16 no acc", without("acc")),
        ("B16 empty acc", with("acc", json!(""))),
        ("B16 no app", without("app")),
        ("B16 app is a number", with("app", json!(7))),
        ("B17 control characters", with("acc", json!("ali\nce"))),
        ("B17 too long", with("acc", json!("a".repeat(129)))),
        ("truncated signature", good[..good.len() - 4].to_owned()),
    ]
}

#[rstest]
#[tokio::test]
async fn b10_b11_b12_b13_b14_b15_b16_b17_a_bad_token_is_answered_105_and_closed_3500(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    for (name, bad) in bad_tokens() {
        let mut client = harness.connect(kind).await;
        let sequence = client.signin(&bad).await;
        let farewell = client.farewell().await;
        assert_eq!(farewell.code, Some(3500), "{name}");
        let answer = farewell.response(sequence);
        assert_eq!(answer.header.status, pb::Status::Unauthenticated as i32, "{name}");
        assert_eq!(answer.header.command, "login.signin", "{name}");
        assert_eq!(answer.header.meta, [], "{name}");
        assert!(!pb::ErrorResp::decode(answer.body.clone()).unwrap().message.is_empty(), "{name}");
        assert_eq!(farewell.messages.len(), 1, "{name}");
    }
    let _good = harness.client(kind, "good").await;
    let signin = harness.login.packet("login.signin", 0).await;
    assert_eq!(signin.meta("account"), "good", "no refused login was forwarded");
    assert_eq!(harness.login.packets("login.signout").len(), 0, "and none was signed out");
}

#[rstest]
#[tokio::test]
async fn b5_another_packet_first_is_answered_103_and_closed_3505(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values("chat.user.talk", "login.signout", "Bad Command")] command: &str,
    #[values(Dialect::XIm, Dialect::Kim)] dialect: Dialect,
) {
    let harness = TestGateway::start().await;
    let mut client = harness.connect(kind).await;
    client.dialect = dialect;
    client.send_on(0, &request(command, 77, "bob"), b"x").await;
    let farewell = client.closed_with(3505).await;
    let answer = farewell.response(77);
    assert_eq!(answer.header.status, pb::Status::InvalidCommand as i32);
    assert_eq!(answer.header.command, command);
    assert_eq!(answer.header.dest, "bob");
    assert_eq!(answer.dialect, dialect);
}

#[rstest]
#[tokio::test]
async fn b5_a_heartbeat_packet_first_is_closed_3505_without_a_response(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let mut client = harness.connect(kind).await;
    client.write(encode_basic(Dialect::XIm, BASIC_PING)).await;
    assert_eq!(client.closed_with(3505).await.messages.len(), 0);
}

#[rstest]
#[tokio::test]
async fn a6_frame_pings_are_answered_before_the_login(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let mut client = harness.connect(kind).await;
    for _ in 0..3 {
        client.write(encode(Opcode::Ping, &[])).await;
        let is_pong =
            |seen: &Seen| matches!(seen, Seen::Frame(_, f) if f.opcode == Opcode::Pong).then_some(());
        client.take("a pong", is_pong).await;
    }
    client.login("alice").await;
}

#[rstest]
#[tokio::test]
async fn b6_a_second_login_is_answered_103_and_the_third_of_them_closed_3506(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    for _ in 0..2 {
        let sequence = alice.signin(&token("mallory")).await;
        let answer = alice.response(sequence).await;
        assert_eq!(answer.header.status, pb::Status::InvalidCommand as i32);
    }
    let sequence = alice.talk("bob", "still open").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    alice.signin(&token("mallory")).await;
    alice.closed_with(3506).await;
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "abuse");
    assert_eq!(harness.login.packets("login.signin").len(), 1, "none of them was forwarded");
}

#[rstest]
#[case::overloaded(300, 3004)]
#[case::not_implemented(301, 3004)]
#[case::the_last_of_the_300s(399, 3004)]
#[case::unauthenticated(105, 3500)]
#[case::not_found(404, 3500)]
#[case::unknown(210, 3500)]
#[tokio::test]
async fn a_refusal_by_the_login_service_is_relayed_unchanged_and_then_closed(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[case] status: i32,
    #[case] code: u16,
) {
    let harness = TestGateway::start().await;
    harness.login.answer_with("login.signin", status, b"the reason".to_vec());
    let mut client = harness.connect(kind).await;
    let sequence = client.signin(&token("alice")).await;
    let farewell = client.closed_with(code).await;
    let answer = farewell.response(sequence);
    assert_eq!((answer.header.status, answer.body.as_ref()), (status, b"the reason".as_ref()));
    let signin = harness.login.signin("alice").await;
    let reason = if code == 3004 { "login_unavailable" } else { "unauthenticated" };
    assert_eq!(harness.login.signout(&signin.header.channel_id).await.meta("reason"), reason);
}

#[rstest]
#[tokio::test]
async fn b21_a_login_without_a_login_service_is_answered_300_and_closed_3004_without_a_signout(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let (login, waker) = FakeLogic::dormant(Dialect::XIm);
    let harness = TestGateway::unready(login, FakeLogic::start(Dialect::XIm), Dialect::XIm, |config| {
        config.limits.backoff_max = Duration::from_millis(50);
        config.limits.backoff_first = Duration::from_millis(20);
    });
    let mut client = harness.connect(kind).await;
    let sequence = client.signin(&token("alice")).await;
    let farewell = client.closed_with(3004).await;
    let answer = farewell.response(sequence);
    assert_eq!(answer.header.status, pb::Status::SystemException as i32);

    waker.wake();
    harness.ready().await;
    let _bob = harness.client(kind, "bob").await;
    let signin = harness.login.packet("login.signin", 0).await;
    assert_eq!(signin.meta("account"), "bob", "the failed login was not kept");
    assert_eq!(harness.login.packets("login.signout").len(), 0, "nothing was signed out");
}

#[rstest]
#[tokio::test]
async fn a_silent_login_service_is_answered_for_with_210_closed_3004_and_signed_out(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with_limits(|limits| limits.login_answer = Duration::from_millis(300)).await;
    harness.login.hold("login.signin");
    let mut client = harness.connect(kind).await;
    let sequence = client.signin(&token("alice")).await;
    let farewell = client.closed_with(3004).await;
    assert_eq!(farewell.response(sequence).header.status, pb::Status::OutcomeUnknown as i32);
    let signin = harness.login.signin("alice").await;
    let signout = harness.login.signout(&signin.header.channel_id).await;
    assert_eq!(signout.meta("reason"), "login_unavailable");
}

#[rstest]
#[tokio::test]
async fn e1_a_login_link_lost_after_the_hand_over_is_answered_for_with_210(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    harness.login.hold("login.signin");
    let mut client = harness.connect(kind).await;
    let sequence = client.signin(&token("alice")).await;
    let signin = harness.login.signin("alice").await;
    harness.login.reset_link();
    let farewell = client.closed_with(3004).await;
    assert_eq!(farewell.response(sequence).header.status, pb::Status::OutcomeUnknown as i32);
    let signout = harness.login.signout(&signin.header.channel_id).await;
    assert_eq!((signout.link, signout.meta("reason")), (1, "login_unavailable"), "on the next link");
    assert_eq!(harness.login.packets("login.signin").len(), 1, "the sign-in was not sent again");
}

#[rstest]
#[tokio::test]
async fn b8_b9_silence_is_closed_3007_at_the_login_deadline(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values("nothing", "frame pings", "half a frame")] first: &str,
) {
    let harness = TestGateway::with_limits(|limits| limits.login_deadline = Duration::from_millis(400)).await;
    let mut client = harness.connect(kind).await;
    match first {
        "nothing" => {}
        "frame pings" => client.write(encode(Opcode::Ping, &[])).await,
        _ => client.write([2, 0]).await,
    }
    assert_eq!(client.closed_with(3007).await.messages.len(), 0);
}

#[rstest]
#[tokio::test]
async fn a_client_that_leaves_before_its_login_leaves_no_trace(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values("bye", "finish", "reset")] how: &str,
) {
    let harness = TestGateway::start().await;
    let mut client = harness.connect(kind).await;
    client.write([2, 0, 0]).await;
    match how {
        "bye" => client.bye().await,
        "finish" => client.finish(0).await,
        _ => client.reset().await,
    }
    let _bob = harness.client(kind, "bob").await;
    assert_eq!(harness.login.packet("login.signin", 0).await.meta("account"), "bob");
    assert_eq!(harness.login.packets("login.signout").len(), 0);
}

#[rstest]
#[tokio::test]
async fn d9_input_nobody_reads_does_not_destroy_the_last_response(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    for _ in 0..10 {
        let mut client = harness.connect(kind).await;
        let login = pb::LoginReq { token: "refused".into(), ..Default::default() };
        let mut bytes = client.signin_frame(1, &login).to_vec();
        let more = client.encode(&request("chat.user.talk", 2, "bob"), &[b'x'; 5000]);
        bytes.extend(more.repeat(6));
        client.write(bytes).await;
        let farewell = client.closed_with(3500).await;
        assert_eq!(farewell.response(1).header.status, pb::Status::Unauthenticated as i32);
        assert_eq!(farewell.messages.len(), 1, "what follows a refused login is not answered");
    }
    assert!(harness.chat.packets("chat.user.talk").is_empty());
}

#[rstest]
#[tokio::test]
async fn g6_more_logins_waiting_than_allowed_are_answered_300_and_closed_3003(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with_limits(|limits| limits.max_logins_waiting = 1).await;
    harness.login.hold("login.signin");
    let mut first = harness.connect(kind).await;
    let waiting = first.signin(&token("alice")).await;
    let signin = harness.login.signin("alice").await;
    let mut second = harness.connect(kind).await;
    let refused = second.signin(&token("bob")).await;
    let farewell = second.closed_with(3003).await;
    assert_eq!(farewell.response(refused).header.status, pb::Status::SystemException as i32);
    harness.login.answer_default(&signin);
    assert_eq!(first.response(waiting).await.header.status, 0);
    assert_eq!(harness.login.packets("login.signin").len(), 1);
}

#[tokio::test]
async fn g6_more_connections_than_allowed_are_closed_3003_on_tcp_and_refused_on_quic() {
    let harness = TestGateway::with_limits(|limits| limits.max_connections = 2).await;
    let (mut one, channel) = harness.client(Tcp, "one").await;
    let _two = harness.client(QuicOne, "two").await;
    let mut late = harness.connect(Tcp).await;
    late.closed_with(3003).await;

    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quic_client(&[ALPN], quinn::TransportConfig::default());
    let connecting = endpoint.connect_with(config, harness.target.quic, "localhost").unwrap();
    soon("the refusal", connecting).await.expect_err("refused");

    // When one leaves there is room again.
    one.bye().await;
    harness.login.signout(&channel).await;
    drop(one);
    harness.metric_is("gateway_connections", &["transport=\"tcp\""], 0.0).await;
    let _three = harness.client(QuicOne, "three").await;
}
