use std::time::Duration;

mod channels;

use super::*;
use crate::config::Instance;
use crate::dispatch::health::{HealthEvent, Loss, Rule};
use crate::dispatch::link::Drain;
use crate::dispatch::queue::QueueBounds;
use crate::limits::Limits;
use crate::monitor::metrics::Metrics;
use crate::route::Route;
use crate::wire::dialect::Dialect;

const MS: Duration = Duration::from_millis(1);

/// Half of the accounts belong to either zone.
const TWO_ZONES: &str = r#"{"zones": [{"id": "za", "weight": 1}, {"id": "zb", "weight": 1}]}"#;

/// Service `chat` in the zones `za` and `zb`, its time in the hands of the test.
struct Chat {
    metrics: Metrics,
    services: Services,
    links: Vec<Rc<Link>>,
    start: Instant,
}

fn rule() -> Rule {
    Rule::of(&Limits::default())
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn chat_instance(id: &str, zone: &str) -> Instance {
    Instance {
        service: "chat".to_owned(),
        id: id.to_owned(),
        address: "127.0.0.1:1".to_owned(),
        zone: zone.to_owned(),
        dialect: Dialect::XIm,
    }
}

/// The queue of each link takes one packet.
fn services(metrics: &Metrics, route: &str, names: &[&str], is_bounded: bool) -> Services {
    let selector = RouteSelector::new(&Route::from_json(route).unwrap());
    let links = LinkRegistry::new(QueueBounds { packets: 1, bytes: 1 }, metrics.clone());
    let names = names.iter().map(|name| (*name).to_owned());
    Services::new(selector, names, is_bounded, links, &metrics.worker(0))
}

/// Instances by id and zone, none of them linked yet.
fn chat(instances: &[(&str, &str)]) -> Chat {
    let metrics = Metrics::new("gate01", 1, Vec::new());
    let services = services(&metrics, TWO_ZONES, &["login", "chat"], false);
    let links =
        instances.iter().map(|(id, zone)| services.links.add(chat_instance(id, zone), true)).collect();
    Chat { metrics, services, links, start: Instant::now() }
}

impl Chat {
    fn link(&self, id: &str) -> &Link {
        self.links.iter().find(|link| link.instance.id == id).unwrap()
    }

    fn on(&self, id: &str, event: HealthEvent, at: Duration) {
        self.link(id).on(event, self.start + at, &rule());
        self.services.refresh("chat");
    }

    fn up(&self, id: &str, at: Duration) {
        self.on(id, HealthEvent::Alive, at);
    }

    fn lost(&self, id: &str, at: Duration) {
        self.on(id, HealthEvent::Lost(Loss::Ended), at);
    }

    /// It is that late now; returns those who grew up.
    fn time(&self, at: Duration) -> Vec<&str> {
        let grown = |link: &&Rc<Link>| link.on(HealthEvent::Time, self.start + at, &rule()).is_some();
        let grown = self.links.iter().filter(grown).map(|link| link.instance.id.as_str()).collect();
        self.services.refresh("chat");
        grown
    }

    /// Everyone that any of many accounts gets, as `account's zone:instance`, `!` behind a fallback.
    fn chosen(&self) -> BTreeSet<String> {
        (0..200)
            .filter_map(|n| {
                let account = format!("u{n}");
                let Chosen { link, fallback_of, .. } =
                    self.services.choose("chat", "app", &account, Purpose::Request)?;
                let selector = self.services.selector();
                let zone = selector.zone_name(selector.route_key("app", &account).zone);
                let mark = if fallback_of.is_some() { "!" } else { "" };
                Some(format!("{zone}:{}{mark}", link.instance.id))
            })
            .collect()
    }
}

fn set<const N: usize>(expected: [&str; N]) -> BTreeSet<String> {
    expected.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_first_set_serves_at_its_first_sign_of_life() {
    let chat = chat(&[("a1", "za"), ("b1", "zb")]);
    assert_eq!((chat.chosen(), chat.services.links.live("chat")), (set([]), 0));
    chat.up("a1", secs(0));
    assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
    chat.up("b1", secs(3600));
    assert_eq!(chat.chosen(), set(["za:a1", "zb:b1"]));
    assert_eq!(chat.services.links.live("chat"), 2);
}

#[test]
fn e13_health_is_per_service_a_zone_with_only_a_warming_one_falls_back() {
    let chat = chat(&[("a1", "za"), ("a2", "za"), ("b1", "zb")]);
    for id in ["a1", "a2", "b1"] {
        chat.up(id, secs(0));
    }
    chat.lost("b1", secs(0));
    chat.up("b1", secs(6));
    let without = set(["za:a1", "za:a2", "zb:a1!", "zb:a2!"]);
    assert_eq!(chat.chosen(), without);
    assert_eq!(chat.services.links.live("chat"), 3, "linked all the same");
    assert_eq!(chat.time(secs(16) - MS), [""; 0]);
    assert_eq!(chat.chosen(), without);
    assert_eq!(chat.time(secs(16)), ["b1"]);
    assert_eq!(chat.chosen(), set(["za:a1", "za:a2", "zb:b1"]));
}

#[test]
fn back_within_five_seconds_it_serves_at_once_and_later_it_waits() {
    for (away, both) in [(secs(0), true), (secs(5), true), (secs(5) + MS, false), (secs(60), false)] {
        let chat = chat(&[("a1", "za"), ("b1", "zb")]);
        chat.up("a1", secs(0));
        chat.up("b1", secs(0));
        chat.lost("b1", secs(100));
        chat.up("b1", secs(100) + away);
        let expected = if both { set(["za:a1", "zb:b1"]) } else { set(["za:a1", "zb:a1!"]) };
        assert_eq!(chat.chosen(), expected, "away for {away:?}");
    }
}

#[test]
fn warming_ones_serve_while_there_is_no_healthy_and_leave_when_one_appears() {
    let chat = chat(&[("a1", "za"), ("a2", "za"), ("b1", "zb")]);
    for id in ["a1", "a2", "b1"] {
        chat.up(id, secs(0));
        chat.lost(id, secs(0));
    }
    assert_eq!(chat.chosen(), set([]));
    chat.up("a1", secs(6));
    assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
    chat.up("b1", secs(7));
    assert_eq!(chat.chosen(), set(["za:a1", "zb:b1"]), "all warming ones, by zone as ever");
    assert_eq!(chat.time(secs(16)), ["a1"]);
    assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
    chat.lost("a1", secs(16));
    assert_eq!(chat.chosen(), set(["za:b1!", "zb:b1"]), "in the step that takes the last healthy");
    assert_eq!(chat.time(secs(17)), ["b1"]);
    chat.up("a1", secs(18));
    assert_eq!(chat.chosen(), set(["za:a1", "zb:b1"]), "two seconds away: still healthy");
}

#[test]
fn e7_one_that_flaps_slowly_gets_nothing_until_it_holds() {
    let chat = chat(&[("a1", "za"), ("b1", "zb")]);
    chat.up("a1", secs(0));
    chat.up("b1", secs(0));
    let mut at = secs(1);
    for _ in 0..20 {
        chat.lost("b1", at);
        chat.up("b1", at + secs(6));
        at += secs(15);
        assert_eq!(chat.time(at), [""; 0]);
        assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
    }
    assert_eq!(chat.time(at + secs(1)), ["b1"]);
    assert_eq!(chat.chosen(), set(["za:a1", "zb:b1"]));
}

#[test]
fn services_grow_up_apart() {
    let chat = chat(&[("a1", "za")]);
    chat.up("a1", secs(0));
    assert_eq!(chat.services.links.live("login"), 0);
    assert!(chat.services.choose("login", "app", "u1", Purpose::Request).is_none());
    assert_eq!(chat.services.links.live("no such service"), 0);
}

/// Makes an instance ejected that is up.
fn eject(chat: &Chat, id: &str, at: Duration) {
    for _ in 0..5 {
        chat.on(id, HealthEvent::TimedOut { may_eject: true }, at);
    }
    assert_eq!(chat.link(id).standing(), Some(Standing::Ejected));
}

#[test]
fn e2_one_half_open_gets_the_first_that_hashes_there_and_the_others_go_to_the_next_of_its_zone() {
    let chat = chat(&[("a1", "za"), ("a2", "za"), ("a3", "za"), ("b1", "zb")]);
    for id in ["a1", "a2", "a3", "b1"] {
        chat.up(id, secs(0));
    }
    let everyone = chat.chosen();
    eject(&chat, "a2", secs(0));
    assert!(!chat.chosen().iter().any(|chosen| chosen.contains("a2")), "it gets nothing");
    chat.time(secs(10));
    assert_eq!(chat.chosen(), everyone, "who hashes there may be its trial");
    chat.on("a2", HealthEvent::Asked, secs(10));
    assert_eq!(chat.chosen(), set(["za:a1", "za:a3", "zb:b1"]));
    // Those of a2 all go to a3: the accounts of the others stay where they are.
    let of = |account: &str| {
        chat.services.choose("chat", "app", account, Purpose::Request).unwrap().link.instance.id.clone()
    };
    let accounts: Vec<_> = (0..200).map(|n| format!("u{n}")).collect();
    let asked: Vec<_> = accounts.iter().map(|account| of(account)).collect();
    chat.on("a2", HealthEvent::Answered, secs(11));
    assert_eq!(chat.chosen(), everyone);
    for (account, then) in accounts.iter().zip(&asked) {
        let now = of(account);
        assert_eq!(*then, if now == "a2" { "a3".to_owned() } else { now }, "{account}");
    }
}

#[test]
fn a_sign_out_is_no_trial_because_nothing_answers_it() {
    let chat = chat(&[("a1", "za"), ("a2", "za")]);
    chat.up("a1", secs(0));
    chat.up("a2", secs(0));
    eject(&chat, "a2", secs(0));
    chat.time(secs(10));
    for n in 0..50 {
        let account = format!("u{n}");
        let chosen = chat.services.choose("chat", "app", &account, Purpose::EventPayload).unwrap();
        assert_eq!(chosen.link.instance.id, "a1");
    }
}

#[test]
fn e13_a_zone_whose_only_instance_is_being_tried_falls_back() {
    let chat = chat(&[("a1", "za"), ("b1", "zb")]);
    chat.up("a1", secs(0));
    chat.up("b1", secs(0));
    eject(&chat, "b1", secs(0));
    assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
    chat.time(secs(10));
    assert_eq!(chat.chosen(), set(["za:a1", "zb:b1"]));
    chat.on("b1", HealthEvent::Asked, secs(10));
    assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
    chat.on("b1", HealthEvent::Answered, secs(11));
    // It was linked all the time; `zone_fallback` tells of what went elsewhere.
    assert!(chat.metrics.render().lines().any(|line| line == "gateway_events_total{event=\"zone_empty\"} 0"));
}

#[test]
fn a_zone_that_all_have_left_is_empty_if_the_route_knows_it() {
    let chat = chat(&[("a1", "za"), ("b1", "zb"), ("s1", "spare"), ("s2", "spare")]);
    let empty = || {
        let page = chat.metrics.render();
        let line =
            page.lines().find_map(|line| line.strip_prefix("gateway_events_active{event=\"zone_empty\"} "));
        line.unwrap().to_owned()
    };
    let leave = |id| {
        let by = chat.start + secs(9);
        chat.link(id).drain(Drain { follow_until: chat.start, by });
        chat.services.refresh("chat");
    };
    for id in ["a1", "b1", "s1", "s2"] {
        chat.up(id, secs(0));
    }
    leave("s1");
    chat.lost("s2", secs(1));
    leave("s2");
    assert_eq!(empty(), "0", "nobody's accounts");
    leave("b1");
    assert_eq!(empty(), "1", "its accounts have no home, before its link has ended");
    chat.services.links.remove(chat.link("b1").key);
    chat.services.refresh("chat");
    assert_eq!(empty(), "1");
}

#[test]
fn e14_ejected_ones_serve_while_there_is_nobody_else() {
    let chat = chat(&[("a1", "za"), ("a2", "za")]);
    chat.up("a1", secs(0));
    chat.up("a2", secs(0));
    eject(&chat, "a2", secs(0));
    chat.on("a1", HealthEvent::Lost(Loss::Ended), secs(1));
    assert_eq!(chat.chosen(), set(["za:a2", "zb:a2!"]));
    chat.on("a1", HealthEvent::Alive, secs(60));
    assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]), "warming");
    chat.time(secs(60));
    assert_eq!(chat.chosen(), set(["za:a1", "za:a2", "zb:a1!", "zb:a2!"]), "and a2 half-open beside it");
}

#[test]
fn at_most_half_of_a_zones_linked_instances_are_ejected_and_never_the_only_one() {
    let chat = chat(&[("a1", "za"), ("a2", "za"), ("a3", "za"), ("a4", "za"), ("a5", "za"), ("b1", "zb")]);
    let may = |id| chat.services.links.may_eject(chat.link(id));
    for id in ["a1", "b1"] {
        chat.up(id, secs(0));
        assert!(!may(id), "{id} is alone");
    }
    for id in ["a2", "a3", "a4"] {
        chat.up(id, secs(0));
    }
    let mut ejected = 0;
    for id in ["a1", "a2", "a3", "a4"] {
        if may(id) {
            eject(&chat, id, secs(0));
            ejected += 1;
        }
    }
    assert_eq!(ejected, 2);
    chat.up("a5", secs(0));
    assert!(!may("a5"), "two of five");
    chat.lost("a3", secs(0));
    assert!(!may("a4"), "one that is away is no help");
}
