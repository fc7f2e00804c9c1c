//! A worker's dispatcher without sockets: the tests write to its links and answer for its services by hand.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Dispatch, DispatchParts, Settings};
use crate::config::Instance;
use crate::dispatch::delivery::{Delivery, DeliveryStep};
use crate::dispatch::health::Loss;
use crate::dispatch::link::Link;
use crate::dispatch::links::LinkRegistry;
use crate::dispatch::queue::QueueBounds;
use crate::dispatch::selector::RouteSelector;
use crate::dispatch::services::Services;
use crate::dispatch::turn::LinkTurn;
use crate::limits::{Limits, LiveLimits};
use crate::monitor::readiness::Readiness;
use crate::route::Route;
use crate::session::channels::Channels;
use crate::session::fixtures::{TestMetrics, logic_packet};
use crate::session::signouts::{self, SignOuts};
use crate::wire::dialect::Dialect;
use crate::wire::packet::{self, LogicPacket};
use crate::wire::pb;

pub(crate) const GATE: &str = "gate01";

/// A dispatcher, and its counters.
pub(crate) struct TestDispatch {
    pub(crate) test_metrics: TestMetrics,
    pub(crate) dispatch: Rc<Dispatch>,
}

/// A house with these instances, `(service, id, dialect)`, none of them linked yet.
pub(crate) fn harness(
    limits: Limits,
    signout_after_kick: bool,
    instances: &[(&str, &str, Dialect)],
) -> TestDispatch {
    harness_with(true, limits, signout_after_kick, instances)
}

/// The same with or without bounded load.
pub(crate) fn harness_with(
    is_bounded: bool,
    limits: Limits,
    signout_after_kick: bool,
    instances: &[(&str, &str, Dialect)],
) -> TestDispatch {
    let test_metrics = TestMetrics::new();
    let metrics = Arc::clone(&test_metrics.worker);
    let places =
        signouts::SignOutBounds { places: 1000, hold: limits.login_answer, retry: limits.signout_retry };
    let signouts = SignOuts::new(places, Arc::default(), Arc::clone(&metrics));
    let channels = Channels::new(Rc::clone(&signouts), Arc::clone(&metrics));
    let route = Route::from_json(r#"{"zones": [{"id": "z", "weight": 1}]}"#).unwrap();
    let names = instances.iter().map(|(service, ..)| (*service).to_owned()).chain(["login".to_owned()]);
    let links = LinkRegistry::new(QueueBounds::of(&limits), test_metrics.metrics.clone());
    let services = Services::new(RouteSelector::new(&route), names, is_bounded, links, &metrics);
    let settings = Settings {
        worker: 0,
        gate_id: GATE.to_owned(),
        login_service: "login".to_owned(),
        signout_after_kick: std::cell::Cell::new(signout_after_kick),
        limits: LiveLimits::new(limits),
        pressure: crate::overload::pressure::Pressure::none(),
    };
    let readiness = Arc::new(Readiness::new(1, []));
    let parts = DispatchParts { settings, channels, signouts, metrics, services, readiness };
    let dispatch = Dispatch::new(parts);
    for (service, id, dialect) in instances {
        dispatch.add(instance(service, id, *dialect), true);
    }
    TestDispatch { test_metrics, dispatch }
}

/// An instance in the only zone.
pub(crate) fn instance(service: &str, id: &str, dialect: Dialect) -> Instance {
    Instance {
        service: service.to_owned(),
        id: id.to_owned(),
        address: "127.0.0.1:1".to_owned(),
        zone: "z".to_owned(),
        dialect,
    }
}

impl TestDispatch {
    pub(crate) fn link(&self, id: &str) -> Rc<Link> {
        let found = self.dispatch.services.links.all().into_iter().rfind(|link| link.instance.id == id);
        found.unwrap_or_else(|| panic!("no instance {id}"))
    }

    /// These instances may be chosen from now on.
    pub(crate) fn up(&self, ids: &[&str]) {
        for id in ids {
            self.up_at(id, Instant::now());
        }
    }

    pub(crate) fn up_at(&self, id: &str, now: Instant) {
        self.dispatch.link_up(&self.link(id), now);
    }

    pub(crate) fn lost(&self, id: &str) {
        self.lost_at(id, Instant::now());
    }

    pub(crate) fn lost_at(&self, id: &str, now: Instant) {
        self.dispatch.link_lost(&self.link(id), Loss::Ended, now);
        while self.dispatch.answer_lost_slice() {}
    }

    /// The packets in the queue of an instance of which nothing was written.
    pub(crate) fn queued(&self, id: &str) -> Vec<LogicPacket> {
        self.link(id).queue().frames().map(logic_packet).collect()
    }

    /// The instance takes so many bytes.
    pub(crate) fn write(&self, id: &str, bytes: usize) {
        let link = self.link(id);
        let _signins = self.dispatch.announce_signins(&link);
        link.change_queue(|queue| queue.advance(bytes, |progress| self.dispatch.progressed(&link, progress)));
    }

    /// The instance takes everything that is queued for it, and here it is.
    pub(crate) fn take_all(&self, id: &str) -> Vec<LogicPacket> {
        let packets = self.queued(id);
        self.write(id, usize::MAX);
        packets
    }

    /// Has every sign-out that is due go where it belongs.
    pub(crate) fn place_signouts(&self) {
        while self.dispatch.place_due_signouts(Instant::now()) {}
    }

    /// The instance sends a packet to these channels, joined by commas.
    pub(crate) fn deliver(
        &self,
        id: &str,
        header: pb::Header,
        channels: &str,
        body: impl Into<Bytes>,
    ) -> DeliveryStep {
        let link = self.link(id);
        let dialect = link.instance.dialect;
        let text = |key: &str, value: &str| pb::Meta {
            key: key.to_owned(),
            value: value.to_owned(),
            r#type: pb::MetaType::String as i32,
        };
        let metas = vec![text(dialect.gateway_key(), GATE), text("dest.channels", channels)];
        let header = pb::Header { meta: metas, ..header };
        let packet = logic_packet(&packet::encode_message(dialect, &header, body));
        let mut delivery =
            Delivery::parse(packet, GATE, &self.dispatch.settings.limits.now(), self.dispatch.next_serial())
                .unwrap();
        let now = Instant::now();
        let step = delivery.run(&self.dispatch, &link, &mut LinkTurn::new(now), now);
        while !link.corked.is_empty() {
            link.corked.release_some();
        }
        step
    }

    /// The instance answers a request of a channel.
    pub(crate) fn answer(&self, id: &str, channel: &str, command: &str, sequence: u32, status: i32) {
        let header = pb::Header {
            command: command.to_owned(),
            sequence,
            status,
            flag: pb::Flag::Response as i32,
            ..pb::Header::default()
        };
        assert_eq!(self.deliver(id, header, channel, ""), DeliveryStep::Done);
    }

    /// The instance pushes to a channel.
    pub(crate) fn push(&self, id: &str, channel: &str, body: impl Into<Bytes>) -> DeliveryStep {
        let header = pb::Header {
            command: "chat.user.talk".to_owned(),
            flag: pb::Flag::Push as i32,
            ..pb::Header::default()
        };
        self.deliver(id, header, channel, body)
    }
}
