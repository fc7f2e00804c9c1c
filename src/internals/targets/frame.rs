//! Frames: however a stream is cut into reads, the same frames and the same refusal come out, and what is held is bounded.

use bytes::Bytes;

use super::input::Input;
use crate::wire::frame::{self, Frame, FrameDecoder, FrameError, HEAD_LEN, Opcode};

/// What a decoder may hold beyond the bytes that arrived and were not handed out yet.
const SLACK: usize = 8 * 1024;

/// The bound of a payload (a power of two up to 64 KiB), the sizes of the reads, and then the stream.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let max_payload = 1 << (input.byte() % 17);
    let seed = usize::from(input.byte());
    let stream = input.rest();
    let strict = || FrameDecoder::new(max_payload);
    let lenient = || FrameDecoder::new(max_payload).ignoring_unknown_opcodes();
    for decoder in [&strict as &dyn Fn() -> FrameDecoder, &lenient] {
        let whole = read(decoder(), stream, |_| stream.len().max(1));
        check_against_stream(&whole, stream, max_payload);
        assert_eq!(whole, read(decoder(), stream, |_| 1), "byte by byte");
        assert_eq!(whole, read(decoder(), stream, |number| 1 + seed * number % 97), "in pieces");
    }
}

/// Feeds the stream in pieces, of which the n-th is so long, and returns what came out.
fn read(
    mut decoder: FrameDecoder,
    stream: &[u8],
    piece: impl Fn(usize) -> usize,
) -> (Vec<Frame>, Option<FrameError>) {
    let (mut frames, mut pushed, mut consumed) = (Vec::new(), 0, 0);
    for number in 1.. {
        let end = stream.len().min(pushed + piece(number));
        decoder.push(Bytes::copy_from_slice(&stream[pushed..end]));
        pushed = end;
        loop {
            let next = decoder.next_frame();
            assert!(decoder.buffered() <= pushed - consumed + SLACK, "{} are held", decoder.buffered());
            match next {
                Ok(Some(frame)) => {
                    consumed += HEAD_LEN + frame.payload.len();
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert_eq!(decoder.is_mid_frame(), consumed < pushed);
        if pushed == stream.len() {
            break;
        }
    }
    (frames, None)
}

/// The frames are the stream from its beginning, and nothing complete is left behind them.
fn check_against_stream(
    (frames, error): &(Vec<Frame>, Option<FrameError>),
    stream: &[u8],
    max_payload: usize,
) {
    let mut rest = stream;
    for frame in frames {
        assert!(frame.payload.len() <= max_payload);
        let (whole, behind) = rest.split_at(HEAD_LEN + frame.payload.len());
        match frame.opcode {
            Opcode::Unknown => assert_eq!(whole[HEAD_LEN..], frame.payload),
            known => assert_eq!(whole, frame::encode(known, &frame.payload)),
        }
        rest = behind;
    }
    let claimed = rest.get(1..HEAD_LEN).and_then(|len| len.first_chunk()).map(|len| u32::from_be_bytes(*len));
    match error {
        None => assert!(claimed.is_none_or(|len| rest.len() - HEAD_LEN < len as usize)),
        Some(FrameError::BadOpcode(byte)) => {
            assert!(rest.first() == Some(byte) && Opcode::from_byte(*byte).is_none());
        }
        Some(FrameError::Malformed(_)) => panic!("only WebSocket has such frames"),
        Some(FrameError::TooBig { len, max }) => {
            assert!(claimed == Some(*len) && *max == max_payload && *len as usize > max_payload);
        }
    }
}
