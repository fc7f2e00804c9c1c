//! One step of a message, again and again, with nothing around it: for the clock, and for callgrind.

use std::time::Instant;

use bytes::Bytes;
use gateway_wire::dialect::Dialect;
use gateway_wire::frame::HEAD_LEN;
use gateway_wire::packet::encode_message;
use gateway_wire::pb;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::frames;
use crate::role::control;
use crate::role::loans::Loans;

/// Its name among the roles.
pub(crate) const NAME: &str = "micro";

/// What is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// A request through the gateway's own functions: packet, header, instance, header anew, queue.
    Forward,
    /// The same header decoded and encoded by prost.
    DecodeEncode,
    /// The check of a token, HS256.
    Token,
}

/// What it is started with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Micro {
    pub(crate) step: Step,
    pub(crate) times: u32,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MicroResult {
    /// Nanoseconds of one.
    pub(crate) ns: f64,
}

/// Bytes of the body of the packet, which has some 200 then.
const BODY: usize = 100;

/// The payload of a request's frame as a client sends it: three metas, one of which is the gateway's to set.
fn sample_request() -> Bytes {
    let meta = |key: &str, value: &str| pb::Meta {
        key: key.to_owned(),
        value: value.to_owned(),
        r#type: pb::MetaType::String as i32,
    };
    let header = pb::Header {
        command: "chat.user.talk".to_owned(),
        sequence: 7,
        dest: "bob".to_owned(),
        meta: vec![meta("trace", "4bf92f3577b34da6a3ce929d0e0e4736"), meta("app", "forged")],
        ..pb::Header::default()
    };
    encode_message(Dialect::XIm, &header, vec![b'x'; BODY]).to_bytes().slice(HEAD_LEN..)
}

pub(crate) fn run(argument: &str, loans: Loans) -> Result<(), BenchError> {
    let Micro { step, times } = control::parse(argument)?;
    let mut one: Box<dyn FnMut()> = match step {
        Step::Forward => (loans.forward)(sample_request()),
        Step::DecodeEncode => Box::new(decode_encode(sample_request())),
        Step::Token => (loans.token)(),
    };
    // The first finds caches empty and buffers small.
    for _ in 0..times / 10 {
        one();
    }
    let began = Instant::now();
    for _ in 0..times {
        one();
    }
    let ns = began.elapsed().as_nanos() as f64 / f64::from(times);
    control::answer(&MicroResult { ns })
}

/// What a gateway does that decodes every header into values of its own.
fn decode_encode(payload: Bytes) -> impl FnMut() {
    move || {
        let packet = frames::logic_packet(&payload).expect("it is a packet");
        let mut header = pb::Header::decode(packet.header).expect("it is a header");
        header.channel_id = "gate01_alice_7".to_owned();
        header
            .meta
            .retain(|meta| !matches!(meta.key.as_str(), "app" | "account") && !meta.key.starts_with("dest."));
        for (key, value) in [("app", "x_im"), ("account", "alice"), ("dest.logic", "gate01")] {
            header.meta.push(pb::Meta {
                key: key.to_owned(),
                value: value.to_owned(),
                r#type: pb::MetaType::String as i32,
            });
        }
        std::hint::black_box(encode_message(packet.dialect, &header, packet.body));
    }
}
