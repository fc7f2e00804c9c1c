//! Every vector of `tests/vectors/wire.json` at the level of the codec. What clients see of the `bad` ones is in
//! `malformed.rs`.

use bytes::Bytes;
use gateway::limits::Limits;
use gateway::wire::close::CloseReason;
use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Frame, FrameDecoder, FrameError, Opcode, encode};
use gateway::wire::header::HeaderView;
use gateway::wire::packet::{
    BASIC_GO_AWAY, GO_AWAY_TAG, GoAway, LogicPacket, Packet, encode_basic, encode_message,
};
use gateway::wire::{pb, rewrite};
use prost::Message as _;
use serde_json::Value;

/// The file, parsed.
pub(crate) fn wire() -> Value {
    serde_json::from_str(include_str!("../vectors/wire.json")).expect("wire.json is JSON")
}

/// The bytes a hexadecimal text stands for.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd number of digits");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// One entry of `bad`: bytes a client sends, and the close codes that must follow (`None`: the gateway waits).
pub(crate) struct Bad {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) before_login: Option<u16>,
    pub(crate) after_login: Option<u16>,
}

/// All of `bad`.
pub(crate) fn bad() -> Vec<Bad> {
    let code = |value: &Value| match value {
        Value::Number(number) => Some(u16::try_from(number.as_u64().unwrap()).unwrap()),
        Value::String(text) if text.starts_with("wait: ") => None,
        other => panic!("neither a code nor \"wait: …\": {other}"),
    };
    let all = wire();
    let list = all["bad"].as_array().unwrap().iter().map(|entry| Bad {
        name: text(&entry["name"]),
        bytes: hex(entry["bytes"].as_str().unwrap()),
        before_login: code(&entry["before_login"]),
        after_login: code(&entry["after_login"]),
    });
    let list: Vec<_> = list.collect();
    assert!(list.len() >= 13, "the vectors are complete");
    list
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn good() -> Vec<Value> {
    let all = wire();
    let list = all["good"].as_array().unwrap().clone();
    assert!(list.len() >= 20, "the vectors are complete");
    list
}

fn dialect_of(entry: &Value) -> Dialect {
    entry["dialect"].as_str().unwrap().parse().unwrap()
}

fn only_frame(bytes: &[u8]) -> Frame {
    let mut decoder = FrameDecoder::new(Limits::default().max_frame);
    decoder.push(Bytes::copy_from_slice(bytes));
    let frame = decoder.next_frame().unwrap().expect("a whole frame");
    assert!(!decoder.is_mid_frame(), "nothing behind the frame");
    frame
}

fn logic_packet(entry: &Value) -> LogicPacket {
    let frame = only_frame(&hex(entry["frame"].as_str().unwrap()));
    assert_eq!(frame.opcode, Opcode::Binary);
    match Packet::decode(&frame.payload).unwrap() {
        Packet::Logic(packet) => packet,
        Packet::Basic { .. } => panic!("{} is a LogicPkt", entry["name"]),
    }
}

fn metas_of(list: &Value) -> Vec<pb::Meta> {
    let entries = list.as_array().unwrap().iter();
    let kind = |name: &str| pb::MetaType::from_str_name(name).unwrap() as i32;
    entries
        .map(|meta| pb::Meta {
            key: text(&meta[0]),
            value: text(&meta[1]),
            r#type: kind(meta[2].as_str().unwrap()),
        })
        .collect()
}

/// The header an entry describes; what it does not list has its default.
fn header_of(entry: &Value) -> pb::Header {
    let header = &entry["header"];
    let string = |key: &str| header[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| header[key].as_i64().unwrap_or_default();
    pb::Header {
        command: string("command"),
        channel_id: string("channelID"),
        sequence: u32::try_from(number("sequence")).unwrap(),
        flag: header["flag"].as_str().map_or(0, |name| pb::Flag::from_str_name(name).unwrap() as i32),
        status: i32::try_from(number("status")).unwrap(),
        dest: string("dest"),
        meta: if header["meta"].is_null() { Vec::new() } else { metas_of(&header["meta"]) },
    }
}

#[test]
fn basic_packets_decode_and_encode() {
    let mut seen = 0;
    for entry in good().iter().filter(|entry| entry["packet"] == "basic") {
        let bytes = hex(entry["frame"].as_str().unwrap());
        let frame = only_frame(&bytes);
        let code = u16::try_from(entry["code"].as_u64().unwrap()).unwrap();
        let expected = Packet::Basic {
            dialect: dialect_of(entry),
            code,
            body: hex(entry["body"].as_str().unwrap()).into(),
        };
        assert_eq!(Packet::decode(&frame.payload).unwrap(), expected, "{}", entry["name"]);
        assert_eq!(encode_basic(dialect_of(entry), code), bytes, "{}", entry["name"]);
        seen += 1;
    }
    assert_eq!(seen, 4, "ping and pong in both dialects");
}

#[test]
fn logic_packets_decode_and_encode() {
    let mut seen = 0;
    for entry in good().iter().filter(|entry| entry["packet"] == "logic") {
        let name = format!("{} ({})", entry["name"], entry["dialect"]);
        let packet = logic_packet(entry);
        assert_eq!(packet.dialect, dialect_of(entry), "{name}");
        assert_eq!(packet.body, hex(entry["body"].as_str().unwrap()), "{name}");

        let expected = header_of(entry);
        let view = HeaderView::scan(&packet.header, &Limits::default().header()).unwrap();
        assert_eq!(view.command, expected.command, "{name}");
        assert_eq!(view.channel_id, expected.channel_id, "{name}");
        assert_eq!(view.sequence, expected.sequence, "{name}");
        assert_eq!(view.flag, expected.flag, "{name}");
        assert_eq!(view.status, expected.status, "{name}");
        assert_eq!(view.dest, expected.dest, "{name}");

        let decoded = pb::Header::decode(packet.header.clone()).unwrap();
        if entry["channels"].is_null() {
            assert_eq!(decoded, expected, "{name}");
        }
        let again = encode_message(packet.dialect, &decoded, packet.body.clone());
        assert_eq!(again.to_bytes(), hex(entry["frame"].as_str().unwrap()), "{name}");
        assert_eq!(again.len(), again.to_bytes().len(), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 12, "six in each dialect");
}

#[test]
fn login_bodies_decode_and_encode() {
    let mut seen = 0;
    for entry in good().iter().filter(|entry| entry["login_req"].is_object()) {
        let body = logic_packet(entry).body;
        let login = &entry["login_req"];
        let expected = pb::LoginReq {
            token: text(&login["token"]),
            isp: text(&login["isp"]),
            zone: text(&login["zone"]),
            tags: login["tags"].as_array().unwrap().iter().map(text).collect(),
        };
        assert_eq!(pb::LoginReq::decode(body.clone()).unwrap(), expected);
        assert_eq!(Bytes::from(expected.encode_to_vec()), body);
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn session_bodies_decode_and_encode() {
    let mut seen = 0;
    for entry in good().iter().filter(|entry| entry["name"] == "login.signin as the login service sees it") {
        let packet = logic_packet(entry);
        let session = pb::Session {
            channel_id: "gate01_alice_7".into(),
            gate_id: "gate01".into(),
            account: "alice".into(),
            zone: "zone1".into(),
            isp: "isp1".into(),
            remote_ip: "192.0.2.7".into(),
            device: String::new(),
            app: "x_im".into(),
            tags: vec!["a".into(), "b".into()],
        };
        assert_eq!(pb::Session::decode(packet.body.clone()).unwrap(), session);
        assert_eq!(Bytes::from(session.encode_to_vec()), packet.body);
        let view = HeaderView::scan(&packet.header, &Limits::default().header()).unwrap();
        assert_eq!(view.last_meta("app"), Some("x_im"));
        assert_eq!(view.last_meta("account"), Some("alice"));
        assert_eq!(view.last_meta(packet.dialect.gateway_key()), Some("gate01"));
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn g7_b1_b2_b3_a16_forged_headers_are_forwarded_as_given() {
    let mut seen = 0;
    for entry in good().iter().filter(|entry| entry["forwarded"].is_object()) {
        let packet = logic_packet(entry);
        let wanted = &entry["forwarded"];
        let mut expected = header_of(entry);
        expected.channel_id = text(&wanted["channelID"]);
        expected.flag = pb::Flag::from_str_name(wanted["flag"].as_str().unwrap()).unwrap() as i32;
        expected.status = i32::try_from(wanted["status"].as_i64().unwrap()).unwrap();
        expected.meta = metas_of(&wanted["meta"]);

        let origin = rewrite::Origin {
            channel_id: "gate01_alice_7",
            app: "x_im",
            account: "alice",
            gate_id: "gate01",
        };
        let view = HeaderView::scan(&packet.header, &Limits::default().header()).unwrap();
        let sent = rewrite::forward(&view, packet.dialect, &origin, packet.body.clone());
        assert_eq!(
            sent.to_bytes(),
            encode_message(packet.dialect, &expected, packet.body.clone()).to_bytes()
        );
        let forged = rewrite::forgeries(&view, origin.channel_id);
        assert_eq!(forged, rewrite::Forgeries { meta: true, channel: true, normalised: true });
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn pushes_name_their_channels_by_the_last_pair_and_are_delivered_as_given() {
    let mut delivered = 0;
    for entry in good().iter().filter(|entry| entry["channels"].is_array()) {
        let packet = logic_packet(entry);
        let view = HeaderView::scan(&packet.header, &gateway::wire::header::HeaderLimits::BACKEND).unwrap();
        let channels: Vec<_> = entry["channels"].as_array().unwrap().iter().map(text).collect();
        assert_eq!(view.last_meta("dest.channels"), Some(channels.join(",").as_str()));
        assert_eq!(view.last_meta(packet.dialect.gateway_key()), Some("gate01"));
        if let Some(expected) = entry["delivered"].as_str() {
            let sent = rewrite::deliver(&view, packet.dialect, packet.body.clone());
            assert_eq!(sent.to_bytes(), hex(expected));
            delivered += 1;
        }
    }
    assert_eq!(delivered, 2);
}

#[test]
fn bare_frames_decode_and_encode() {
    let entries = good();
    let named = |name: &str| entries.iter().find(|entry| entry["name"] == name).expect("the vector");
    let bytes = |entry: &Value| hex(entry["frame"].as_str().unwrap());

    let handshake = bytes(named("inner handshake"));
    let request = pb::InnerHandshakeReq { service_id: text(&named("inner handshake")["ServiceID"]) };
    let frame = only_frame(&handshake);
    assert_eq!(pb::InnerHandshakeReq::decode(frame.payload).unwrap(), request);
    assert_eq!(encode(Opcode::Binary, &request.encode_to_vec()), handshake);

    assert_eq!(encode(Opcode::Ping, &[]), bytes(named("frame ping")));
    assert_eq!(only_frame(&bytes(named("frame ping"))).opcode, Opcode::Ping);
    assert_eq!(encode(Opcode::Pong, &[]), bytes(named("frame pong")));
    assert_eq!(only_frame(&bytes(named("frame pong"))).opcode, Opcode::Pong);

    let kicked = named("close 3501 kicked");
    let frame = only_frame(&bytes(kicked));
    assert_eq!(frame.opcode, Opcode::Close);
    let reason = CloseReason::from_payload(&frame.payload).unwrap();
    assert_eq!(reason.code().map(u64::from), kicked["code"].as_u64());
    assert_eq!(reason.token(), kicked["token"]);
    assert_eq!(encode(Opcode::Close, &reason.payload()), bytes(kicked));
}

/// The close code the codec alone decides on; `None` while it waits for more bytes.
fn verdict(bytes: &[u8], max_frame: usize) -> Option<u16> {
    let mut decoder = FrameDecoder::new(max_frame);
    decoder.push(Bytes::copy_from_slice(bytes));
    let frame = match decoder.next_frame() {
        Ok(Some(frame)) => frame,
        Ok(None) => {
            assert!(decoder.is_mid_frame());
            return None;
        }
        Err(FrameError::TooBig { .. }) => return Some(3504),
        Err(FrameError::BadOpcode(_) | FrameError::Malformed(_)) => return Some(3503),
    };
    let header = match Packet::decode(&frame.payload) {
        Ok(Packet::Logic(packet)) => packet.header,
        Ok(Packet::Basic { .. }) => panic!("a well-formed BasicPkt"),
        Err(_) => return Some(3503),
    };
    HeaderView::scan(&header, &Limits::default().header()).expect_err("a well-formed header");
    Some(3503)
}

#[test]
fn a1_a2_a4_a6_a7_a8_a9_a11_bad_bytes_are_refused_with_their_code() {
    let limits = Limits::default();
    for case in bad() {
        assert_eq!(verdict(&case.bytes, limits.max_frame_before_login), case.before_login, "{}", case.name);
        assert_eq!(verdict(&case.bytes, limits.max_frame), case.after_login, "{}", case.name);
    }
}

/// Go away (protocol §2): ours, so no vector of the other systems has it.
#[test]
fn go_away_is_these_bytes_in_either_dialect() {
    let go_away = GoAway { seconds: 20, code: 3000 };
    for (dialect, text) in [
        (Dialect::XIm, "020000000c323334350003000400140bb8"),
        (Dialect::Kim, "020000000cc315a7650003000400140bb8"),
    ] {
        let bytes = hex(text);
        assert_eq!(go_away.encode(dialect), bytes);
        let body = hex("00140bb8");
        let expected = Packet::Basic { dialect, code: 3, body: body.clone().into() };
        assert_eq!(Packet::decode(&only_frame(&bytes).payload).unwrap(), expected);
        assert_eq!(GoAway::decode(&body), Some(go_away));
    }
    assert_eq!((BASIC_GO_AWAY, GO_AWAY_TAG), (3, "goaway"));
    assert_eq!(GoAway::decode(&hex("00140b")), None);
    assert_eq!(GoAway::decode(&hex("00140bb8ff")), Some(go_away), "what stands behind is not looked at");
    let to = go_away.encode_to(Dialect::XIm, Some("g2:8000"));
    assert_eq!(to, hex("0200000013323334350003000b00140bb867323a38303030"));
    assert_eq!(GoAway::go_to(&hex("00140bb867323a38303030")), Some("g2:8000"));
    assert_eq!((GoAway::go_to(&hex("00140bb8")), GoAway::go_to(&hex("00140bb8ff"))), (None, None));
    assert_eq!(
        go_away.encode_to(Dialect::Kim, Some(&"g".repeat(260))),
        go_away.encode(Dialect::Kim),
        "too long"
    );
}
