//! What the gateway writes of a header is what prost would have written: decode, apply the rules, encode.

use bytes::Bytes;
use prost::Message as _;

use super::header::{UNBOUNDED, is_for_services, is_reserved};
use super::input::Input;
use crate::wire::dialect::Dialect;
use crate::wire::frame::{FrameDecoder, Opcode};
use crate::wire::header::HeaderView;
use crate::wire::packet::{Encoded, Packet, encode_message};
use crate::wire::pb;
use crate::wire::rewrite::{self, Forgeries, Origin};

/// Longest command in an answer, bytes.
const MAX_ECHO: usize = 256;

/// A byte for the dialect, the account and the channel id the gateway knows, and then the header a client sent.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let dialect = Dialect::ALL[usize::from(input.byte() % 2)];
    let origin = Origin { account: input.text(), channel_id: input.text(), app: "x_im", gate_id: "gate01" };
    let raw = input.rest();
    let Ok(view) = HeaderView::scan(raw, &UNBOUNDED) else { return };
    let decoded = pb::Header::decode(raw).expect("the target of the header holds the two together");
    check_forward(&view, &decoded, dialect, &origin);
    check_deliver(&view, &decoded, dialect);
    check_answer(&view, &decoded, dialect);
}

fn check_forward(view: &HeaderView<'_>, decoded: &pb::Header, dialect: Dialect, origin: &Origin<'_>) {
    let body = Bytes::from_static(b"hello");
    let sent = rewrite::forward(view, dialect, origin, body.clone());
    assert_eq!(
        sent.to_bytes(),
        encode_message(dialect, &forwarded(decoded, dialect, origin), body).to_bytes()
    );
    let claimed = decoded.channel_id.as_str();
    let expected = Forgeries {
        meta: decoded.meta.iter().any(is_reserved),
        channel: !claimed.is_empty() && claimed != origin.channel_id,
        normalised: decoded.flag != 0 || decoded.status != 0,
    };
    assert_eq!(rewrite::forgeries(view, origin.channel_id), expected);
}

/// A client's header as a service is to get it (protocol §4.5).
fn forwarded(claimed: &pb::Header, dialect: Dialect, origin: &Origin<'_>) -> pb::Header {
    let text = |key: &str, value: &str| pb::Meta {
        key: key.to_owned(),
        value: value.to_owned(),
        r#type: pb::MetaType::String as i32,
    };
    let own = [
        text("app", origin.app),
        text("account", origin.account),
        text(dialect.gateway_key(), origin.gate_id),
    ];
    let kept = claimed.meta.iter().filter(|meta| !is_reserved(meta)).cloned();
    pb::Header {
        channel_id: origin.channel_id.to_owned(),
        flag: pb::Flag::Request as i32,
        status: pb::Status::Success as i32,
        meta: kept.chain(own).collect(),
        ..claimed.clone()
    }
}

fn check_deliver(view: &HeaderView<'_>, decoded: &pb::Header, dialect: Dialect) {
    let body = Bytes::from_static(b"hello");
    let mut expected = decoded.clone();
    expected.meta.retain(|meta| !is_for_services(meta));
    assert_eq!(header_of(&rewrite::deliver(view, dialect, body.clone()), dialect, &body), expected);
}

fn check_answer(view: &HeaderView<'_>, decoded: &pb::Header, dialect: Dialect) {
    let status = pb::Status::InvalidCommand;
    let body = pb::ErrorResp { message: "no such command".to_owned() }.encode_to_vec();
    let command = &decoded.command;
    let expected = pb::Header {
        command: command[..command.floor_char_boundary(MAX_ECHO)].to_owned(),
        flag: pb::Flag::Response as i32,
        status: status as i32,
        meta: Vec::new(),
        ..decoded.clone()
    };
    assert_eq!(
        header_of(&rewrite::answer(view, dialect, status, "no such command"), dialect, &body),
        expected
    );
}

/// The header of a frame that must be one whole LogicPkt of this dialect with this body.
fn header_of(frame: &Encoded, dialect: Dialect, body: &[u8]) -> pb::Header {
    let mut decoder = FrameDecoder::new(usize::MAX);
    decoder.push(frame.to_bytes());
    let whole = decoder.next_frame().expect("it is a frame").expect("it is whole");
    assert!(whole.opcode == Opcode::Binary && !decoder.is_mid_frame());
    match Packet::decode(&whole.payload) {
        Ok(Packet::Logic(packet)) => {
            assert!(packet.dialect == dialect && packet.body == body);
            pb::Header::decode(packet.header).expect("it is a header")
        }
        other => panic!("{other:?}"),
    }
}
