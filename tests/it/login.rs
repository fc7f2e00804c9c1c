//! Signing in: what the login service sees, what the client gets, and what may not happen before the answer.

use std::time::Duration;

use gateway::config::OnExpiry;
use gateway::wire::dialect::Dialect;
use gateway::wire::pb;
use jsonwebtoken::Algorithm;
use prost::Message as _;
use rstest::rstest;
use serde_json::json;

use crate::support::fake_logic::push_header;
use crate::support::harness::{GATE, TestGateway};
use crate::support::identity;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::{Options, Purpose, Raw, request};

/// `n` of a channel id `{gate}_{account}_{n}`; the account part must be as given.
fn number_of(channel: &str, encoded_account: &str) -> u64 {
    let rest = channel.strip_prefix(&format!("{GATE}_{encoded_account}_"));
    rest.unwrap_or_else(|| panic!("{channel} is not of {encoded_account}")).parse().expect("a decimal u64")
}

#[rstest]
#[tokio::test]
async fn g5_g7_a_login_in_either_dialect_reaches_the_login_service_as_a_session(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(Dialect::XIm, Dialect::Kim)] client: Dialect,
    #[values(Dialect::XIm, Dialect::Kim)] service: Dialect,
) {
    let harness = TestGateway::of_dialect(service, |_| {}).await;
    let mut alice = harness.connect_with(kind, Options { dialect: client, ..Options::default() }).await;
    let login = pb::LoginReq {
        token: identity::token("alice"),
        isp: "isp1".into(),
        zone: "zone1".into(),
        tags: vec!["a".into(), "b".into()],
    };
    let sequence = alice.signin_with(&login).await;

    let signin = harness.login.packet("login.signin", 0).await;
    let channel = signin.header.channel_id.clone();
    assert!(number_of(&channel, "alice") > 0);
    assert_eq!(signin.header.sequence, sequence);
    assert_eq!(signin.header.meta.len(), 3, "{:?}", signin.header);
    assert_eq!(signin.meta("app"), "x_im");
    assert_eq!(signin.meta("account"), "alice");
    assert_eq!(signin.meta(service.gateway_key()), GATE);
    assert!(signin.header.meta.iter().all(|meta| meta.r#type == pb::MetaType::String as i32));
    assert_eq!(
        signin.session(),
        pb::Session {
            channel_id: channel.clone(),
            gate_id: GATE.into(),
            account: "alice".into(),
            zone: "zone1".into(),
            isp: "isp1".into(),
            remote_ip: "127.0.0.1".into(),
            device: String::new(),
            app: "x_im".into(),
            tags: vec!["a".into(), "b".into()],
        }
    );

    let answer = alice.response(sequence).await;
    assert_eq!(answer.dialect, client);
    assert_eq!((answer.header.command.as_str(), answer.header.status), ("login.signin", 0));
    assert_eq!(answer.header.meta, [], "every dest.* meta is gone");
    assert_eq!(pb::LoginResp::decode(answer.body).unwrap().channel_id, channel);

    // The channel is open: a request goes through.
    let sequence = alice.talk("bob", "hello").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
}

#[rstest]
#[tokio::test]
async fn b17_an_account_of_any_characters_is_encoded_in_the_channel_id_and_nowhere_else(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (_, channel) = harness.client(kind, "a,b_c ü\"%.-Z").await;
    let expected = "gate01_a%2cb%5fc%20%c3%bc%22%25.-z_";
    assert!(channel.to_lowercase().starts_with(expected), "{channel}");
    let signin = harness.login.signin("a,b_c ü\"%.-Z").await;
    assert_eq!(signin.session().account, "a,b_c ü\"%.-Z");
    assert_eq!(signin.header.channel_id, channel);
}

#[rstest]
#[tokio::test]
async fn b19_a_token_that_runs_out_during_the_session_does_not_end_it(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with(|config| config.leeway = Duration::ZERO).await;
    let mut claims = identity::claims("alice");
    claims["exp"] = json!(identity::now() + 2);
    let token = identity::signed(&claims, Algorithm::HS256, identity::SECRET);
    let mut alice = harness.connect(kind).await;
    let sequence = alice.signin(&token).await;
    let channel = pb::LoginResp::decode(alice.response(sequence).await.body).unwrap().channel_id;

    // Until it is refused.
    loop {
        let mut other = harness.connect(kind).await;
        let sequence = other.signin(&token).await;
        if other.response(sequence).await.header.status == pb::Status::Unauthenticated as i32 {
            other.closed_with(3500).await;
            break;
        }
        assert!(identity::now() < claims["exp"].as_u64().unwrap() + 5, "it never runs out");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // An end that was computed from a whole second could be one second late.
    let mut n = 0;
    while n < 3 || identity::now() < claims["exp"].as_u64().unwrap() + 2 {
        let sequence = alice.talk("bob", "still here").await;
        assert_eq!(alice.response(sequence).await.header.status, 0);
        harness.chat.push(&[&channel], n, b"you too").await;
        assert_eq!(alice.push().await.header.sequence, n);
        alice.heartbeat(n % 2 == 0).await;
        n += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    harness.metric_is("gateway_closes_total", &["\"token_expired\""], 0.0).await;
}

#[rstest]
#[tokio::test]
async fn b19_a_session_ends_with_its_token_where_that_is_configured(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with(|config| {
        config.leeway = Duration::ZERO;
        config.on_expiry = OnExpiry::Close(Duration::ZERO);
    })
    .await;
    let (mut other, _) = harness.client(kind, "other").await;
    let mut claims = identity::claims("alice");
    let expires = identity::now() + 2;
    claims["exp"] = json!(expires);
    let mut alice = harness.connect(kind).await;
    let sequence = alice.signin(&identity::signed(&claims, Algorithm::HS256, identity::SECRET)).await;
    let channel = pb::LoginResp::decode(alice.response(sequence).await.body).unwrap().channel_id;
    let sequence = alice.talk("bob", "in time").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);

    alice.closed_with(3507).await;
    assert!(identity::now() >= expires, "not before");
    harness.login.signout(&channel).await;
    harness.metric_is("gateway_closes_total", &["\"token_expired\""], 1.0).await;
    let sequence = other.talk("bob", "its token is good").await;
    assert_eq!(other.response(sequence).await.header.status, 0);
}

#[tokio::test]
async fn b12_b13_h19_channel_ids_never_repeat_and_device_and_leeway_count() {
    let harness = TestGateway::start().await;
    let (_first, one) = harness.client(Tcp, "alice").await;
    let mut second = harness.connect(QuicOne).await;
    let mut claims = identity::claims("alice");
    claims["dev"] = json!("phone");
    // Both ends of its life are on the wrong side of now, by less than the leeway (rows B12, B13).
    claims["nbf"] = json!(identity::now() + 30);
    claims["exp"] = json!(identity::now() - 30);
    let sequence = second.signin(&identity::signed(&claims, Algorithm::HS256, identity::SECRET)).await;
    let two = pb::LoginResp::decode(second.response(sequence).await.body).unwrap().channel_id;
    assert!(number_of(&two, "alice") > number_of(&one, "alice"));
    let signin = harness.login.packet("login.signin", 1).await;
    assert_eq!(signin.session().device, "phone");
}

#[rstest]
#[tokio::test]
async fn g3_requests_pipelined_behind_a_login_wait_for_its_answer(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut other, _) = harness.client(kind, "other").await;
    harness.login.hold("login.signin");

    let mut alice = harness.connect(kind).await;
    let login = pb::LoginReq { token: identity::token("alice"), ..Default::default() };
    let mut bytes = alice.signin_frame(1, &login).to_vec();
    let stream = alice.stream_for(Purpose::Messages);
    let talks: Vec<_> = (2..5).map(|n| alice.encode(&request("chat.user.talk", n, "bob"), b"x")).collect();
    if stream == 0 {
        bytes.extend(talks.concat());
        alice.write(bytes).await;
    } else {
        alice.write(bytes).await;
        alice.write_on(stream, talks.concat()).await;
    }
    let signin = harness.login.signin("alice").await;

    // Another channel's request passes by; none of alice's was before it.
    let sequence = other.talk("bob", "passes").await;
    other.response(sequence).await;
    assert_eq!(harness.chat.packets("chat.user.talk").len(), 1);

    harness.login.answer_default(&signin);
    for n in 2..5 {
        let packet = harness.chat.packet("chat.user.talk", n as usize - 1).await;
        assert_eq!((packet.meta("account"), packet.header.sequence), ("alice", n));
    }
    assert_eq!(alice.response(1).await.header.command, "login.signin");
    for n in 2..5 {
        assert_eq!(alice.response(n).await.header.status, 0);
    }
}

#[rstest]
#[tokio::test]
async fn b22_pushes_before_the_login_response_wait_behind_it(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut other, other_channel) = harness.client(kind, "other").await;
    harness.login.hold("login.signin");
    let mut alice = harness.connect(kind).await;
    let sequence = alice.signin(&identity::token("alice")).await;
    let signin = harness.login.signin("alice").await;
    let channel = signin.header.channel_id.clone();

    harness.chat.push(&[&channel], 1, b"early one").await;
    harness.chat.push(&[&channel], 2, b"early two").await;
    harness.chat.push(&[&other_channel], 3, b"passes").await;
    assert_eq!(other.push().await.body, "passes");
    assert!(alice.leftovers().is_empty(), "nothing before the login response");

    harness.login.answer_default(&signin);
    if kind.is_tcp() {
        let first = alice.next().await.and_then(|seen| seen.message()).expect("a packet");
        assert_eq!(first.header.command, "login.signin", "the login response is first");
    } else {
        alice.response(sequence).await;
    }
    assert_eq!(alice.push().await.body, "early one");
    assert_eq!(alice.push().await.body, "early two");
}

#[rstest]
#[tokio::test]
async fn a_channel_that_ends_unanswered_holds_its_signout_back_until_the_answer(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    harness.login.hold("login.signin");
    let mut alice = harness.connect(kind).await;
    alice.signin(&identity::token("alice")).await;
    let signin = harness.login.signin("alice").await;
    let since = tokio::time::Instant::now();
    alice.finish(0).await;
    assert_eq!(alice.farewell().await.messages.len(), 0);
    assert!(since.elapsed() < Duration::from_secs(3), "seen at once, not at the login's deadline");

    let mut bob = harness.connect(kind).await;
    bob.signin(&identity::token("bob")).await;
    harness.login.signin("bob").await;
    assert_eq!(harness.login.packets("login.signout").len(), 0, "held back");

    harness.login.answer_default(&signin);
    let signout = harness.login.signout(&signin.header.channel_id).await;
    assert_eq!(signout.meta("reason"), "peer_closed");
}

/// Leaves in a way that is seen although nothing is read while the login is unanswered.
async fn leave(client: &mut Raw, kind: Kind) {
    if kind.is_tcp() { client.finish(0).await } else { client.bye().await }
}

#[rstest]
#[tokio::test]
async fn a_signout_held_back_goes_out_when_no_answer_comes(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with_limits(|limits| limits.login_answer = Duration::from_millis(300)).await;
    harness.login.hold("login.signin");
    let mut alice = harness.connect(kind).await;
    alice.signin(&identity::token("alice")).await;
    let signin = harness.login.signin("alice").await;
    leave(&mut alice, kind).await;
    let signout = harness.login.signout(&signin.header.channel_id).await;
    assert_eq!(signout.meta("reason"), if kind.is_tcp() { "peer_closed" } else { "bye" });
}

#[rstest]
#[tokio::test]
async fn e4_an_answer_to_a_login_nobody_asked_for_opens_nothing(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    harness.login.hold("login.signin");
    let mut alice = harness.connect(kind).await;
    let sequence = alice.signin(&identity::token("alice")).await;
    let signin = harness.login.signin("alice").await;

    // A response with another sequence, and a push that looks like a login response.
    let mut wrong = signin.clone();
    wrong.header.sequence = sequence + 1000;
    harness.login.answer_default(&wrong);
    let push = push_header("login.signin", sequence);
    harness.login.send(harness.login.push_frame(GATE, &[&signin.header.channel_id], push, b"push"));
    harness.login.answer_default(&signin);
    let answer = alice.response(sequence).await;
    assert_eq!(answer.header.status, 0);
    assert_eq!(alice.push().await.body, "push");
    let late = alice.talk("bob", "x").await;
    alice.response(late).await;
    assert!(alice.leftovers().iter().all(|seen| seen.message().is_none()), "the wrong answer was dropped");
}

#[rstest]
#[tokio::test]
async fn a_signout_that_had_to_wait_is_dropped_when_the_account_signed_in_again(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    harness.login.hold("login.signin");
    let mut first = harness.connect(kind).await;
    first.signin(&identity::token("alice")).await;
    let old = harness.login.packet("login.signin", 0).await;
    leave(&mut first, kind).await;
    drop(first);
    // The end was seen when the connection is no longer counted.
    harness.metric_is("gateway_connections", &[], 0.0).await;

    let mut second = harness.connect(kind).await;
    let sequence = second.signin(&identity::token("alice")).await;
    let new = harness.login.packet("login.signin", 1).await;
    harness.login.answer_default(&old);
    harness.login.answer_default(&new);
    second.response(sequence).await;
    second.bye().await;
    harness.login.signout(&new.header.channel_id).await;
    assert_eq!(harness.login.packets("login.signout").len(), 1, "the later session was not signed out twice");
    assert_eq!(harness.metric("gateway_signouts_total", &["superseded"]).await, 1.0);
}

#[rstest]
#[tokio::test]
async fn the_login_service_may_have_another_name(#[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind) {
    let harness = TestGateway::of_dialect(Dialect::Kim, |config| {
        config.login_service = "chat".into();
        config.instances.retain(|instance| instance.service == "chat");
    })
    .await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let sequence = alice.talk("bob", "x").await;
    alice.response(sequence).await;
    alice.bye().await;
    assert_eq!(harness.chat.signout(&channel).await.meta("reason"), "bye");
    assert!(harness.login.events().is_empty(), "nobody dialled the other one");
}

#[rstest]
#[tokio::test]
async fn frames_behind_a_login_have_the_limit_of_open_channels(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let mut alice = harness.connect(kind).await;
    let login = pb::LoginReq { token: identity::token("alice"), ..Default::default() };
    let signin = alice.signin_frame(1, &login);
    let large = alice.encode(&request("chat.user.talk", 2, "bob"), &vec![b'x'; 40_000]);
    match alice.stream_for(Purpose::Messages) {
        0 => alice.write([signin, large].concat()).await,
        stream => {
            alice.open(stream).await;
            alice.write_on(stream, large).await;
            alice.write(signin).await;
        }
    }
    assert_eq!(alice.response(1).await.header.status, 0);
    assert_eq!(alice.response(2).await.header.status, 0);
    assert_eq!(harness.chat.packet("chat.user.talk", 0).await.body.len(), 40_000);
}

#[rstest]
#[tokio::test]
async fn b8_the_login_deadline_ends_with_the_login_packet(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with_limits(|limits| limits.login_deadline = Duration::from_millis(400)).await;
    harness.login.hold("login.signin");
    let mut alice = harness.connect(kind).await;
    let sequence = alice.signin(&identity::token("alice")).await;
    let signin = harness.login.signin("alice").await;
    // One that came later and stays silent is closed first.
    harness.connect(kind).await.closed_with(3007).await;
    harness.login.answer_default(&signin);
    assert_eq!(alice.response(sequence).await.header.status, 0);
    alice.heartbeat(true).await;
}

#[rstest]
#[tokio::test]
async fn b11_b12_b13_good_tokens_of_unusual_form_are_accepted(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = identity::claims("alice");
        claims[key] = value;
        claims
    };
    let mut hinted = jsonwebtoken::Header::new(Algorithm::HS256);
    hinted.kid = Some("another".into());
    hinted.jku = Some("http://192.0.2.1/keys".into());
    let plain = jsonwebtoken::Header::new(Algorithm::HS256);
    for (name, header, claims) in [
        ("exp as a float", &plain, with("exp", json!(identity::now() as f64 + 60.5))),
        ("exp far away", &plain, with("exp", json!(1u64 << 53))),
        ("nbf now", &plain, with("nbf", json!(identity::now()))),
        ("aud that nobody asked for", &plain, with("aud", json!("somebody"))),
        ("more claims", &plain, with("iat", json!("whenever"))),
        ("key hints", &hinted, identity::claims("alice")),
    ] {
        let mut client = harness.connect(kind).await;
        let sequence = client.signin(&identity::signed_with(header, &claims, identity::SECRET)).await;
        assert_eq!(client.response(sequence).await.header.status, 0, "{name}");
    }
}

#[rstest]
#[tokio::test]
async fn the_address_of_a_client_is_told_without_port_and_unmapped(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with(|config| {
        let any = "[::]:0".parse().unwrap();
        config.tcp = vec![any];
        config.quic.as_mut().unwrap().listen = vec![any];
    })
    .await;
    harness.client(kind, "alice").await;
    assert_eq!(harness.login.signin("alice").await.session().remote_ip, "127.0.0.1");
}

#[rstest]
#[tokio::test]
async fn a_second_answer_to_a_login_is_dropped(#[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind) {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    let signin = harness.login.signin("alice").await;
    harness.login.answer(&signin, 105, b"changed my mind");
    harness.login.answer_default(&signin);
    harness.metric_is("gateway_reject_total", &["response_unmatched"], 2.0).await;
    alice.heartbeat(true).await;
    assert!(alice.leftovers().is_empty());
}
