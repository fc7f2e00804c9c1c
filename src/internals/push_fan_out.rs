//! A push on its way from a link to the queues of many channels, for measurements.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use bytes::Bytes;

use crate::config::Instance;
use crate::dispatch::delivery::{Delivery, DeliveryStep};
use crate::dispatch::link::Link;
use crate::dispatch::links::LinkRegistry;
use crate::dispatch::queue::QueueBounds;
use crate::dispatch::selector::RouteSelector;
use crate::dispatch::services::Services;
use crate::dispatch::turn::LinkTurn;
use crate::dispatch::{Dispatch, DispatchParts, Settings};
use crate::limits::{Limits, LiveLimits};
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;
use crate::overload::pressure::Pressure;
use crate::route::Route;
use crate::session::channel::{Channel, Identity};
use crate::session::channels::{ChannelGuard, Channels};
use crate::session::outgoing::{Outgoing, OutgoingBounds, StreamId};
use crate::session::signouts::{SignOutBounds, SignOuts};
use crate::wire::dialect::Dialect;
use crate::wire::packet::{Encoded, LogicPacket, Packet, encode_message};
use crate::wire::{frame, pb};

const GATE: &str = "gate01";

/// A worker's dispatcher with one instance and some channels, and a push from the one to all of the others.
pub struct PushFanOut {
    dispatch: Rc<Dispatch>,
    link: Rc<Link>,
    channels: Vec<ChannelGuard>,
    push: LogicPacket,
}

impl PushFanOut {
    /// A push with a body of so many bytes to so many channels.
    pub fn new(channels: usize, body: usize) -> Self {
        let metrics = Metrics::new(GATE, 1, vec!["z".to_owned()]);
        let dispatch = dispatch(&metrics);
        let instance = Instance {
            service: "chat".to_owned(),
            id: "chat01".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            zone: "z".to_owned(),
            dialect: Dialect::XIm,
        };
        dispatch.add(instance, true);
        let link = dispatch.services.links.all().into_iter().next().expect("an instance has a link");
        let channels: Vec<_> = (0..channels).map(|number| arrive(&dispatch, number)).collect();
        let ids: Vec<&str> = channels.iter().map(|guard| &*guard.channel.id).collect();
        let push = push_to(&ids.join(","), body);
        Self { dispatch, link, channels, push }
    }

    /// Reads the push and puts it into the queue of every channel. Returns how many link turns it took.
    ///
    /// # Panics
    /// When the push is not accepted.
    pub fn deliver(&self) -> usize {
        let (limits, serial) = (self.dispatch.settings.limits.now(), self.dispatch.next_serial());
        let delivery = Delivery::parse(self.push.clone(), GATE, &limits, serial);
        let mut delivery = delivery.expect("the push is well formed and for this gateway");
        let mut turns = 1;
        let run = |delivery: &mut Delivery| {
            let now = Instant::now();
            let step = delivery.run(&self.dispatch, &self.link, &mut LinkTurn::new(now), now);
            self.link.corked.release_some();
            step
        };
        while run(&mut delivery) == DeliveryStep::Yield {
            turns += 1;
        }
        turns
    }

    /// Takes everything out of the queues, as the tasks of the connections would. Returns how many bytes there were.
    pub fn drain(&self) -> usize {
        while !self.link.corked.is_empty() {
            self.link.corked.release_some();
        }
        let drained = self.channels.iter().map(|guard| {
            let outgoing = &guard.channel.outgoing;
            outgoing.begin_poll(&Context::from_waker(Waker::noop()));
            let bytes = outgoing.write_with(StreamId::LOGIN, |frames| frames.map(Encoded::len).sum());
            outgoing.advance(StreamId::LOGIN, bytes);
            outgoing.end_poll();
            bytes
        });
        drained.sum()
    }
}

fn dispatch(metrics: &Metrics) -> Rc<Dispatch> {
    let limits = Limits::default();
    let worker = metrics.worker(0);
    let bounds = SignOutBounds { places: 1000, hold: limits.login_answer, retry: limits.signout_retry };
    let signouts = SignOuts::new(bounds, Arc::default(), Arc::clone(&worker));
    let route = Route::from_json(r#"{"zones": [{"id": "z", "weight": 1}]}"#).expect("it is a route");
    let links = LinkRegistry::new(QueueBounds::of(&limits), metrics.clone());
    Dispatch::new(DispatchParts {
        settings: Settings {
            worker: 0,
            gate_id: GATE.to_owned(),
            login_service: "login".to_owned(),
            signout_after_kick: std::cell::Cell::new(false),
            limits: LiveLimits::new(limits),
            pressure: Pressure::none(),
        },
        channels: Channels::new(Rc::clone(&signouts), Arc::clone(&worker)),
        signouts,
        services: Services::new(RouteSelector::new(&route), ["chat".to_owned()], true, links, &worker),
        metrics: worker,
        readiness: Arc::new(Readiness::new(1, [])),
    })
}

/// A registered channel of a signed-in client.
fn arrive(dispatch: &Dispatch, number: usize) -> ChannelGuard {
    let bounds = OutgoingBounds::of(&dispatch.settings.limits.now());
    let outgoing = Outgoing::new(bounds, Arc::clone(&dispatch.metrics));
    outgoing.add_stream(StreamId::LOGIN);
    outgoing.set_push_stream(StreamId::LOGIN);
    let identity = Identity { app: "x_im".to_owned(), account: format!("u{number}") };
    let id = format!("{GATE}_u{number}_{number}");
    let mut guard =
        dispatch.channels.register(Channel::new(id.into(), identity, Dialect::XIm, Rc::new(outgoing)));
    guard.end_opening();
    guard
}

fn push_to(channels: &str, body: usize) -> LogicPacket {
    let meta = |key: &str, value: &str| pb::Meta {
        key: key.to_owned(),
        value: value.to_owned(),
        r#type: pb::MetaType::String as i32,
    };
    let header = pb::Header {
        command: "chat.user.talk".to_owned(),
        flag: pb::Flag::Push as i32,
        meta: vec![meta(Dialect::XIm.gateway_key(), GATE), meta("dest.channels", channels)],
        ..pb::Header::default()
    };
    let frame = encode_message(Dialect::XIm, &header, Bytes::from(vec![b'x'; body])).to_bytes();
    match Packet::decode(&frame.slice(frame::HEAD_LEN..)) {
        Ok(Packet::Logic(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::WAKES_PER_TURN;

    #[test]
    fn every_channel_gets_the_push() {
        let fan_out = PushFanOut::new(100, 10);
        assert!(fan_out.deliver() > 0);
        let one = fan_out.drain() / 100;
        assert!(one > 10, "a header and a body");
        assert_eq!(fan_out.drain(), 0);
        fan_out.deliver();
        assert_eq!(fan_out.drain(), 100 * one);
    }

    #[test]
    fn nobody_waits_to_be_woken_after_the_queues_were_emptied() {
        let fan_out = PushFanOut::new(WAKES_PER_TURN + 10, 10);
        for _ in 0..2 {
            fan_out.deliver();
            fan_out.drain();
            assert!(fan_out.link.corked.is_empty());
        }
    }
}
