//! What the administrator is told: by the webhook, and by the metrics.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::config::Config;
use gateway::monitor::events::PROCESS;
use gateway::monitor::events::event::{Event, Severity, Subject};
use gateway::wire::dialect::Dialect;
use rstest::rstest;

use crate::support::fake_logic::FakeLogic;
use crate::support::harness::{GATE, TestGateway, instance, route};
use crate::support::raw::Kind::{QuicOne, Tcp};
use crate::support::webhook::{Answer, Post, Webhook};

/// How soon an administrator is told of what a worker notices.
const SOON: Duration = Duration::from_secs(1);

/// Events kept while the webhook does not take them.
const KEPT: usize = 1_000;

fn telling(webhook: &Webhook) -> impl FnOnce(&mut Config) + use<> {
    let webhook = webhook.config();
    move |config| {
        config.webhook = Some(webhook);
        config.limits.backoff_first = Duration::from_millis(20);
        config.limits.backoff_max = Duration::from_millis(50);
    }
}

fn lost(number: usize) -> Event {
    Event::instance_lost("chat", &format!("made-up-{number}"), "zone_a", "for a test")
}

/// The instances that made-up events were about, in the order of the posts.
fn made_up(posts: &[Post]) -> Vec<String> {
    let instances = posts.iter().map(|post| post.text("instance"));
    instances.filter(|instance| instance.starts_with("made-up")).map(str::to_owned).collect()
}

async fn outcome(harness: &TestGateway, outcome: &str) -> f64 {
    harness.metric("gateway_webhook_deliveries_total", &[outcome]).await
}

#[tokio::test]
async fn e1_an_instance_that_is_killed_is_told_within_a_second_and_so_is_its_return() {
    let webhook = Webhook::start();
    let mut harness = TestGateway::with(telling(&webhook)).await;
    let killed = Instant::now();
    let address = harness.chat.stop().await;
    let post = webhook.event("instance_lost", "raised").await;
    assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
    for (key, value) in [
        ("gateway", GATE),
        ("severity", "warning"),
        ("service", "chat"),
        ("instance", "chat01"),
        ("zone", "zone_a"),
    ] {
        assert_eq!(post.text(key), value, "{key}: {post:?}");
    }
    assert!(!post.text("detail").is_empty(), "{post:?}");
    humantime::parse_rfc3339(post.text("time")).unwrap();
    assert!(post.text("id").starts_with("gate01-"), "{post:?}");
    assert!(post.head.starts_with("post /hidden/path?and=query http/1.1\r\n"), "{}", post.head);
    assert!(post.head.contains("\r\nauthorization: bearer hidden-token"), "{}", post.head);
    assert!(post.head.contains("\r\ncontent-type: application/json"), "{}", post.head);
    assert_eq!(harness.metric("gateway_events_total", &["\"instance_lost\""]).await, 1.0);
    assert_eq!(harness.metric("gateway_events_active", &["\"instance_lost\""]).await, 1.0);

    harness.chat = FakeLogic::start_at(Dialect::XIm, address);
    let back = webhook.event("instance_lost", "cleared").await;
    assert_eq!(back.text("instance"), "chat01");
    assert!(back.text("detail").starts_with("it lasted "), "{back:?}");
    assert_eq!(harness.metric("gateway_events_active", &["\"instance_lost\""]).await, 0.0);
    let ids: BTreeSet<_> = webhook.posts().iter().map(|post| post.text("id").to_owned()).collect();
    assert_eq!(ids.len(), webhook.posts().len(), "each event has an id of its own");
}

#[rstest]
#[tokio::test]
async fn e13_the_last_instance_of_a_zone_is_zone_empty_and_the_first_request_elsewhere_is_fallback(
    #[values(true, false)] bounded: bool,
) {
    let webhook = Webhook::start();
    let mut far = FakeLogic::start(Dialect::XIm);
    let (tell, address) = (telling(&webhook), far.address);
    let harness = TestGateway::with(|config| {
        tell(config);
        config.route = Arc::new(route(&["zone_a", "zone_b"]));
        config.bounded_load = bounded;
        let mut other = instance("chat", "chat02", address, Dialect::XIm);
        other.zone = "zone_b".into();
        config.instances.push(other);
    })
    .await;
    harness.metric_is("gateway_link_state", &["chat02", "state=\"healthy\""], 1.0).await;
    // By crc32 of the account modulo 2; nobody is named for login in zone_b, which is meant to be so.
    let (mut of_a, _) = harness.client(Tcp, "bob").await;
    let (mut of_b, _) = harness.client(QuicOne, "alice").await;
    assert_eq!(harness.metric("gateway_zone_fallback_total", &["zone_b"]).await, 1.0, "her sign-in");
    for client in [&mut of_a, &mut of_b] {
        let sequence = client.talk("somebody", "x").await;
        client.response(sequence).await;
    }
    assert_eq!(webhook.posts().len(), 0);

    let killed = Instant::now();
    far.stop().await;
    let empty = webhook.event("zone_empty", "raised").await;
    assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
    let about =
        |post: &Post| [post.text("service"), post.text("zone"), post.text("instance")].map(str::to_owned);
    assert_eq!(about(&empty), ["chat", "zone_b", ""]);
    assert_eq!((empty.text("severity"), empty.text("detail")), ("warning", "other zones take its accounts"));
    let lost = webhook.posts().iter().position(|post| post.text("event") == "instance_lost").unwrap();
    assert!(lost < webhook.posts().iter().position(|post| post.text("event") == "zone_empty").unwrap());
    assert_eq!(harness.metric("gateway_events_active", &["\"zone_fallback\""]).await, 0.0);
    for _ in 0..20 {
        for client in [&mut of_a, &mut of_b] {
            let sequence = client.talk("somebody", "x").await;
            assert_eq!(client.response(sequence).await.header.status, 0);
        }
    }
    let fallback = webhook.event("zone_fallback", "raised").await;
    assert_eq!(about(&fallback), ["chat", "zone_b", ""]);
    assert_eq!(harness.metric("gateway_zone_fallback_total", &["zone_b"]).await, 21.0);
    assert_eq!(harness.metric("gateway_events_total", &["\"zone_fallback\""]).await, 1.0, "not per request");

    let _far = FakeLogic::start_at(Dialect::XIm, address);
    webhook.event("zone_empty", "cleared").await;
    webhook.event("zone_fallback", "cleared").await;
    harness.metric_is("gateway_events_active", &[], 0.0).await;
}

#[tokio::test]
async fn a_login_service_that_is_gone_is_told_and_so_is_its_return() {
    let webhook = Webhook::start();
    let mut harness = TestGateway::with(telling(&webhook)).await;
    let address = harness.login.stop().await;
    let gone = webhook.event("login_unreachable", "raised").await;
    assert_eq!((gone.text("severity"), gone.text("service")), ("error", "login"));
    let empty = webhook.event("zone_empty", "raised").await;
    assert!(empty.text("detail").starts_with("nor has any other zone"), "{empty:?}");
    assert_eq!(empty.text("severity"), "error");
    harness.login = FakeLogic::start_at(Dialect::XIm, address);
    webhook.event("login_unreachable", "cleared").await;
}

/// Every post as `event state severity`.
fn told(webhook: &Webhook) -> Vec<String> {
    let line = |post: &Post| ["event", "state", "severity"].map(|key| post.text(key).to_owned()).join(" ");
    webhook.posts().iter().map(line).collect()
}

/// Two zones, two workers, clients: the gateway ends all its links, and that is nobody's loss.
#[rstest]
#[tokio::test]
async fn h24_an_ordinary_stop_is_told_as_a_drain_and_as_nothing_else(
    #[values(1, 2)] workers: usize,
    #[values(Duration::ZERO, Duration::from_secs(2))] window: Duration,
) {
    let webhook = Webhook::start();
    let far = FakeLogic::start(Dialect::XIm);
    let (tell, address) = (telling(&webhook), far.address);
    let mut harness = TestGateway::with(|config| {
        tell(config);
        config.workers = workers;
        config.drain_window = window;
        config.route = Arc::new(route(&["zone_a", "zone_b"]));
        config.instances.push(gateway::config::Instance {
            zone: "zone_b".into(),
            ..instance("chat", "chat02", address, Dialect::XIm)
        });
    })
    .await;
    harness.metric_is("gateway_link_state", &["chat02", "state=\"healthy\""], 1.0).await;
    let mut clients = Vec::new();
    for account in ["alice", "bob", "carol", "dave"] {
        let (mut client, _) = harness.client(Tcp, account).await;
        let sequence = client.talk("somebody", "x").await;
        client.response(sequence).await;
        clients.push(client);
    }
    // At once: what a stop does is not told by the last second alone.
    harness.drain();
    harness.ended().await;
    assert_eq!(told(&webhook), ["drain raised info", "drain cleared info"]);
}

/// Whoever keeps what was raised is not left with it.
#[tokio::test]
async fn h24_what_was_raised_before_an_ordinary_stop_does_not_stay_raised() {
    let webhook = Webhook::start();
    let mut harness = TestGateway::with(telling(&webhook)).await;
    harness.chat.stop().await;
    webhook.event("zone_empty", "raised").await;
    let events = harness.events();
    harness.drain();
    harness.ended().await;
    events.raise(PROCESS, lost(1));
    let told = told(&webhook);
    let (before, after) = told.split_at(3);
    let raised = ["instance_lost raised warning", "zone_empty raised error", "drain raised info"];
    assert_eq!(before, raised);
    let cleared: BTreeSet<_> = after.iter().map(String::as_str).collect();
    assert_eq!(after.last().map(String::as_str), Some("drain cleared info"));
    let all = ["drain cleared info", "instance_lost cleared warning", "zone_empty cleared error"];
    assert!(after.len() == 3 && cleared.into_iter().eq(all), "{after:?}");
}

/// At no moment is a zone empty that has an instance which is not lost.
#[tokio::test]
async fn h24_zone_empty_comes_behind_the_loss_of_its_last_instance_and_goes_before_it_is_found() {
    let webhook = Webhook::start();
    let tell = telling(&webhook);
    let mut harness = TestGateway::with(|config| {
        tell(config);
        config.limits.backend_returned_within = Duration::from_millis(1);
        config.route = Arc::new(route(&["zone_a", "zone_b"]));
        config.instances.push(gateway::config::Instance {
            zone: "zone_b".into(),
            ..instance("chat", "chat02", FakeLogic::start(Dialect::XIm).address, Dialect::XIm)
        });
    })
    .await;
    // Never reached: lost, and so its zone is empty.
    webhook.event("zone_empty", "raised").await;
    let address = harness.chat.stop().await;
    webhook.posted(5).await;
    let zone_b = ["instance_lost raised warning", "zone_empty raised warning"];
    let none = ["instance_lost raised warning", "zone_empty raised error", "zone_empty raised error"];
    assert_eq!(told(&webhook), [&zone_b[..], &none[..]].concat(), "both zones are worse off now");
    // Warming for long, as nobody else is: linked all the same.
    harness.chat = FakeLogic::start_at(Dialect::XIm, address);
    webhook.posted(7).await;
    assert_eq!(told(&webhook)[5..7], ["zone_empty cleared error", "instance_lost cleared warning"]);
}

#[tokio::test]
async fn e15_an_instance_that_refuses_the_gateway_id_is_told() {
    let webhook = Webhook::start();
    let harness = TestGateway::with(telling(&webhook)).await;
    harness.chat.refuse(3);
    harness.chat.reset_link();
    let refused = webhook.event("link_refused", "raised").await;
    assert_eq!((refused.text("instance"), refused.text("detail")), ("chat01", "it knows gate01 already"));
    webhook.event("link_refused", "cleared").await;
    assert_eq!(
        harness.metric("gateway_events_total", &["\"link_refused\""]).await,
        1.0,
        "three refusals, one event"
    );
}

#[tokio::test]
async fn what_is_not_taken_is_posted_again_with_its_id_until_it_is_and_then_never_again() {
    let webhook = Webhook::start();
    webhook.script([Answer::Status(500), Answer::Hang, Answer::Close, Answer::Status(302)]);
    let harness = TestGateway::with(telling(&webhook)).await;
    let events = harness.events();
    events.raise(PROCESS, lost(1));
    events.raise(PROCESS, lost(2));
    let posts = webhook.posted(6).await;
    let ids: Vec<_> = posts.iter().map(|post| post.text("id")).collect();
    assert!(ids[..5].iter().all(|id| *id == ids[0]) && ids[5] != ids[0], "{ids:?}");
    assert_eq!(
        posts[..5].iter().map(|post| &post.body).collect::<Vec<_>>(),
        [&posts[0].body; 5],
        "the same body"
    );
    assert_eq!(made_up(&posts[4..]), ["made-up-1", "made-up-2"]);
    harness.metric_is("gateway_webhook_queued", &[], 0.0).await;
    assert_eq!((outcome(&harness, "delivered").await, outcome(&harness, "failed").await), (2.0, 4.0));
    events.raise(PROCESS, lost(3));
    assert_eq!(webhook.posted(7).await.len(), 7, "nothing was posted twice that was taken");
}

#[tokio::test]
async fn a_webhook_that_is_down_loses_nothing_up_to_a_thousand_and_then_the_oldest() {
    let address = Webhook::start().stop().await;
    let webhook = Webhook::start();
    let mut config = webhook.config();
    config.target.port = address.port();
    let harness = TestGateway::with(|with| with.webhook = Some(config)).await;
    let events = harness.events();
    for number in 0..KEPT {
        events.raise(PROCESS, lost(number));
    }
    assert_eq!(harness.metric("gateway_webhook_queued", &[]).await, KEPT as f64);
    assert_eq!(outcome(&harness, "dropped").await, 0.0);
    const MORE: usize = 7;
    for number in KEPT..KEPT + MORE {
        events.raise(PROCESS, lost(number));
    }
    assert_eq!(harness.metric("gateway_webhook_queued", &[]).await, KEPT as f64);
    assert_eq!(outcome(&harness, "dropped").await, MORE as f64);
    assert_eq!(harness.metric("gateway_events_total", &["\"instance_lost\""]).await, (KEPT + MORE) as f64);

    let webhook = Webhook::start_at(address);
    let seen = made_up(&webhook.posted(KEPT).await);
    // The one that was on its way when the others came is not the one that is dropped.
    let number = |instance: &String| instance.rsplit('-').next().unwrap().parse::<usize>().unwrap();
    let seen: BTreeSet<_> = seen.iter().map(number).collect();
    assert_eq!(seen.len(), KEPT);
    assert!((MORE + 1..KEPT + MORE).all(|number| seen.contains(&number)), "the newest are all there");
    harness.metric_is("gateway_webhook_queued", &[], 0.0).await;
    assert_eq!(outcome(&harness, "delivered").await, KEPT as f64);
}

#[tokio::test]
async fn a_webhook_that_hangs_delays_nobody() {
    let webhook = Webhook::start();
    webhook.script([Answer::Hang; 100]);
    let mut config = webhook.config();
    config.timeout = Duration::from_secs(60);
    let harness = TestGateway::with(|with| with.webhook = Some(config)).await;
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    let events = harness.events();
    events.raise(PROCESS, lost(0));
    webhook.posted(1).await;
    let began = Instant::now();
    for number in 1..=500 {
        for raised in 0..10 {
            events.raise(PROCESS, lost(number * 10 + raised));
        }
        let sequence = alice.talk("bob", "x").await;
        assert_eq!(alice.response(sequence).await.header.status, 0);
    }
    // A fraction of what one post is given.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(webhook.posts().len(), 1, "it hung all the time");
    assert_eq!(harness.get("/health").await.0, 200);
    let began = Instant::now();
    drop(harness);
    assert!(began.elapsed() < Duration::from_secs(10), "nor is the end delayed: {:?}", began.elapsed());
}

#[tokio::test]
async fn f1_the_drain_is_told_before_the_process_ends_and_a_webhook_that_hangs_does_not_hold_it_up() {
    let webhook = Webhook::start();
    let mut harness = TestGateway::with(telling(&webhook)).await;
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    harness.drain();
    harness.drain();
    alice.closed_with(3000).await;
    harness.ended().await;
    let drain: Vec<_> = webhook.posts().into_iter().filter(|post| post.text("event") == "drain").collect();
    let states: Vec<_> = drain.iter().map(|post| (post.text("state"), post.text("severity"))).collect();
    assert_eq!(states, [("raised", "info"), ("cleared", "info")]);

    let webhook = Webhook::start();
    webhook.script([Answer::Hang; 10]);
    let mut config = webhook.config();
    config.timeout = Duration::from_secs(60);
    let mut harness = TestGateway::with(|with| with.webhook = Some(config)).await;
    let began = Instant::now();
    harness.drain();
    webhook.posted(1).await;
    harness.ended().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "a second is given to the webhook, no more: {took:?}");
}

#[tokio::test]
async fn f1_the_end_does_not_wait_beyond_the_deadline_of_the_drain() {
    let webhook = Webhook::start();
    webhook.script([Answer::Hang; 10]);
    let mut config = webhook.config();
    config.timeout = Duration::from_secs(60);
    let deadline = Duration::from_millis(400);
    let mut harness = TestGateway::with(|with| {
        with.webhook = Some(config);
        with.drain_hard_stop = deadline;
    })
    .await;
    let began = Instant::now();
    harness.drain();
    harness.ended().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "that is what the webhook gets where there is time: {took:?}");
}

#[tokio::test]
async fn over_tls_the_webhook_is_posted_to_only_if_its_certificate_is_trusted() {
    let webhook = Webhook::start_tls();
    let harness = TestGateway::with(telling(&webhook)).await;
    harness.events().raise(PROCESS, lost(1));
    assert_eq!(made_up(&webhook.posted(1).await), ["made-up-1"]);
    drop(harness);

    let webhook = Webhook::start_tls();
    let mut config = webhook.config();
    let key = rcgen::KeyPair::generate().unwrap();
    let other = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    config.target.roots = vec![other.der().clone()];
    let harness = TestGateway::with(|with| with.webhook = Some(config)).await;
    harness.events().raise(PROCESS, lost(1));
    harness.metric_is("gateway_webhook_deliveries_total", &["failed"], 1.0).await;
    assert_eq!(webhook.posts().len(), 0, "neither event nor token was shown to a stranger");
}

#[tokio::test]
async fn e7_one_that_flaps_is_told_once_and_counted_each_time() {
    let webhook = Webhook::start();
    let harness = TestGateway::with(telling(&webhook)).await;
    let events = harness.events();
    for _ in 0..50 {
        events.raise(PROCESS, Event::overload(Severity::Warning, "for a test"));
        events.clear(PROCESS, &Subject::overload());
    }
    events.raise(PROCESS, lost(1));
    let posts = webhook.posted(3).await;
    let states: Vec<_> = posts.iter().map(|post| (post.text("event"), post.text("state"))).collect();
    assert_eq!(states, [("overload", "raised"), ("overload", "cleared"), ("instance_lost", "raised")]);
    assert_eq!(harness.metric("gateway_events_total", &["\"overload\""]).await, 50.0);
    assert_eq!(harness.metric("gateway_events_active", &["\"overload\""]).await, 0.0);
}

#[tokio::test]
async fn without_a_webhook_events_are_counted_and_nothing_is_kept() {
    let mut harness = TestGateway::start().await;
    harness.chat.stop().await;
    harness.metric_is("gateway_events_active", &["\"instance_lost\""], 1.0).await;
    assert_eq!(harness.metric("gateway_webhook_queued", &[]).await, 0.0);
    assert_eq!(harness.metric("gateway_webhook_deliveries_total", &[]).await, 0.0);
}
