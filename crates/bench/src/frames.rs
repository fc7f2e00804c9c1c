//! The frames of the load and of its logic service, built once or by hand: both share a core, which must not be the slower.

use bytes::{BufMut as _, Bytes};
use gateway_wire::dialect::Dialect;
use gateway_wire::frame::HEAD_LEN;
use gateway_wire::header::{HeaderLimits, HeaderView};
use gateway_wire::packet::{LogicPacket, Packet, encode_logic, encode_message};
use gateway_wire::pb;
use prost::Message as _;

/// The command of an echo.
pub(crate) const ECHO: &str = "chat.bench.echo";

/// The command that asks the logic service for pushes; its body is their number as u32, big-endian.
pub(crate) const BURST: &str = "chat.bench.burst";

/// Who receives it.
const CHANNELS: &str = "dest.channels";

/// The first packet of a connection.
pub(crate) fn login(dialect: Dialect, token: &str) -> Bytes {
    let header = pb::Header {
        command: gateway_wire::command::LOGIN_SIGNIN.to_owned(),
        sequence: 1,
        ..pb::Header::default()
    };
    let body = pb::LoginReq { token: token.to_owned(), ..pb::LoginReq::default() };
    encode_message(dialect, &header, body.encode_to_vec()).to_bytes()
}

/// A request with a body.
pub(crate) fn request(dialect: Dialect, command: &str, sequence: u32, body: &[u8]) -> Bytes {
    let header = pb::Header { command: command.to_owned(), sequence, ..pb::Header::default() };
    encode_message(dialect, &header, body.to_vec()).to_bytes()
}

/// The answer of a logic service to a request of a channel.
pub(crate) fn respond(
    out: &mut Vec<u8>,
    dialect: Dialect,
    gate_id: &str,
    request: &HeaderView<'_>,
    body: Bytes,
) {
    let hint = request.command.len() + 2 * request.channel_id.len() + gate_id.len() + 64;
    let frame = encode_logic(dialect, hint, body, |head| {
        text(head, 1, request.command);
        text(head, 2, request.channel_id);
        number(head, 3, u64::from(request.sequence));
        number(head, 4, pb::Flag::Response as u64);
        meta(head, dialect.gateway_key(), gate_id);
        meta(head, CHANNELS, request.channel_id);
    });
    for piece in frame.pieces() {
        out.extend_from_slice(piece);
    }
}

/// A push of a logic service to some channels, their ids joined by commas.
pub(crate) fn push(dialect: Dialect, gate_id: &str, channels: &str, body: Bytes) -> Bytes {
    let frame = encode_logic(dialect, channels.len() + gate_id.len() + 128, body, |head| {
        text(head, 1, "chat.user.talk");
        number(head, 4, pb::Flag::Push as u64);
        meta(head, dialect.gateway_key(), gate_id);
        meta(head, CHANNELS, channels);
    });
    frame.to_bytes()
}

/// A push as a client gets it, for floors that write the same bytes.
pub(crate) fn delivered_push(dialect: Dialect, body: &[u8]) -> Bytes {
    let header = pb::Header {
        command: "chat.user.talk".to_owned(),
        flag: pb::Flag::Push as i32,
        ..pb::Header::default()
    };
    encode_message(dialect, &header, body.to_vec()).to_bytes()
}

/// The packet of the payload of a binary frame, where it is one with a header that can be read.
pub(crate) fn logic_packet(payload: &Bytes) -> Option<LogicPacket> {
    match Packet::decode(payload).ok()? {
        Packet::Logic(packet) => Some(packet),
        Packet::Basic { .. } => None,
    }
}

/// The header of a packet.
pub(crate) fn header(packet: &LogicPacket) -> Option<HeaderView<'_>> {
    HeaderView::scan(&packet.header, &HeaderLimits::BACKEND).ok()
}

/// Bytes of the first frame of some, once its head is there.
pub(crate) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let head = bytes.first_chunk::<HEAD_LEN>()?;
    let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    Some(HEAD_LEN + usize::try_from(len).ok()?)
}

fn text(out: &mut Vec<u8>, field: u8, text: &str) {
    out.put_u8(field << 3 | 2);
    varint(out, text.len() as u64);
    out.put_slice(text.as_bytes());
}

fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.put_u8(field << 3);
        varint(out, value);
    }
}

fn meta(out: &mut Vec<u8>, key: &str, value: &str) {
    let key_len = 1 + varint_len(key.len() as u64) + key.len();
    let value_len = 1 + varint_len(value.len() as u64) + value.len();
    out.put_u8(7 << 3 | 2);
    varint(out, (key_len + value_len + 2) as u64);
    text(out, 1, key);
    text(out, 2, value);
    number(out, 3, pb::MetaType::String as u64);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(frame: Bytes) -> (pb::Header, Bytes) {
        assert_eq!(frame_len(&frame), Some(frame.len()));
        let packet = logic_packet(&frame.slice(HEAD_LEN..)).unwrap();
        (pb::Header::decode(&*packet.header).unwrap(), packet.body)
    }

    #[test]
    fn what_is_built_by_hand_is_what_the_wire_says() {
        let asked = request(Dialect::Kim, ECHO, 7, b"body");
        let packet = logic_packet(&asked.slice(HEAD_LEN..)).unwrap();
        let mut view = header(&packet).unwrap();
        view.channel_id = "bench_u1_1";
        let mut out = Vec::new();
        respond(&mut out, Dialect::Kim, "bench", &view, packet.body.clone());
        let (answer, body) = decoded(out.into());
        assert_eq!((&*answer.command, answer.sequence, answer.status), (ECHO, 7, 0));
        assert_eq!((answer.flag, &*body), (pb::Flag::Response as i32, &b"body"[..]));
        let metas: Vec<_> = answer.meta.iter().map(|meta| (&*meta.key, &*meta.value, meta.r#type)).collect();
        assert_eq!(metas, [("dest.server", "bench", 1), (CHANNELS, "bench_u1_1", 1)]);

        let channels = vec!["bench_u1_1"; 50].join(",");
        let (pushed, body) = decoded(push(Dialect::XIm, "bench", &channels, Bytes::from_static(b"x")));
        assert_eq!((pushed.flag, &*pushed.meta[1].value, &*body), (2, &*channels, &b"x"[..]));
    }
}
