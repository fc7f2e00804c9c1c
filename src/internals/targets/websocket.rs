//! WebSocket: however a stream is cut into reads, the same frames and the same refusal come out as of one who has all of it, and
//! what is held is bounded.

use bytes::Bytes;

use super::input::Input;
use crate::wire::frame::{Frame, FrameError, Opcode};
use crate::wire::websocket::{MessageDecoder, OwnHead, encode_close, reason_of_close};

/// What a decoder may hold beyond the bytes that arrived and were not handed out yet.
const SLACK: usize = 8 * 1024 + 125;

/// The bound of a message (a power of two up to 64 KiB), the sizes of the reads, and then the stream.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let max_payload = 1 << (input.byte() % 17);
    let seed = usize::from(input.byte());
    let stream = input.rest();
    let whole = read(max_payload, stream, |_| stream.len().max(1));
    assert_eq!(whole, read(max_payload, stream, |_| 1), "byte by byte");
    assert_eq!(whole, read(max_payload, stream, |number| 1 + seed * number % 97), "in pieces");
    let (frames, refused) = of_all(max_payload, stream);
    assert_eq!((&whole.0, whole.1.is_some()), (&frames, refused));
    for frame in &whole.0 {
        check(frame);
    }
}

/// Feeds the stream in pieces, of which the n-th is so long, and returns what came out.
fn read(
    max_payload: usize,
    stream: &[u8],
    piece: impl Fn(usize) -> usize,
) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = MessageDecoder::new(max_payload);
    let (mut frames, mut pushed, mut consumed) = (Vec::new(), 0, 0);
    for number in 1.. {
        let end = stream.len().min(pushed + piece(number));
        decoder.push(Bytes::copy_from_slice(&stream[pushed..end]));
        pushed = end;
        loop {
            let next = decoder.next_frame();
            match next {
                Ok(Some(frame)) => {
                    consumed += decoder.overhead() + frame.payload.len();
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
            assert!(decoder.buffered() <= pushed - consumed + SLACK, "{} are held", decoder.buffered());
        }
        assert!(decoder.buffered() <= pushed - consumed + SLACK, "{} are held", decoder.buffered());
        assert_eq!(decoder.is_mid_frame(), consumed < pushed);
        if pushed == stream.len() {
            break;
        }
    }
    (frames, None)
}

/// RFC 6455 section 5.2 read in the plainest way: the frames, and whether something is refused behind them.
fn of_all(max_payload: usize, stream: &[u8]) -> (Vec<Frame>, bool) {
    let (mut frames, mut message, mut fragments, mut rest) = (Vec::new(), Vec::new(), 0, stream);
    while let Some(HeadOfFrame { head, len, mask }) = head_of(&mut rest) {
        let (is_final, opcode) = (head[0] & 0x80 != 0, head[0] & 0x0f);
        let is_control = opcode >= 8;
        let is_known = matches!(opcode, 0 | 2 | 8 | 9 | 10);
        let is_shortest = match head[1] & 0x7f {
            126 => len > 125,
            127 => len > 0xffff,
            _ => true,
        };
        let is_in_order = is_control || (opcode == 0) == (fragments > 0);
        let fits = if is_control {
            is_final && len <= 125
        } else {
            message.len() as u128 + len <= max_payload as u128
        };
        fragments += usize::from(!is_control);
        let is_masked = mask.is_some();
        if !(is_known
            && is_shortest
            && is_in_order
            && fits
            && is_masked
            && head[0] & 0x70 == 0
            && fragments <= 4096)
        {
            return (frames, true);
        }
        let (Ok(len), Some(mask)) = (usize::try_from(len), mask) else { return (frames, true) };
        let Some((masked, behind)) = rest.split_at_checked(len) else { break };
        rest = behind;
        let payload = masked.iter().zip(mask.into_iter().cycle()).map(|(byte, key)| byte ^ key);
        if is_control {
            let payload: Bytes = payload.collect();
            let opcode = Opcode::from_byte(opcode).expect("a known one");
            if opcode == Opcode::Close && !is_goodbye(&payload) {
                return (frames, true);
            }
            frames.push(Frame { opcode, payload });
        } else {
            message.extend(payload);
            if is_final {
                frames.push(Frame { opcode: Opcode::Binary, payload: std::mem::take(&mut message).into() });
                fragments = 0;
            }
        }
    }
    (frames, false)
}

struct HeadOfFrame {
    /// The first two bytes.
    head: [u8; 2],
    len: u128,
    mask: Option<[u8; 4]>,
}

/// Takes it off, once all of it is there.
fn head_of(rest: &mut &[u8]) -> Option<HeadOfFrame> {
    let (head, mut behind) = rest.split_first_chunk::<2>()?;
    let extended = match head[1] & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let len;
    (len, behind) = behind.split_at_checked(extended)?;
    let len = if extended == 0 {
        u128::from(head[1] & 0x7f)
    } else {
        len.iter().fold(0, |len, byte| len << 8 | u128::from(*byte))
    };
    let mut mask = None;
    if head[1] & 0x80 != 0 {
        let key;
        (key, behind) = behind.split_at_checked(4)?;
        mask = key.first_chunk().copied();
    }
    *rest = behind;
    Some(HeadOfFrame { head: *head, len, mask })
}

/// Codes that may be sent (RFC 6455 section 7.4) in front of UTF-8, or nothing.
fn is_goodbye(payload: &[u8]) -> bool {
    let Some((code, reason)) = payload.split_first_chunk() else { return payload.is_empty() };
    let is_allowed = matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1013 | 3000..=4999);
    is_allowed && str::from_utf8(reason).is_ok()
}

/// What is done with a frame: a close gives a reason, and any frame a head as we would write it.
fn check(frame: &Frame) {
    let len = frame.payload.len();
    let head = OwnHead::new(frame.opcode, len);
    let expected = if len < 126 {
        2
    } else if len < 1 << 16 {
        4
    } else {
        10
    };
    assert_eq!(head.as_ref().len(), expected);
    assert_eq!(head.as_ref()[0], 0x80 | frame.opcode as u8);
    if frame.opcode == Opcode::Close {
        let answer = encode_close(reason_of_close(&frame.payload));
        assert_eq!(&answer[..], b"\x88\x02\x03\xe8");
    }
}
