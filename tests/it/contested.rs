//! Two gateways with one id (row F15), against services of both policies.

use std::time::{Duration, Instant};

use gateway::config::{Config, Instance};
use gateway::gateway::Gateway;
use gateway::wire::dialect::Dialect;
use gateway_service::{KnownGateway, LinkEvent, Links, LogicServer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::webhook::Webhook;
use crate::support::{harness, soon};

/// Between two looks at readiness or metrics.
const LOOK: Duration = Duration::from_millis(5);

/// A login and a chat service.
struct Services {
    /// Of the login service.
    links: Links,
    instances: Vec<Instance>,
    _serving: JoinSet<()>,
}

impl Services {
    async fn start(known: KnownGateway) -> Self {
        let (mut instances, mut serving, mut links) = (Vec::new(), JoinSet::new(), None);
        for service in ["chat", "login"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            instances.push(harness::instance(service, service, address, Dialect::XIm));
            let server = LogicServer::new(service).known_gateway(known);
            links = Some(server.links());
            serving.spawn(server.serve(listener, std::future::pending()));
        }
        Self { links: links.unwrap(), instances, _serving: serving }
    }

    fn gateway(&self, webhook: &Webhook) -> Gateway {
        let (instances, webhook) = (self.instances.clone(), Some(webhook.config()));
        Gateway::start(Config { instances, webhook, ..harness::config() }).unwrap()
    }
}

fn reasons(gateway: &Gateway) -> Vec<String> {
    gateway.readiness().verdict(Instant::now()).reasons().to_vec()
}

async fn ready(gateway: &Gateway) {
    soon("a ready gateway", async {
        while !reasons(gateway).is_empty() {
            sleep(LOOK).await;
        }
    })
    .await;
}

/// Not ready because of its id, and the administrator is told.
async fn contested(gateway: &Gateway, webhook: &Webhook) {
    soon("a reason", async {
        while !reasons(gateway).iter().any(|reason| reason.contains("its own gateway.id")) {
            sleep(LOOK).await;
        }
    })
    .await;
    let told = webhook.event("link_refused", "raised").await;
    assert_eq!(told.text("severity"), "error");
    assert!(told.text("detail").contains(harness::GATE), "{told:?}");
}

#[tokio::test]
async fn f15_a_second_gateway_with_the_same_id_that_is_refused_is_not_ready_and_the_first_serves_on() {
    let services = Services::start(KnownGateway::Refuse).await;
    let (webhook, other) = (Webhook::start(), Webhook::start());
    let first = services.gateway(&other);
    ready(&first).await;
    let second = services.gateway(&webhook);
    contested(&second, &webhook).await;
    assert_eq!(reasons(&first), [""; 0]);
    assert!(other.posts().is_empty(), "{:?}", other.posts());
    assert_eq!(services.links.count(LinkEvent::Linked), 1);
    // It takes over as soon as the first has gone.
    drop(first);
    soon("the link", async {
        while services.links.count(LinkEvent::Linked) < 2 {
            sleep(LOOK).await;
        }
    })
    .await;
}

#[tokio::test]
async fn f15_two_gateways_with_one_id_that_throw_each_other_out_are_both_not_ready_and_take_their_time() {
    let services = Services::start(KnownGateway::Replace).await;
    let (one, two) = (Webhook::start(), Webhook::start());
    let first = services.gateway(&one);
    ready(&first).await;
    let began = Instant::now();
    let second = services.gateway(&two);
    contested(&first, &one).await;
    contested(&second, &two).await;
    // Each pause of either is longer than its last one: 0.2 s, 0.32 s, 0.5 s, 0.8 s, 1.3 s, less up to a fifth.
    while began.elapsed() < Duration::from_secs(5) {
        sleep(Duration::from_millis(100)).await;
        assert!(!reasons(&first).is_empty() && !reasons(&second).is_empty(), "while it goes on");
    }
    let replaced = services.links.count(LinkEvent::Replaced);
    assert!((2..=14).contains(&replaced), "{replaced} times in five seconds");
}
