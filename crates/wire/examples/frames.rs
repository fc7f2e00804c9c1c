//! The frame of a login, made and read again: `cargo run -p gateway-wire --example frames`.

use std::error::Error;

use bytes::Bytes;
use gateway_wire::command::LOGIN_SIGNIN;
use gateway_wire::dialect::Dialect;
use gateway_wire::frame::{Frame, FrameDecoder, Opcode};
use gateway_wire::header::{HeaderLimits, HeaderView};
use gateway_wire::packet::{GO_AWAY_TAG, Packet, encode_message};
use gateway_wire::pb;
use prost::Message as _;

/// Largest payload that is taken before a login, bytes.
const MAX_PAYLOAD: usize = 8 * 1024;

/// As they would arrive: no read ends where a frame ends.
const READ: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let bytes = encode("a.token.signed");
    println!("{} bytes: {:02x?}", bytes.len(), &bytes[..]);
    let frame = decode(&bytes)?;
    show(&frame)
}

/// A login as a client sends it, sequence 1.
fn encode(token: &str) -> Bytes {
    let header = pb::Header { command: LOGIN_SIGNIN.to_owned(), sequence: 1, ..pb::Header::default() };
    let login = pb::LoginReq {
        token: token.to_owned(),
        tags: vec![GO_AWAY_TAG.to_owned()],
        ..pb::LoginReq::default()
    };
    encode_message(Dialect::XIm, &header, login.encode_to_vec()).to_bytes()
}

/// The first frame of these bytes.
fn decode(bytes: &[u8]) -> Result<Frame, Box<dyn Error>> {
    let mut decoder = FrameDecoder::new(MAX_PAYLOAD);
    for chunk in bytes.chunks(READ) {
        decoder.push(Bytes::copy_from_slice(chunk));
        if let Some(frame) = decoder.next_frame()? {
            return Ok(frame);
        }
    }
    Err("the frame has no end".into())
}

fn show(frame: &Frame) -> Result<(), Box<dyn Error>> {
    if frame.opcode != Opcode::Binary {
        return Err("the frame holds no packet".into());
    }
    match Packet::decode(&frame.payload)? {
        Packet::Basic { code, .. } => println!("BasicPkt {code}"),
        Packet::Logic(packet) => {
            // Borrowed from the bytes; `pb::Header::decode` makes an owned one.
            let header = HeaderView::scan(&packet.header, &HeaderLimits::BACKEND)?;
            let login = pb::LoginReq::decode(packet.body.clone())?;
            println!("{} with sequence {}: {login:?}", header.command, header.sequence);
        }
    }
    Ok(())
}
