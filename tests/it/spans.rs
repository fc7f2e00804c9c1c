//! Spans for a collector, and the `traceparent` that logic services see. Needs the feature `trace-export`, which is on by default.
#![cfg(feature = "trace-export")]

use std::collections::HashSet;
use std::sync::Arc;

use gateway::config::{HttpTarget, Tracing};
use gateway::wire::pb;
use prost::Message as _;

use crate::support::collector::FakeCollector;
use crate::support::fake_logic::Received;
use crate::support::harness::{GATE, TestGateway};
use crate::support::raw::Kind::{QuicMany, Tcp};
use crate::support::raw::{Raw, request};

const FORGED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn string_meta(key: &str, value: &str) -> pb::Meta {
    pb::Meta { key: key.into(), value: value.into(), r#type: pb::MetaType::String as i32 }
}

/// A request that says which trace it belongs to; what its service got, and the answer.
async fn ask(harness: &TestGateway, raw: &mut Raw, n: usize, traceparent: &str) -> (Received, pb::Header) {
    let sequence = raw.next_sequence();
    let mut header = request("chat.user.talk", sequence, "bob");
    header.meta.extend([string_meta("traceparent", traceparent), string_meta("tracestate", "vendor=1")]);
    header.meta.push(string_meta("kept", "yes"));
    let body = pb::MessageReq { body: "hello".into(), ..pb::MessageReq::default() }.encode_to_vec();
    raw.send_on(0, &header, &body).await;
    let got = harness.chat.packet("chat.user.talk", n).await;
    (got, raw.response(sequence).await.header)
}

fn has(header: &pb::Header, key: &str) -> bool {
    header.meta.iter().any(|meta| meta.key == key)
}

#[tokio::test]
async fn f17_requests_carry_a_traceparent_of_the_gateway_and_the_collector_gets_their_spans() {
    let collector = FakeCollector::start().await;
    let target = collector.target();
    let harness = TestGateway::with(|config| {
        let accounts = Arc::new(HashSet::from(["alice".to_owned()]));
        config.tracing = Tracing { collector: Some(target), ratio: 0.0, accounts, trust_clients: false };
    })
    .await;
    let (mut alice, channel) = harness.client(QuicMany, "alice").await;
    let (got, answer) = ask(&harness, &mut alice, 0, FORGED).await;
    let told = got.meta("traceparent").to_owned();
    assert!(told != FORGED && told.len() == FORGED.len() && told.ends_with("-01"), "{told}");
    assert!(!has(&got.header, "tracestate") && has(&got.header, "kept"), "{:?}", got.header);
    assert!(!has(&answer, "traceparent"), "{answer:?}");
    harness.metric_is("gateway_reject_total", &["forged_meta"], 1.0).await;

    let call = collector.span("call", |span| told.contains(&span.id)).await;
    assert_eq!((&*call.trace, call.kind), (&told[3..35], 3));
    assert_eq!((&*call.attributes["gateway.instance"], &*call.gateway), ("chat01", GATE));
    let asked = collector.span("request", |span| span.id == call.parent).await;
    assert_eq!((&*asked.trace, &*asked.parent, asked.kind), (&*call.trace, "", 2));
    assert!(asked.lasted >= call.lasted, "{asked:?} {call:?}");
    for (key, value) in
        [("command", "chat.user.talk"), ("status", "0"), ("app", "x_im"), ("channel", &*channel)]
    {
        assert_eq!(asked.attributes[&format!("gateway.{key}")], value);
    }
    let [queued, served] = ["queue", "service"]
        .map(|part| asked.attributes[&format!("gateway.{part}_seconds")].parse::<f64>().unwrap());
    assert!(queued >= 0.0 && served >= 0.0 && (queued + served) * 1e9 <= asked.lasted as f64 + 1e3);
    let login = collector.span("login", |span| span.attributes["gateway.channel"] == channel).await;
    drop(alice);
    let connection = collector.span("connection", |span| span.id == login.parent).await;
    assert_eq!((&connection.trace, &*connection.attributes["gateway.transport"]), (&login.trace, "quic"));
    assert!(connection.attributes.contains_key("gateway.close_reason"), "{connection:?}");

    // Nothing of anybody else, at a ratio of 0.
    let (mut bob, _) = harness.client(Tcp, "bob").await;
    let (got, _) = ask(&harness, &mut bob, 1, FORGED).await;
    assert!(!has(&got.header, "traceparent"), "{:?}", got.header);
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    let (got, _) = ask(&harness, &mut alice, 2, FORGED).await;
    let told = got.meta("traceparent").to_owned();
    collector.span("call", |span| told.contains(&span.id)).await;
    let spans = collector.spans();
    assert!(
        spans.iter().all(|span| span.name == "call" || span.attributes["gateway.channel"].contains("alice"))
    );
}

#[tokio::test]
async fn f17_a_trusted_client_names_the_trace_and_a_push_that_names_one_is_recorded() {
    let collector = FakeCollector::start().await;
    let target = collector.target();
    let harness = TestGateway::with(|config| {
        let accounts = Arc::default();
        config.tracing = Tracing { collector: Some(target), ratio: 0.0, accounts, trust_clients: true };
    })
    .await;
    let (mut alice, channel) = harness.client(Tcp, "alice").await;
    let (got, _) = ask(&harness, &mut alice, 0, FORGED).await;
    let told = got.meta("traceparent").to_owned();
    assert_eq!(told[..36], FORGED[..36]);
    assert_ne!(told, FORGED);
    let asked = collector.span("request", |span| span.trace == FORGED[3..35]).await;
    assert_eq!(asked.parent, FORGED[36..52]);
    // Nobody records it, so it is handed on as it is.
    let unsampled = FORGED.replace("-01", "-00");
    let (got, _) = ask(&harness, &mut alice, 1, &unsampled).await;
    assert_eq!(got.meta("traceparent"), unsampled);
    assert_eq!(harness.metric("gateway_reject_total", &["forged_meta"]).await, 0.0);

    let gate = harness.chat.handshake(0).await;
    let mut header = request("chat.user.talk", 9, "");
    header.flag = pb::Flag::Push as i32;
    header.meta.push(string_meta("traceparent", FORGED));
    harness.chat.send(harness.chat.push_frame(&gate, &[&channel, "nobody"], header, b"pushed"));
    let pushed = alice.push().await;
    assert!(!has(&pushed.header, "traceparent"), "{:?}", pushed.header);
    let push = collector.span("push", |span| span.trace == FORGED[3..35]).await;
    assert_eq!((&*push.parent, push.kind), (&FORGED[36..52], 5));
    assert_eq!(
        (&*push.attributes["gateway.receivers"], &*push.attributes["gateway.dropped"]),
        ("1", "1"),
        "{push:?}"
    );
}

#[tokio::test]
async fn f17_without_a_collector_nothing_is_added_and_one_that_is_down_holds_up_nobody() {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    let (got, _) = ask(&harness, &mut alice, 0, FORGED).await;
    assert!(!has(&got.header, "traceparent") && !has(&got.header, "tracestate"), "{:?}", got.header);
    assert_eq!(harness.metric("gateway_trace_spans_total", &[]).await, 0.0);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let target = (HttpTarget::plain("127.0.0.1", closed), "/v1/traces".to_owned());
    let harness = TestGateway::with(|config| {
        config.tracing =
            Tracing { collector: Some(target), ratio: 1.0, accounts: Arc::default(), trust_clients: false };
    })
    .await;
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    let (got, answer) = ask(&harness, &mut alice, 0, FORGED).await;
    assert!(has(&got.header, "traceparent") && answer.status == 0);
    // Of the login and the request, and of the calls they made.
    harness.metric_is("gateway_trace_spans_total", &["failed"], 4.0).await;
}
