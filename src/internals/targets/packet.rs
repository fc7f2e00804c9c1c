//! Packets: what is taken apart is written back to the same bytes, and what is refused has no magic or lengths that do
//! not fit.

use bytes::Bytes;

use crate::wire::close::CloseReason;
use crate::wire::dialect::Dialect;
use crate::wire::frame::{self, HEAD_LEN, Opcode};
use crate::wire::packet::{
    BASIC_GO_AWAY, GoAway, LogicPacket, MAGIC_LEN, Packet, PacketError, encode_basic, encode_logic,
};

/// The payload of a binary frame, and of a close frame.
pub fn target(data: &[u8]) {
    let payload = Bytes::copy_from_slice(data);
    let starts_with =
        |magic: fn(Dialect) -> [u8; 4]| Dialect::ALL.into_iter().any(|one| data.starts_with(&magic(one)));
    let (logic, basic) = (starts_with(Dialect::logic_magic), starts_with(Dialect::basic_magic));
    match Packet::decode(&payload) {
        Ok(Packet::Logic(packet)) => check_logic(&packet, data),
        Ok(Packet::Basic { dialect, code, body }) => check_basic(dialect, code, &body, data),
        Err(PacketError::BadMagic) => assert!(!logic && !basic),
        Err(PacketError::BadLength) => assert!((logic && !logic_fits(data)) || (basic && !basic_fits(data))),
    }
    if let Some(reason) = CloseReason::from_payload(data) {
        assert!(reason.payload().starts_with(&data[..2]));
    }
}

fn check_logic(packet: &LogicPacket, data: &[u8]) {
    let again = encode_logic(packet.dialect, packet.header.len(), packet.body.clone(), |out| {
        out.extend_from_slice(&packet.header);
    });
    assert_eq!(again.to_bytes(), frame::encode(Opcode::Binary, data));
    assert_eq!(again.header(), packet.header);
    assert_eq!(packet.frame_len(), HEAD_LEN + data.len());
}

fn check_basic(dialect: Dialect, code: u16, body: &[u8], data: &[u8]) {
    let head = encode_basic(dialect, code);
    assert_eq!(head[HEAD_LEN..HEAD_LEN + MAGIC_LEN + 2], data[..MAGIC_LEN + 2]);
    assert_eq!(data[MAGIC_LEN + 4..], *body);
    assert!(basic_fits(data));
    if code == BASIC_GO_AWAY
        && let Some(go_away) = GoAway::decode(body)
    {
        let again = go_away.encode(dialect);
        assert!(body.starts_with(&again[HEAD_LEN + MAGIC_LEN + 4..]));
    }
}

/// Returns `true` if header and body, each behind its length, fill the payload to its last byte.
fn logic_fits(data: &[u8]) -> bool {
    let counted = |rest: &[u8]| {
        let (len, rest) = rest.split_first_chunk::<4>()?;
        rest.len().checked_sub(u32::from_be_bytes(*len) as usize)
    };
    let rest = &data[MAGIC_LEN..];
    counted(rest).and_then(|left| counted(&rest[rest.len() - left..])) == Some(0)
}

/// Returns `true` if the body fills the payload to its last byte.
fn basic_fits(data: &[u8]) -> bool {
    let len = data.get(MAGIC_LEN + 2..).and_then(|rest| rest.first_chunk::<2>());
    len.is_some_and(|len| data.len() == MAGIC_LEN + 4 + usize::from(u16::from_be_bytes(*len)))
}
