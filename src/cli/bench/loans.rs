//! What the gateway lends to the bench: its transport settings, and the steps of a message.

use std::collections::VecDeque;
use std::hint::black_box;

use bytes::Bytes;
use gateway::auth::{KeySet, Verifier, mint_until};
use gateway::config::{ExpectedClaims, Secret, VerifyingKey};
use gateway::dispatch::selector::{Candidates, RouteSelector};
use gateway::limits::Limits;
use gateway::route::Route;
use gateway::wire::dialect::Dialect;
use gateway::wire::header::HeaderView;
use gateway::wire::packet::{Encoded, Packet};
use gateway::wire::rewrite::{Origin, forward};
use gateway_bench::role::Loans;

/// All of it.
pub(super) const LOANS: Loans = Loans { transport: gateway::gateway::quic_transport, forward: path, token };

const ORIGIN: Origin<'_> =
    Origin { channel_id: "gate01_alice_7", app: "x_im", account: "alice", gate_id: "gate01" };

/// Instances of the service, and frames that wait for a link before they are written.
const INSTANCES: usize = 30;
const QUEUED: usize = 64;

/// From the payload of a frame to the frame in the queue of an instance.
fn path(payload: Bytes) -> Box<dyn FnMut()> {
    let route =
        Route::from_json(include_str!("../../../config/route.json")).expect("it is the one that is shipped");
    let selector = RouteSelector::new(&route);
    let zones: Vec<String> = selector.zones().map(|(_, name)| name.to_owned()).collect();
    let instances =
        (0..INSTANCES).map(|number| (format!("i{number}"), zones[number % zones.len()].clone(), number));
    let candidates = Candidates::new(&selector, instances.collect::<Vec<_>>());
    let limits = Limits::default().header();
    let mut queues: Vec<VecDeque<Encoded>> =
        (0..INSTANCES).map(|_| VecDeque::with_capacity(QUEUED)).collect();
    Box::new(move || {
        let Ok(Packet::Logic(packet)) = Packet::decode(black_box(&payload)) else {
            unreachable!("it is a packet")
        };
        let view = HeaderView::scan(&packet.header, &limits).expect("it is a header");
        let choice = selector.lookup(ORIGIN.app, ORIGIN.account, &candidates).expect("there are instances");
        let queue = &mut queues[*choice.item];
        if queue.len() == QUEUED {
            queue.clear();
        }
        queue.push_back(forward(&view, Dialect::XIm, &ORIGIN, packet.body.clone()));
    })
}

const SECRET: &[u8] = b"a secret of the bench, 32 bytes.";

/// Seconds since 1970.
const NOW: u64 = 1_700_000_000;

fn token() -> Box<dyn FnMut()> {
    let keys = KeySet::new(&[VerifyingKey::Hs256(Secret(SECRET.to_vec())).into()]);
    let verifier = Verifier::new(keys, &ExpectedClaims::default());
    let limits = Limits::default();
    let token = mint_until(SECRET, "alice", "x_im", NOW + 60);
    Box::new(move || {
        let claims = verifier.verify(black_box(&token), NOW, limits.max_token, limits.max_account);
        black_box(claims.expect("it is good"));
    })
}
