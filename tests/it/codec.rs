//! Properties of the codec. The number of cases is proptest's default of 256; PROPTEST_CASES scales it.

use bytes::{BufMut, Bytes, BytesMut};
use gateway::limits::Limits;
use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Frame, FrameDecoder, FrameError, HEAD_LEN, Opcode, encode};
use gateway::wire::header::{HeaderError, HeaderLimits, HeaderView};
use gateway::wire::packet::{Packet, encode_logic, encode_message};
use gateway::wire::{pb, rewrite};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message as _;

/// What a decoder may hold beyond the bytes that arrived and were not yet handed out (row A1).
const SLACK: usize = 8 * 1024;

const OPCODES: [Opcode; 6] =
    [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong];

fn any_opcode() -> impl Strategy<Value = Opcode> {
    prop::sample::select(&OPCODES[..])
}

fn any_dialect() -> impl Strategy<Value = Dialect> {
    prop::sample::select(&Dialect::ALL[..])
}

/// Mostly small payloads, now and then one near the limit.
fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..200),
        1 => (4000..70_000usize, any::<u8>()).prop_map(|(len, fill)| vec![fill; len.min(64 * 1024)]),
    ]
}

fn any_frames() -> impl Strategy<Value = Vec<(Opcode, Vec<u8>)>> {
    vec((any_opcode(), any_payload()), 0..6)
}

fn stream_of(frames: &[(Opcode, Vec<u8>)]) -> Vec<u8> {
    frames.iter().flat_map(|(opcode, payload)| encode(*opcode, payload)).collect()
}

/// Feeds `bytes` in pieces cut at `cuts`, checks the bound after every step, and returns what came out.
fn decode_in_pieces(bytes: &[u8], cuts: &[usize], max: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = FrameDecoder::new(max);
    let mut frames = Vec::new();
    let (mut start, mut consumed) = (0, 0);
    let mut cuts: Vec<_> = cuts.to_vec();
    cuts.sort_unstable();
    for end in cuts.into_iter().chain([bytes.len()]) {
        decoder.push(Bytes::copy_from_slice(&bytes[start..end]));
        start = end;
        loop {
            let next = decoder.next_frame();
            let waiting = end - consumed;
            assert!(decoder.buffered() <= waiting + SLACK, "{} held of {waiting}", decoder.buffered());
            match next {
                Ok(Some(frame)) => {
                    consumed += HEAD_LEN + frame.payload.len();
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert_eq!(decoder.is_mid_frame(), consumed < end);
    }
    (frames, None)
}

fn resolve(cuts: &[Index], len: usize) -> Vec<usize> {
    cuts.iter().map(|cut| cut.index(len + 1)).collect()
}

#[derive(Debug, Clone)]
enum Havoc {
    Flip(Index, u8),
    Truncate(Index),
    Insert(Index, Vec<u8>),
    Replace(Vec<u8>),
}

fn any_havoc() -> impl Strategy<Value = Havoc> {
    prop_oneof![
        4 => (any::<Index>(), 1..=255u8).prop_map(|(at, mask)| Havoc::Flip(at, mask)),
        2 => any::<Index>().prop_map(Havoc::Truncate),
        2 => (any::<Index>(), vec(any::<u8>(), 1..12)).prop_map(|(at, extra)| Havoc::Insert(at, extra)),
        1 => vec(any::<u8>(), 0..400).prop_map(Havoc::Replace),
    ]
}

fn apply(havoc: &[Havoc], mut bytes: Vec<u8>) -> Vec<u8> {
    for step in havoc {
        match step {
            Havoc::Flip(at, mask) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= mask;
            }
            Havoc::Flip(..) => {}
            Havoc::Truncate(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Havoc::Insert(at, extra) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, extra.iter().copied());
            }
            Havoc::Replace(other) => bytes.clone_from(other),
        }
    }
    bytes
}

// --- Headers, written field by field so that repeats, unknown fields and wrong types occur -------------------

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_field(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, u64::from(number << 3));
    put_varint(&mut out, value);
    out
}

fn bytes_field(number: u32, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, u64::from(number << 3 | 2));
    put_varint(&mut out, value.len() as u64);
    out.extend_from_slice(value);
    out
}

fn fixed_field(number: u32, wide: bool) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, u64::from(number << 3 | if wide { 1 } else { 5 }));
    out.extend_from_slice(&[7; 8][..if wide { 8 } else { 4 }]);
    out
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z.]{0,12}",
        1 => "\\PC{0,8}",
        1 => prop::sample::select(vec![
            "app", "account", "dest.", "dest.logic", "dest.server", "dest.channels", "destiny", "App",
        ])
        .prop_map(str::to_owned),
    ]
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0..500u64, 1 => any::<u64>(), 1 => any::<i32>().prop_map(|value| i64::from(value) as u64)]
}

/// Fields no message of ours has.
fn unknown_field() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![8..40u32, Just((1 << 29) - 1)];
    (number, 0..4, any_number(), vec(any::<u8>(), 0..10)).prop_map(
        |(number, kind, value, bytes)| match kind {
            0 => varint_field(number, value),
            1 => bytes_field(number, &bytes),
            2 => fixed_field(number, true),
            _ => fixed_field(number, false),
        },
    )
}

fn any_meta() -> impl Strategy<Value = Vec<u8>> {
    let key = any_text().prop_map(|text| bytes_field(1, text.as_bytes()));
    let value = any_text().prop_map(|text| bytes_field(2, text.as_bytes()));
    let kind = any_number().prop_map(|value| varint_field(3, value));
    vec(prop_oneof![4 => key, 4 => value, 4 => kind, 1 => unknown_field()], 0..5)
        .prop_map(|parts| parts.concat())
}

fn header_field() -> impl Strategy<Value = Vec<u8>> {
    let text = (prop::sample::select(vec![1u32, 2, 6]), any_text())
        .prop_map(|(number, text)| bytes_field(number, text.as_bytes()));
    let number = (3..6u32, any_number()).prop_map(|(number, value)| varint_field(number, value));
    let meta = any_meta().prop_map(|meta| bytes_field(7, &meta));
    prop_oneof![4 => text, 4 => number, 4 => meta, 1 => unknown_field()]
}

/// Bytes prost accepts.
fn valid_header() -> impl Strategy<Value = Vec<u8>> {
    vec(header_field(), 0..12).prop_map(|fields| fields.concat())
}

/// Bytes it may or may not accept: wrong wire types, groups, broken text, flips, cuts.
fn doubtful_header() -> impl Strategy<Value = Vec<u8>> {
    let wrong = (1..9u32, 0..8u32, vec(any::<u8>(), 0..4)).prop_map(|(number, kind, tail)| {
        let mut out = Vec::new();
        put_varint(&mut out, u64::from(number << 3 | kind));
        out.extend(tail);
        out
    });
    let field = prop_oneof![6 => header_field().boxed(), 1 => wrong.boxed()];
    (vec(field, 0..10), vec(any_havoc(), 0..3)).prop_map(|(fields, havoc)| apply(&havoc, fields.concat()))
}

/// An independent walk: returns `true` if there is a group where a header's reader would meet one.
fn has_group(mut raw: &[u8], top: bool) -> bool {
    while !raw.is_empty() {
        let Ok(key) = prost::encoding::decode_varint(&mut raw) else { return false };
        let len = match key & 7 {
            0 => {
                if prost::encoding::decode_varint(&mut raw).is_err() {
                    return false;
                }
                0
            }
            1 => 8,
            2 => match prost::encoding::decode_varint(&mut raw) {
                Ok(len) => usize::try_from(len).unwrap_or(usize::MAX),
                Err(_) => return false,
            },
            3 | 4 => return true,
            5 => 4,
            _ => return false,
        };
        let Some((value, rest)) = raw.split_at_checked(len) else { return false };
        if top && key == (7 << 3 | 2) && has_group(value, false) {
            return true;
        }
        raw = rest;
    }
    false
}

const UNBOUNDED: HeaderLimits =
    HeaderLimits { bytes: usize::MAX, metas: usize::MAX, string: usize::MAX, channel_id: usize::MAX };

fn metas_of(view: &HeaderView<'_>) -> Vec<pb::Meta> {
    view.metas()
        .map(|meta| pb::Meta {
            key: meta.key_text().into(),
            value: meta.value_text().into(),
            r#type: meta.kind,
        })
        .collect()
}

fn as_message(view: &HeaderView<'_>) -> pb::Header {
    pb::Header {
        command: view.command.into(),
        channel_id: view.channel_id.into(),
        sequence: view.sequence,
        flag: view.flag,
        status: view.status,
        dest: view.dest.into(),
        meta: metas_of(view),
    }
}

fn is_reserved(meta: &pb::Meta) -> bool {
    meta.key == "app" || meta.key == "account" || meta.key.starts_with("dest.")
}

fn string_meta(key: &str, value: &str) -> pb::Meta {
    pb::Meta { key: key.into(), value: value.into(), r#type: pb::MetaType::String as i32 }
}

/// The header of a frame the codec wrote; it must be one whole LogicPkt of this dialect.
fn sent_header(frame: &Bytes, dialect: Dialect, body: &[u8]) -> pb::Header {
    let mut decoder = FrameDecoder::new(usize::MAX);
    decoder.push(frame.clone());
    let frame = decoder.next_frame().unwrap().unwrap();
    assert!(!decoder.is_mid_frame());
    assert_eq!(frame.opcode, Opcode::Binary);
    let Packet::Logic(packet) = Packet::decode(&frame.payload).unwrap() else { panic!("a LogicPkt") };
    assert_eq!(packet.dialect, dialect);
    assert_eq!(packet.body, body);
    pb::Header::decode(packet.header).unwrap()
}

proptest! {
    #[test]
    fn d10_frames_round_trip_whatever_the_split(frames in any_frames(), cuts in vec(any::<Index>(), 0..12)) {
        let bytes = stream_of(&frames);
        let (decoded, error) = decode_in_pieces(&bytes, &resolve(&cuts, bytes.len()), 64 * 1024);
        prop_assert_eq!(error, None);
        let decoded: Vec<_> =
            decoded.into_iter().map(|frame| (frame.opcode, frame.payload.to_vec())).collect();
        prop_assert_eq!(decoded, frames);
    }

    #[test]
    fn a1_perturbed_streams_neither_panic_nor_allocate(
        frames in any_frames(),
        havoc in vec(any_havoc(), 1..4),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let bytes = apply(&havoc, stream_of(&frames));
        let whole = decode_in_pieces(&bytes, &[], 8 * 1024);
        let split = decode_in_pieces(&bytes, &resolve(&cuts, bytes.len()), 8 * 1024);
        prop_assert_eq!(&whole, &split, "the split changes nothing, errors included");
        for frame in whole.0 {
            // Whatever stands in it may be refused, but not with a panic.
            if let Ok(Packet::Logic(packet)) = Packet::decode(&frame.payload) {
                let _ = HeaderView::scan(&packet.header, &Limits::default().header());
            }
        }
    }

    #[test]
    fn a1_a_claimed_length_reserves_nothing(claimed in 0..=1024 * 1024u32, arrived in 0..40_000usize) {
        let mut bytes = vec![Opcode::Binary as u8];
        bytes.extend_from_slice(&claimed.to_be_bytes());
        bytes.resize(HEAD_LEN + arrived.min(claimed as usize), 0);
        let mut decoder = FrameDecoder::new(1024 * 1024);
        for (at, piece) in bytes.chunks(1500).enumerate() {
            decoder.push(Bytes::copy_from_slice(piece));
            let whole = decoder.next_frame().unwrap().is_some();
            let pushed = (at * 1500) + piece.len();
            prop_assert_eq!(whole, pushed == HEAD_LEN + claimed as usize);
            prop_assert!(decoder.buffered() <= pushed + SLACK);
        }
    }

    #[test]
    fn a8_a_packet_that_decodes_is_encoded_back_to_the_same_bytes(
        dialect in any_dialect(),
        header in vec(any::<u8>(), 0..40),
        body in vec(any::<u8>(), 0..40),
        code in any::<u16>(),
        basic in any::<bool>(),
        havoc in vec(any_havoc(), 0..3),
    ) {
        let payload = apply(&havoc, if basic { basic_payload(dialect, code, &body) } else {
            logic_payload(dialect, &header, &body)
        });
        match Packet::decode(&payload.clone().into()) {
            Ok(Packet::Basic { dialect, code, body }) => {
                prop_assert_eq!(basic_payload(dialect, code, &body), payload);
            }
            Ok(Packet::Logic(packet)) => {
                let frame = encode_logic(packet.dialect, 0, packet.body, |out| out.extend_from_slice(&packet.header));
                prop_assert_eq!(frame.to_bytes(), encode(Opcode::Binary, &payload));
            }
            Err(_) => prop_assert!(!havoc.is_empty(), "what was well formed was refused"),
        }
    }

    #[test]
    fn a13_the_scan_reads_what_prost_reads(raw in valid_header()) {
        let expected = pb::Header::decode(raw.as_slice()).unwrap();
        let view = HeaderView::scan(&raw, &UNBOUNDED).unwrap();
        prop_assert_eq!(as_message(&view), expected);
        prop_assert_eq!(view.encoded_len(), raw.len());
    }

    #[test]
    fn a9_a12_the_scan_refuses_what_prost_refuses_and_groups(raw in doubtful_header()) {
        let scanned = HeaderView::scan(&raw, &UNBOUNDED).map(|view| as_message(&view));
        match (scanned, pb::Header::decode(raw.as_slice())) {
            (Ok(scanned), Ok(decoded)) => prop_assert_eq!(scanned, decoded),
            (Err(HeaderError::Malformed), Err(_)) => {}
            (Err(HeaderError::Malformed), Ok(_)) => prop_assert!(has_group(&raw, true), "only groups differ"),
            (scanned, decoded) => prop_assert!(false, "scan {scanned:?}, prost {decoded:?}"),
        }
    }

    #[test]
    fn a13_g7_forward_is_decode_rules_encode(
        raw in valid_header(),
        dialect in any_dialect(),
        body in vec(any::<u8>(), 0..40),
        account in "\\PC{1,20}",
    ) {
        let origin = rewrite::Origin { channel_id: "gate01_a_7", app: "x_im", account: &account, gate_id: "gate01" };
        let mut expected = pb::Header::decode(raw.as_slice()).unwrap();
        let claimed = expected.clone();
        expected.channel_id = origin.channel_id.into();
        expected.flag = pb::Flag::Request as i32;
        expected.status = pb::Status::Success as i32;
        expected.meta.retain(|meta| !is_reserved(meta));
        expected.meta.extend([
            string_meta("app", "x_im"),
            string_meta("account", &account),
            string_meta(dialect.gateway_key(), "gate01"),
        ]);

        let view = HeaderView::scan(&raw, &UNBOUNDED).unwrap();
        let sent = rewrite::forward(&view, dialect, &origin, Bytes::from(body.clone()));
        prop_assert_eq!(sent.to_bytes(), encode_message(dialect, &expected, body).to_bytes());

        let forged = rewrite::forgeries(&view, origin.channel_id);
        prop_assert_eq!(forged.meta, claimed.meta.iter().any(is_reserved));
        prop_assert_eq!(forged.channel, !["", origin.channel_id].contains(&claimed.channel_id.as_str()));
        prop_assert_eq!(forged.normalised, claimed.flag != 0 || claimed.status != 0);
    }

    #[test]
    fn deliver_takes_the_destinations_and_leaves_the_rest(
        raw in valid_header(),
        dialect in any_dialect(),
        body in vec(any::<u8>(), 0..40),
    ) {
        let mut expected = pb::Header::decode(raw.as_slice()).unwrap();
        expected.meta.retain(|meta| !meta.key.starts_with("dest."));
        let view = HeaderView::scan(&raw, &UNBOUNDED).unwrap();
        let sent = rewrite::deliver(&view, dialect, Bytes::from(body.clone())).to_bytes();
        prop_assert_eq!(sent_header(&sent, dialect, &body), expected);
    }

    #[test]
    fn g1_answers_echo_the_request_and_nothing_else(
        raw in valid_header(),
        dialect in any_dialect(),
        long in 0..600usize,
    ) {
        let raw = [raw, bytes_field(1, "é".repeat(long).as_bytes())].concat();
        let request = pb::Header::decode(raw.as_slice()).unwrap();
        let view = HeaderView::scan(&raw, &UNBOUNDED).unwrap();
        let sent = rewrite::answer(&view, dialect, pb::Status::InvalidCommand, "no such command").to_bytes();
        let body = pb::ErrorResp { message: "no such command".into() }.encode_to_vec();
        let header = sent_header(&sent, dialect, &body);
        prop_assert!(header.command.len() <= 256 && request.command.starts_with(&header.command));
        prop_assert!(header.command.len() >= request.command.len().min(255));
        prop_assert_eq!(header, pb::Header {
            command: request.command.chars().take(128).collect(),
            channel_id: request.channel_id,
            sequence: request.sequence,
            flag: pb::Flag::Response as i32,
            status: pb::Status::InvalidCommand as i32,
            dest: request.dest,
            meta: Vec::new(),
        });
    }

    #[test]
    fn signouts_name_the_channel_and_the_reason(dialect in any_dialect(), account in "\\PC{1,20}") {
        let origin = rewrite::Origin { channel_id: "g_a_1", app: "x_im", account: &account, gate_id: "g" };
        let sent = rewrite::signout(dialect, &origin, "peer_closed").to_bytes();
        prop_assert_eq!(sent_header(&sent, dialect, &[]), pb::Header {
            command: "login.signout".into(),
            channel_id: "g_a_1".into(),
            meta: vec![
                string_meta("app", "x_im"),
                string_meta("account", &account),
                string_meta(dialect.gateway_key(), "g"),
                string_meta("reason", "peer_closed"),
            ],
            ..Default::default()
        });
    }
}

fn logic_payload(dialect: Dialect, header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.extend_from_slice(&dialect.logic_magic());
    out.put_u32(u32::try_from(header.len()).unwrap());
    out.extend_from_slice(header);
    out.put_u32(u32::try_from(body.len()).unwrap());
    out.extend_from_slice(body);
    out.to_vec()
}

fn basic_payload(dialect: Dialect, code: u16, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.extend_from_slice(&dialect.basic_magic());
    out.put_u16(code);
    out.put_u16(u16::try_from(body.len()).unwrap());
    out.extend_from_slice(body);
    out.to_vec()
}

/// A header of `metas` entries `k`/`value`.
fn header_with(metas: usize, value: &str, rest: &pb::Header) -> Vec<u8> {
    pb::Header { meta: vec![string_meta("k", value); metas], ..rest.clone() }.encode_to_vec()
}

#[test]
fn a9_a11_a14_the_limits_of_a_header_are_exact() {
    let limits = Limits::default().header();
    let scan = |raw: Vec<u8>| HeaderView::scan(&raw, &limits).map(|_| ());
    let plain = pb::Header::default();
    assert_eq!(scan(header_with(32, "", &plain)), Ok(()));
    assert_eq!(scan(header_with(33, "", &plain)), Err(HeaderError::TooManyMetas));
    assert_eq!(scan(header_with(1, &"v".repeat(256), &plain)), Ok(()));
    assert_eq!(scan(header_with(1, &"v".repeat(257), &plain)), Err(HeaderError::TooLong));
    let with_channel = |len| pb::Header { channel_id: "c".repeat(len), ..Default::default() };
    assert_eq!(scan(with_channel(512).encode_to_vec()), Ok(()));
    assert_eq!(scan(with_channel(513).encode_to_vec()), Err(HeaderError::TooLong));
    let with_dest = |len| pb::Header { dest: "d".repeat(len), ..Default::default() };
    assert_eq!(scan(with_dest(256).encode_to_vec()), Ok(()));
    assert_eq!(scan(with_dest(257).encode_to_vec()), Err(HeaderError::TooLong));
    // 32 metas of 256 bytes are more than 8 KiB together; a long command alone is answered and not refused here.
    assert_eq!(scan(header_with(32, &"v".repeat(256), &plain)), Err(HeaderError::TooLong));
    let with_command = pb::Header { command: "c".repeat(60_000), ..Default::default() };
    assert_eq!(scan(with_command.encode_to_vec()), Ok(()));
}

#[test]
fn a12_groups_are_refused_and_deep_ones_do_no_harm() {
    let mut raw = Vec::new();
    for _ in 0..4000 {
        put_varint(&mut raw, 15 << 3 | 3);
    }
    assert_eq!(HeaderView::scan(&raw, &UNBOUNDED).map(|_| ()), Err(HeaderError::Malformed));
    let closed = [vec![0x7b], varint_field(1, 1), vec![0x7c]].concat();
    assert!(pb::Header::decode(closed.as_slice()).is_ok(), "prost reads this one");
    assert_eq!(HeaderView::scan(&closed, &UNBOUNDED).map(|_| ()), Err(HeaderError::Malformed));
}
