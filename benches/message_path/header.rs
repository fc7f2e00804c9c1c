//! A request's header: scanned and written anew, beside prost, which decodes it into owned values and encodes them.

use bytes::Bytes;
use divan::{Bencher, black_box};
use gateway::limits::Limits;
use gateway::wire::dialect::Dialect;
use gateway::wire::header::HeaderView;
use gateway::wire::packet::{Encoded, encode_message};
use gateway::wire::pb;
use gateway::wire::rewrite::{Origin, forward};
use prost::Message as _;

/// How many metas a client sends.
const METAS: [usize; 3] = [0, 2, 16];

const ORIGIN: Origin<'_> =
    Origin { channel_id: "gate01_alice_7", app: "x_im", account: "alice", gate_id: "gate01" };

/// As a client sends it, one of its metas forged.
fn request(metas: usize) -> Bytes {
    let meta =
        |number: usize| meta(if number == 1 { "app" } else { "trace" }, "4bf92f3577b34da6a3ce929d0e0e4736");
    let header = pb::Header {
        command: "chat.user.talk".to_owned(),
        sequence: 7,
        dest: "bob".to_owned(),
        meta: (0..metas).map(meta).collect(),
        ..pb::Header::default()
    };
    header.encode_to_vec().into()
}

fn meta(key: &str, value: &str) -> pb::Meta {
    pb::Meta { key: key.to_owned(), value: value.to_owned(), r#type: pb::MetaType::String as i32 }
}

fn body() -> Bytes {
    Bytes::from_static(&[b'x'; 100])
}

fn with_scan(raw: &[u8], body: Bytes) -> Encoded {
    let view = HeaderView::scan(raw, &Limits::default().header()).expect("the header is well formed");
    forward(&view, Dialect::XIm, &ORIGIN, body)
}

fn with_prost(raw: &[u8], body: Bytes) -> Encoded {
    let mut header = pb::Header::decode(raw).expect("the header is well formed");
    header.channel_id = ORIGIN.channel_id.to_owned();
    header.flag = pb::Flag::Request as i32;
    header.status = pb::Status::Success as i32;
    header
        .meta
        .retain(|meta| !matches!(meta.key.as_str(), "app" | "account") && !meta.key.starts_with("dest."));
    let own =
        [("app", ORIGIN.app), ("account", ORIGIN.account), (Dialect::XIm.gateway_key(), ORIGIN.gate_id)];
    header.meta.extend(own.map(|(key, value)| meta(key, value)));
    encode_message(Dialect::XIm, &header, body)
}

#[divan::bench(args = METAS)]
fn scan(bencher: Bencher<'_, '_>, metas: usize) {
    let raw = request(metas);
    let limits = Limits::default().header();
    bencher.bench_local(|| HeaderView::scan(black_box(&raw), &limits).map(|view| view.sequence));
}

#[divan::bench(args = METAS)]
fn scan_and_forward(bencher: Bencher<'_, '_>, metas: usize) {
    let (raw, body) = (request(metas), body());
    // Both ways lead to the same bytes, or the comparison is worth nothing.
    assert_eq!(with_scan(&raw, body.clone()), with_prost(&raw, body.clone()));
    bencher.bench_local(|| with_scan(black_box(&raw), body.clone()));
}

#[divan::bench(args = METAS)]
fn prost_decode_and_encode(bencher: Bencher<'_, '_>, metas: usize) {
    let (raw, body) = (request(metas), body());
    bencher.bench_local(|| with_prost(black_box(&raw), body.clone()));
}
