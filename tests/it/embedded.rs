//! Both ends of the wire as libraries, the gateway between them: the client library talks through a real gateway to
//! the embedded login and chat services, over every transport.

use std::time::{Duration, Instant};

use gateway::gateway::Gateway;
use gateway::wire::close::CloseReason;
use gateway::wire::dialect::Dialect;
use gateway_client::{Client, ConnectOptions, Pushes, Requests as _, Streams, TrustedCa};
use gateway_messenger::{Embedded, EmbeddedInstance};
use rstest::rstest;

use crate::support::identity::{CERTIFICATES, token};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::{harness, soon};

/// Between two looks at the gateway's readiness.
const LOOK: Duration = Duration::from_millis(5);

/// A gateway with one login and two chat services, all in one directory.
pub(crate) struct Town {
    pub(crate) gateway: Gateway,
    pub(crate) services: Embedded,
}

impl Town {
    pub(crate) async fn start(dialect: Dialect) -> Self {
        Self::with_workers(dialect, 1).await
    }

    pub(crate) async fn with_workers(dialect: Dialect, workers: usize) -> Self {
        let mut config = harness::config();
        config.workers = workers;
        let mut instances = Vec::new();
        for (service, id) in [("login", "login01"), ("chat", "chat01"), ("chat", "chat02")] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            config.instances.push(harness::instance(service, id, address, dialect));
            instances.push(EmbeddedInstance { service: service.to_owned(), listener, dialect });
        }
        let town =
            Self { services: Embedded::start(instances).unwrap(), gateway: Gateway::start(config).unwrap() };
        soon("the links of every instance", async {
            let up = r#"state="healthy",zone="zone_a"} 1"#;
            let ready = || town.gateway.readiness().verdict(Instant::now()).is_ready();
            while town.gateway.metrics().render().matches(up).count() < 3 || !ready() {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
        town
    }

    pub(crate) async fn client(&self, kind: Kind, account: &str) -> (Client, Pushes) {
        let addresses = self.gateway.addresses();
        let ca = || TrustedCa::from_der(vec![CERTIFICATES.ca.clone()]).unwrap();
        let mut options = match kind {
            Tcp => ConnectOptions::tcp(addresses.tcp[0].to_string()),
            Tls => ConnectOptions::tls(addresses.tls[0].to_string(), ca()),
            Ws => ConnectOptions::ws(addresses.ws[0].to_string()),
            Wss => ConnectOptions::wss(addresses.wss[0].to_string(), ca()),
            QuicOne | QuicMany => ConnectOptions::quic(addresses.quic[0].to_string(), ca()),
        };
        options.streams = if kind == QuicOne { Streams::Single } else { Streams::Separate };
        let (client, pushes) = Client::connect(options).await.unwrap();
        assert_eq!(client.login(&token(account)).await.unwrap().account, account);
        (client, pushes)
    }
}

#[rstest]
#[tokio::test]
async fn alice_and_bob_talk_both_ways_and_nothing_missed_is_lost(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(Dialect::XIm, Dialect::Kim)] services: Dialect,
) {
    let town = Town::start(services).await;
    let (alice, mut to_alice) = town.client(kind, "alice").await;

    // Bob is away, and is not even known: what he is sent is stored, in the order of its ids.
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(alice.talk("bob", &format!("away {n}")).await.unwrap().message_id);
    }
    assert!(sent.is_sorted(), "ids increase for a receiver");
    let (bob, mut to_bob) = town.client(kind, "bob").await;
    let listed = bob.offline_index(0).await.unwrap();
    let missed: Vec<i64> =
        listed.iter().filter(|index| index.direction == 0).map(|index| index.message_id).collect();
    assert_eq!(missed, sent);
    let texts = bob.offline_content(missed).await.unwrap();
    assert_eq!(
        texts.iter().map(|text| text.body.as_str()).collect::<Vec<_>>(),
        ["away 0", "away 1", "away 2", "away 3", "away 4"]
    );

    // An acknowledgement covers everything up to its id, and nothing above.
    bob.ack(sent[3]).await.unwrap();
    let listed = bob.offline_index(0).await.unwrap();
    assert_eq!(listed.iter().map(|index| index.message_id).collect::<Vec<_>>(), [sent[4]]);

    // Both are here: each gets what the other sends as a push, with the id the sender was told.
    let there = alice.talk("bob", "are you there?").await.unwrap().message_id;
    let push = soon("alice's message", to_bob.recv()).await.unwrap().message().unwrap();
    assert_eq!(
        (push.message_id, push.sender.as_str(), push.body.as_str()),
        (there, "alice", "are you there?")
    );
    let here = bob.talk("alice", "here").await.unwrap().message_id;
    let push = soon("bob's message", to_alice.recv()).await.unwrap().message().unwrap();
    assert_eq!((push.message_id, push.sender.as_str(), push.body.as_str()), (here, "bob", "here"));
}

#[rstest]
#[tokio::test]
async fn the_older_session_is_kicked_and_its_end_does_not_end_the_newer(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let town = Town::start(Dialect::XIm).await;
    let (older, _pushes) = town.client(kind, "alice").await;
    let (_newer, mut to_newer) = town.client(kind, "alice").await;
    assert_eq!(soon("the kick", older.closed()).await, CloseReason::Kicked);
    let (bob, _pushes) = town.client(kind, "bob").await;
    bob.talk("alice", "still signed in").await.unwrap();
    let push = soon("the message", to_newer.recv()).await.unwrap().message().unwrap();
    assert_eq!(push.body, "still signed in");
}
