//! What a channel gets: the instance it has, and another one while that is overloaded.

use std::collections::BTreeSet;
use std::time::Instant;

use super::super::{Chosen, Loads};
use super::{TWO_ZONES, chat, chat_instance, rule, secs, services, set};
use crate::dispatch::health::{HealthEvent, Loss};
use crate::dispatch::link::Drain;
use crate::dispatch::queue::Payload;
use crate::session::fixtures::{TestMetrics, channel, ticket};
use crate::session::pending::RequestStage;
use crate::wire::packet::Encoded;

#[test]
fn e13_requests_of_a_channel_count_while_its_zone_has_nobody_and_no_longer() {
    let test_metrics = TestMetrics::new();
    let chat = chat(&[("a1", "za"), ("b1", "zb")]);
    chat.services.is_bounded.set(true);
    chat.up("a1", secs(0));
    // Of zone zb, by crc32.
    let alice = channel(&test_metrics, "alice");
    let ask = || {
        let Chosen { link, fallback_of, home, .. } =
            chat.services.choose_for("chat", "app", "alice", Some(&alice)).unwrap();
        if let Some(service) = home {
            alice.set_home(service, link.key);
        }
        let selector = chat.services.selector();
        (link.instance.id.clone(), fallback_of.map(|zone| selector.zone_name(zone).to_owned()))
    };
    for _ in 0..3 {
        assert_eq!(ask(), ("a1".to_owned(), Some("zb".to_owned())));
    }
    chat.up("b1", secs(1));
    assert_eq!(ask(), ("a1".to_owned(), None), "it stays, and its zone is served");
    chat.on("b1", HealthEvent::Lost(Loss::Ended), secs(2));
    assert_eq!(ask(), ("a1".to_owned(), Some("zb".to_owned())));
    // Its instance leaves, and has a request of it still.
    chat.up("b1", secs(2));
    let (waiting, b1) = (ticket(&alice, "chat.user.talk", 1), chat.link("b1").key);
    waiting.set_stage(RequestStage::Sent(b1));
    alice.pending.borrow_mut().push(waiting);
    alice.set_home(chat.services.service("chat").unwrap().number, b1);
    let follow_until = Instant::now() + secs(3600);
    chat.link("b1").drain(Drain { follow_until, by: follow_until });
    chat.services.refresh("chat");
    assert_eq!(ask(), ("b1".to_owned(), None), "that is no other zone");
}

/// The vectors hold for channels, with bounded load and without, while nobody is overloaded.
#[test]
fn every_lookup_of_the_vectors_for_a_channel() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/selector.json")).unwrap();
    let test_metrics = TestMetrics::new();
    let mut seen = 0;
    for (set, is_bounded) in
        vectors["sets"].as_array().unwrap().iter().flat_map(|set| [(set, true), (set, false)])
    {
        let services = services(&test_metrics.metrics, &set["route"].to_string(), &["chat"], is_bounded);
        for pair in set["services"].as_array().unwrap() {
            let instance = chat_instance(pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
            services.links.add(instance, true).on(HealthEvent::Alive, Instant::now(), &rule());
        }
        services.refresh("chat");
        for case in set["cases"].as_array().unwrap() {
            let (app, account) = (case["app"].as_str().unwrap(), case["account"].as_str().unwrap());
            let channel = channel(&test_metrics, account);
            for _ in 0..2 {
                let chosen = services.choose_for("chat", app, account, Some(&channel)).unwrap();
                assert_eq!(chosen.link.instance.id, case["service"].as_str().unwrap(), "{case}");
                assert!(!chosen.is_spilled);
                // Of the one that is kept as well.
                assert_eq!(chosen.fallback_of.is_some(), case["fallback"].as_bool().unwrap());
                if let Some(service) = chosen.home {
                    channel.set_home(service, chosen.link.key);
                }
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 4 * 220);
}

#[test]
fn new_accounts_spill_within_their_zone_only() {
    let test_metrics = TestMetrics::new();
    let services = services(&test_metrics.metrics, TWO_ZONES, &["chat"], true);
    let links: Vec<_> = [("a1", "za"), ("a2", "za"), ("a3", "za"), ("b1", "zb")]
        .iter()
        .map(|(id, zone)| services.links.add(chat_instance(id, zone), true))
        .collect();
    for link in &links {
        link.on(HealthEvent::Alive, Instant::now(), &rule());
    }
    services.refresh("chat");
    let someone = channel(&test_metrics, "someone");
    let crowd = |at: usize| {
        let ticket = ticket(&someone, "chat.user.talk", 1);
        links[at].enqueue(Payload::Request(ticket), Encoded::whole(bytes::Bytes::from_static(b"x")));
    };
    let places = || {
        let place = |n| {
            let (account, new) = (format!("u{n}"), channel(&test_metrics, "new"));
            let selector = services.selector();
            let zone = selector.zone_name(selector.route_key("app", &account).zone);
            let chosen = services.choose_for("chat", "app", &account, Some(&new)).unwrap();
            format!("{zone}:{}", chosen.link.instance.id)
        };
        (0..200).map(place).collect::<BTreeSet<_>>()
    };
    let everyone = set(["za:a1", "za:a2", "za:a3", "zb:b1"]);
    assert_eq!(places(), everyone);
    crowd(0);
    assert_eq!(places(), set(["za:a2", "za:a3", "zb:b1"]));
    crowd(3);
    assert_eq!(places(), set(["za:a2", "za:a3", "zb:b1"]), "alone in its zone");
    crowd(1);
    assert_eq!(places(), set(["za:a3", "zb:b1"]));
    crowd(2);
    assert_eq!(places(), everyone, "all are: each gets its own");
}

fn loads(of: &[usize]) -> Loads {
    of.iter().fold(Loads::default(), |loads, pending| loads.and(*pending))
}

#[test]
fn above_five_quarters_of_the_mean_and_at_least_64_more() {
    for (others, edge) in [
        // Two: the mean moves with the one that is looked at, half of the way.
        (&[0][..], 128),
        (&[100], 228),
        // 64 more is reached before five quarters are passed: 1000 and x, x > 1.25 * (1000 + x) / 2.
        (&[1000], 1667),
        (&[0, 0, 0], 86),
        (&[10, 10, 10], 96),
        (&[2000, 2000, 2000], 2728),
    ] {
        let of = |pending: usize| loads(others).and(pending).is_exceeded_by(pending);
        assert!(!of(edge - 1), "{others:?} and {}", edge - 1);
        assert!(of(edge), "{others:?} and {edge}");
    }
}

#[test]
fn one_alone_and_equal_ones_are_never_exceeded() {
    for pending in [0, 1, 4096, usize::MAX] {
        assert!(!loads(&[pending]).is_exceeded_by(pending));
        assert!(!loads(&[pending; 3]).is_exceeded_by(pending));
    }
}
