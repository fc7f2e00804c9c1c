//! WebSocket (RFC 6455) as a gateway hears and speaks it: a message becomes a frame of this protocol, and a frame a message
//! (protocol §1).
//!
//! Heads are read and written by tungstenite. Its own stream is not used: it reserves what a head claims, copies what it
//! sends, and answers pings without the bounds of a client's queue.

use std::io::Cursor;

use bytes::{Buf as _, Bytes, BytesMut};
use tungstenite::Error;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::close::CloseReason;
use crate::frame::{self, Frame, FrameError, Opcode};

/// Longest head of a frame that a client sends: two bytes, a length of eight and the mask (RFC 6455 section 5.2).
const MAX_HEAD: usize = 14;

/// Longest head of a frame that a gateway sends: it has no mask.
const MAX_OWN_HEAD: usize = MAX_HEAD - 4;

/// Longest payload of a control frame, bytes (RFC 6455 section 5.5).
const MAX_CONTROL: usize = 125;

/// Frames of one message. Clients that fragment do so by the kilobyte; heads alone must not be a way to send without end.
const MAX_FRAGMENTS: usize = 4096;

/// The code of an orderly end (RFC 6455 section 7.4.1).
const NORMAL: u16 = 1000;

/// Cuts what a client sends into the frames of this protocol.
///
/// Like [`FrameDecoder`](frame::FrameDecoder) it is fed with [`push`](Self::push), and
/// [`next_frame`](Self::next_frame) is called until it returns `None`. A control frame between the fragments of a message
/// comes out before that message. It holds at most the bytes that were pushed plus 8 KiB.
#[derive(Debug)]
pub struct MessageDecoder {
    max_payload: usize,
    /// What arrived last and was not cut yet.
    chunk: BytesMut,
    /// A head whose end has not arrived.
    head: ([u8; MAX_HEAD], usize),
    /// The frame whose payload is arriving.
    current: Option<Incoming>,
    /// What has arrived of a message in parts, unmasked.
    message: Vec<u8>,
    /// Frames of that message; 0: none has begun.
    fragments: usize,
    /// What has arrived of a control frame, unmasked.
    control: Vec<u8>,
    /// Bytes of the heads of what is given out next.
    overhead: usize,
    /// The same of the message in parts.
    message_overhead: usize,
}

/// A frame whose head has arrived.
#[derive(Debug, Clone, Copy)]
struct Incoming {
    opcode: Opcode,
    is_final: bool,
    mask: [u8; 4],
    /// Bytes of the payload that have not arrived.
    left: usize,
}

impl MessageDecoder {
    /// A decoder that refuses messages above `max_payload` bytes.
    pub fn new(max_payload: usize) -> Self {
        Self {
            max_payload,
            chunk: BytesMut::new(),
            head: ([0; MAX_HEAD], 0),
            current: None,
            message: Vec::new(),
            fragments: 0,
            control: Vec::new(),
            overhead: 0,
            message_overhead: 0,
        }
    }

    /// Changes the limit for frames not yet begun (it rises at login).
    pub fn set_max_payload(&mut self, max_payload: usize) {
        self.max_payload = max_payload;
    }

    /// Appends bytes that arrived.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            // Nobody else has them, so this copies nothing.
            self.chunk = chunk.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        } else {
            self.chunk.extend_from_slice(&chunk);
        }
    }

    /// Returns `true` if a frame or a message has begun that is not complete.
    pub fn is_mid_frame(&self) -> bool {
        self.head.1 > 0 || self.current.is_some() || self.is_mid_message() || !self.chunk.is_empty()
    }

    /// Returns `true` if a message has begun whose last fragment has not been taken. What came between its fragments ends
    /// nothing.
    pub const fn is_mid_message(&self) -> bool {
        self.fragments > 0
    }

    /// Bytes held, for accounting and tests.
    pub fn buffered(&self) -> usize {
        self.message.capacity() + self.control.capacity() + self.chunk.len()
    }

    /// Bytes of the heads of the frame that was taken last.
    pub const fn overhead(&self) -> usize {
        self.overhead
    }

    /// The next whole message or control frame, or `None` while its end is missing.
    ///
    /// # Errors
    /// [`FrameError`] as soon as a head shows that the peer does not speak this protocol; the decoder must not be used
    /// afterwards.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let Some(frame) =
                self.current.take().map_or_else(|| self.next_head(), |frame| Ok(Some(frame)))?
            else {
                return Ok(None);
            };
            if self.is_whole(frame) {
                return self.take_whole(frame).map(Some);
            }
            if !self.take_part(frame) {
                return Ok(None);
            }
            if frame.opcode.is_control() {
                let payload = std::mem::take(&mut self.control).into();
                return checked(frame.opcode, payload).map(Some);
            }
            if frame.is_final {
                self.fragments = 0;
                self.overhead = std::mem::take(&mut self.message_overhead);
                let payload = std::mem::take(&mut self.message).into();
                return Ok(Some(Frame { opcode: Opcode::Binary, payload }));
            }
        }
    }

    /// The common case: the frame lies in the chunk with all of its message.
    fn is_whole(&self, frame: Incoming) -> bool {
        let alone = if frame.opcode.is_control() {
            self.control.is_empty()
        } else {
            frame.is_final && self.fragments == 1 && self.message.is_empty()
        };
        alone && self.chunk.len() >= frame.left
    }

    /// Slices it out of the chunk, unmasked where it lies.
    fn take_whole(&mut self, frame: Incoming) -> Result<Frame, FrameError> {
        let mut payload = if self.chunk.len() == frame.left {
            std::mem::take(&mut self.chunk)
        } else {
            self.chunk.split_to(frame.left)
        };
        unmask(&mut payload, frame.mask);
        if !frame.opcode.is_control() {
            self.fragments = 0;
            self.overhead = std::mem::take(&mut self.message_overhead);
        }
        checked(frame.opcode, payload.freeze())
    }

    /// Moves what has arrived of the payload behind what came before; `true` if that is all of it.
    fn take_part(&mut self, mut frame: Incoming) -> bool {
        let taken = frame.left.min(self.chunk.len());
        let is_control = frame.opcode.is_control();
        let kept = if is_control { &mut self.control } else { &mut self.message };
        // Behind a fragment comes more: a step for each of them would copy the message as often.
        let is_last = is_control || frame.is_final;
        let most =
            if is_last { frame.left } else { self.max_payload.saturating_sub(kept.len()).max(frame.left) };
        frame::make_room(kept, taken, most);
        let from = kept.len();
        kept.extend_from_slice(&self.chunk[..taken]);
        unmask(&mut kept[from..], frame.mask);
        self.chunk.advance(taken);
        if self.chunk.is_empty() {
            // An empty slice would keep the whole read alive until the next one.
            self.chunk = BytesMut::new();
        }
        frame.left -= taken;
        frame.mask.rotate_left(taken % 4);
        self.current = (frame.left > 0).then_some(frame);
        frame.left == 0
    }

    /// Reads a head once all of it is there.
    fn next_head(&mut self) -> Result<Option<Incoming>, FrameError> {
        let (kept, had) = (self.head.0, self.head.1);
        let fresh = (MAX_HEAD - had).min(self.chunk.len());
        let mut bytes = kept;
        bytes[had..had + fresh].copy_from_slice(&self.chunk[..fresh]);
        let mut cursor = Cursor::new(&bytes[..had + fresh]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|error| bad_head(&error))?;
        let Some((head, len)) = parsed else {
            // Less than a head, so this is all there is.
            self.head = (bytes, had + fresh);
            self.chunk = BytesMut::new();
            return Ok(None);
        };
        let read = usize::try_from(cursor.position()).unwrap_or(MAX_HEAD);
        self.chunk.advance(read - had);
        self.head.1 = 0;
        self.check_head(&head, len, read).map(Some)
    }

    fn check_head(&mut self, head: &FrameHeader, len: u64, read: usize) -> Result<Incoming, FrameError> {
        if head.rsv1 || head.rsv2 || head.rsv3 {
            return Err(FrameError::Malformed("a reserved bit is set"));
        }
        let Some(mask) = head.mask else { return Err(FrameError::Malformed("it is not masked")) };
        if head.len(len) != read {
            return Err(FrameError::Malformed("its length is not in the shortest form"));
        }
        let opcode = match head.opcode {
            OpCode::Control(control) => {
                if !head.is_final || len > MAX_CONTROL as u64 {
                    return Err(FrameError::Malformed("a control frame is fragmented or too long"));
                }
                self.overhead = read;
                match control {
                    Control::Close => Opcode::Close,
                    Control::Ping => Opcode::Ping,
                    Control::Pong | Control::Reserved(_) => Opcode::Pong,
                }
            }
            OpCode::Data(data) => self.check_data(data, len, read)?,
        };
        // Both are bounded, far below `usize`.
        let left = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(Incoming { opcode, is_final: head.is_final, mask, left })
    }

    fn check_data(&mut self, data: Data, len: u64, read: usize) -> Result<Opcode, FrameError> {
        match data {
            Data::Continue if !self.is_mid_message() => {
                return Err(FrameError::Malformed("a continuation of nothing"));
            }
            Data::Continue => {}
            _ if self.is_mid_message() => {
                return Err(FrameError::Malformed("a message within another one"));
            }
            Data::Binary => {}
            // What it says, and whether that is UTF-8, does not matter.
            Data::Text | Data::Reserved(_) => return Err(FrameError::BadOpcode(Opcode::Text as u8)),
        }
        self.fragments += 1;
        self.message_overhead += read;
        let total = (self.message.len() as u64).saturating_add(len);
        if total > self.max_payload as u64 || self.fragments > MAX_FRAGMENTS {
            let len = u32::try_from(total).unwrap_or(u32::MAX);
            return Err(FrameError::TooBig { len, max: self.max_payload });
        }
        Ok(Opcode::Binary)
    }
}

fn bad_head(error: &Error) -> FrameError {
    match error {
        Error::Protocol(ProtocolError::InvalidOpcode(opcode)) => FrameError::BadOpcode(*opcode),
        _ => FrameError::Malformed("its head cannot be read"),
    }
}

/// A whole frame; a close frame must be one of RFC 6455 section 5.5.1.
fn checked(opcode: Opcode, payload: Bytes) -> Result<Frame, FrameError> {
    if opcode == Opcode::Close {
        let is_valid = match &payload[..] {
            [] => true,
            [_] => false,
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                CloseCode::from(code).is_allowed() && std::str::from_utf8(reason).is_ok()
            }
        };
        if !is_valid {
            return Err(FrameError::Malformed("a close frame without a valid code or text"));
        }
    }
    Ok(Frame { opcode, payload })
}

/// Takes the mask off, or puts it on (RFC 6455 section 5.3).
pub fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = bytes.chunks_exact_mut(8);
    for eight in &mut words {
        // Always eight.
        if let Ok(masked) = <[u8; 8]>::try_from(&*eight) {
            eight.copy_from_slice(&(u64::from_ne_bytes(masked) ^ word).to_ne_bytes());
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

/// Why a session ends whose client sent this valid close frame: 1002 and the like say that the client could not go on; every
/// other code, or none, is an orderly end.
pub fn reason_of_close(payload: &[u8]) -> CloseReason {
    let code = payload.first_chunk::<2>().map_or(NORMAL, |code| u16::from_be_bytes(*code));
    if matches!(code, NORMAL | 1001 | 3000..) { CloseReason::Bye } else { CloseReason::PeerClosed }
}

/// The close frame for a reason, whole; the answer to a client's own for one that has no code or is *bye* (protocol §8).
pub fn encode_close(reason: CloseReason) -> Bytes {
    let code = reason.code().filter(|code| *code != 0);
    let payload = code.map_or_else(|| NORMAL.to_be_bytes().to_vec().into(), |_| reason.payload());
    let mut whole = OwnHead::new(Opcode::Close, payload.len()).as_ref().to_vec();
    whole.extend_from_slice(&payload);
    whole.into()
}

/// The head of an unfragmented frame of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnHead {
    bytes: [u8; MAX_OWN_HEAD],
    from: u8,
    to: u8,
}

impl OwnHead {
    /// No head, or one that was written.
    pub const NONE: Self = Self { bytes: [0; MAX_OWN_HEAD], from: 0, to: 0 };

    /// For a payload of `len` bytes.
    pub fn new(opcode: Opcode, len: usize) -> Self {
        let head = FrameHeader { opcode: OpCode::from(opcode as u8), ..FrameHeader::default() };
        let mut bytes = [0; MAX_OWN_HEAD];
        let mut rest = &mut bytes[..];
        head.format(len as u64, &mut rest).expect("no head is longer");
        let left = rest.len();
        Self { bytes, from: 0, to: (MAX_OWN_HEAD - left) as u8 }
    }

    /// For a frame of this protocol, of which nothing was written yet.
    pub fn of_frame(head: &[u8]) -> Option<Self> {
        let [opcode, len @ ..] = head.first_chunk::<{ frame::HEAD_LEN }>()?;
        Some(Self::new(Opcode::from_byte(*opcode)?, usize::try_from(u32::from_be_bytes(*len)).ok()?))
    }

    /// So many bytes of it were written.
    pub fn advance(&mut self, written: usize) {
        self.from += (written.min(self.as_ref().len())) as u8;
    }
}

impl AsRef<[u8]> for OwnHead {
    /// What is not written yet.
    fn as_ref(&self) -> &[u8] {
        &self.bytes[usize::from(self.from)..usize::from(self.to)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use rstest::rstest;

    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// What a decoder may hold beyond the bytes that arrived and were not handed out: a step of a message, and a control frame.
    const SLACK: usize = 8 * 1024 + MAX_CONTROL;

    /// A frame as a client sends it; heads are written out by hand.
    fn sent(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..126 => bytes.push(0x80 | len as u8),
            len @ 126..0x1_0000 => {
                bytes.push(0x80 | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(0x80 | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.into_iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    /// A message in fragments, between which pings stand.
    #[derive(Debug, Clone)]
    struct SentMessage {
        fragments: Vec<Vec<u8>>,
        pings: Vec<Option<Vec<u8>>>,
    }

    impl SentMessage {
        fn bytes(&self) -> Vec<u8> {
            let mut bytes = Vec::new();
            let last = self.fragments.len() - 1;
            for (n, fragment) in self.fragments.iter().enumerate() {
                let first = if n == 0 { 0x02 } else { 0x00 } | if n == last { 0x80 } else { 0 };
                bytes.extend(sent(first, fragment));
                if let Some(Some(ping)) = self.pings.get(n) {
                    bytes.extend(sent(0x89, ping));
                }
            }
            bytes
        }

        /// What comes out, in order.
        fn frames(&self) -> Vec<Frame> {
            let last = self.fragments.len() - 1;
            let ping = |n: usize| self.pings.get(n).cloned().flatten();
            let ping = |n| ping(n).map(|payload| Frame { opcode: Opcode::Ping, payload: payload.into() });
            let whole = Frame { opcode: Opcode::Binary, payload: self.fragments.concat().into() };
            (0..last).filter_map(ping).chain([whole]).chain(ping(last)).collect()
        }
    }

    fn any_message() -> impl Strategy<Value = SentMessage> {
        let fragment = prop_oneof![
            8 => vec(any::<u8>(), 0..200),
            1 => (4000..20_000usize, any::<u8>()).prop_map(|(len, fill)| vec![fill; len]),
        ];
        let pings = vec(proptest::option::of(vec(any::<u8>(), 0..=MAX_CONTROL)), 0..4);
        (vec(fragment, 1..4), pings).prop_map(|(fragments, pings)| SentMessage { fragments, pings })
    }

    /// Pushes these pieces; what came out until an error did.
    fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
        let mut decoder = MessageDecoder::new(64 * 1024);
        let (mut frames, mut held) = (Vec::new(), 0);
        for piece in pieces {
            decoder.push(Bytes::copy_from_slice(piece));
            held += piece.len();
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => {
                        held -= decoder.overhead() + frame.payload.len();
                        frames.push(frame);
                    }
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
                assert!(decoder.buffered() <= held + SLACK, "{} for {held}", decoder.buffered());
            }
            assert!(decoder.buffered() <= held + SLACK, "{} for {held}", decoder.buffered());
            assert_eq!(decoder.is_mid_frame(), held > 0);
        }
        (frames, None)
    }

    proptest! {
        #[test]
        fn a19_messages_come_out_however_they_are_cut(messages in vec(any_message(), 0..4), cuts in vec(any::<Index>(), 0..8)) {
            let stream: Vec<u8> = messages.iter().flat_map(SentMessage::bytes).collect();
            let expected: Vec<Frame> = messages.iter().flat_map(SentMessage::frames).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]);
            prop_assert_eq!(decoded(pieces), (expected, None));
        }

        #[test]
        fn a_mask_is_taken_off_wherever_it_begins(bytes in vec(any::<u8>(), 0..100), mask: [u8; 4]) {
            let expected: Vec<u8> = bytes.iter().zip(mask.into_iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            let mut masked = bytes;
            unmask(&mut masked, mask);
            prop_assert_eq!(masked, expected);
        }
    }

    /// Every byte of which the reading begins anew, in heads, masks and payloads.
    #[test]
    fn one_stream_is_cut_at_every_byte() {
        let message = SentMessage {
            fragments: vec![vec![b'a'; 130], Vec::new(), vec![b'b'; 300]],
            pings: vec![Some(b"between".to_vec()), None, Some(Vec::new())],
        };
        let stream = [message.bytes(), sent(0x82, &[b'c'; 500]), sent(0x88, b"\x03\xe8bye")].concat();
        let whole = decoded([&stream[..]]);
        assert_eq!((whole.0.len(), whole.1), (5, None));
        for cut in 1..stream.len() {
            assert_eq!(decoded([&stream[..cut], &stream[cut..]]), whole, "{cut}");
        }
        assert_eq!(decoded(stream.chunks(1)), whole);

        // With a length of eight bytes, in the head and in the beginning of the payload.
        let stream = sent(0x82, &vec![b'd'; 64 * 1024]);
        for cut in 1..20 {
            assert_eq!(decoded([&stream[..cut], &stream[cut..]]), decoded([&stream[..]]), "{cut}");
        }
    }

    #[rstest]
    #[case::reserved_bit(&sent(0xc2, b""), FrameError::Malformed("a reserved bit is set"))]
    #[case::no_mask(b"\x82\0", FrameError::Malformed("it is not masked"))]
    #[case::not_the_shortest_of_two(
        b"\x82\xfe\0\x7d\0\0\0\0",
        FrameError::Malformed("its length is not in the shortest form")
    )]
    #[case::not_the_shortest_of_eight(
        b"\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0",
        FrameError::Malformed("its length is not in the shortest form")
    )]
    #[case::reserved_opcode(&sent(0x83, b""), FrameError::BadOpcode(3))]
    #[case::reserved_control(&sent(0x8b, b""), FrameError::BadOpcode(11))]
    #[case::text(&sent(0x81, b""), FrameError::BadOpcode(1))]
    #[case::too_big(b"\x82\xff\0\0\0\0\0\x01\0\x01\0\0\0\0", FrameError::TooBig { len: 65_537, max: 65_536 })]
    #[case::far_too_big(
        b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
        FrameError::TooBig { len: u32::MAX, max: 65_536 }
    )]
    #[case::a_message_in_another(&[sent(0x02, b""), sent(0x82, b"")].concat(), FrameError::Malformed("a message within another one"))]
    #[case::nothing_to_continue(&sent(0x80, b""), FrameError::Malformed("a continuation of nothing"))]
    #[case::control_in_parts(&sent(0x09, b""), FrameError::Malformed("a control frame is fragmented or too long"))]
    #[case::control_too_long(&sent(0x8a, &[0; 126])[..8], FrameError::Malformed("a control frame is fragmented or too long"))]
    #[case::half_a_code(&sent(0x88, b"\x03"), FrameError::Malformed("a close frame without a valid code or text"))]
    #[case::no_code(&sent(0x88, b"\x03\xed"), FrameError::Malformed("a close frame without a valid code or text"))]
    #[case::no_text(&sent(0x88, b"\x03\xe8\xff"), FrameError::Malformed("a close frame without a valid code or text"))]
    fn a18_what_no_client_may_send_is_refused(#[case] bytes: &[u8], #[case] error: FrameError) {
        assert_eq!(decoded([bytes]), (Vec::new(), Some(error)));
        assert_eq!(decoded(bytes.chunks(1)), (Vec::new(), Some(error)));
    }

    #[test]
    fn a19_a_message_may_have_so_many_fragments_and_no_more() {
        let beginning = [sent(0x02, b""), sent(0x00, b"").repeat(MAX_FRAGMENTS - 2)].concat();
        let whole = decoded([&[&beginning[..], &sent(0x80, b"x")].concat()[..]]);
        assert_eq!(whole, (vec![Frame { opcode: Opcode::Binary, payload: Bytes::from_static(b"x") }], None));
        let error = FrameError::TooBig { len: 0, max: 64 * 1024 };
        assert_eq!(
            decoded([&[&beginning[..], &sent(0x00, b"").repeat(2)].concat()[..]]),
            (Vec::new(), Some(error))
        );
    }

    /// The sum of the fragments counts, and the limit of a message is the one at its head.
    #[test]
    fn the_limit_is_that_of_the_message() {
        let mut decoder = MessageDecoder::new(100);
        decoder.push([sent(0x02, &[0; 60]), sent(0x80, &[0; 41])].concat().into());
        assert_eq!(decoder.next_frame(), Err(FrameError::TooBig { len: 101, max: 100 }));
        let mut decoder = MessageDecoder::new(100);
        decoder.set_max_payload(101);
        decoder.push([sent(0x02, &[0; 60]), sent(0x80, &[0; 41])].concat().into());
        assert_eq!(decoder.next_frame().unwrap().unwrap().payload.len(), 101);
        assert_eq!(decoder.overhead(), 6 + 6, "both heads");
    }

    #[rstest]
    #[case(0, b"\x82\x00")]
    #[case(125, b"\x82\x7d")]
    #[case(126, b"\x82\x7e\x00\x7e")]
    #[case(65_535, b"\x82\x7e\xff\xff")]
    #[case(65_536, b"\x82\x7f\0\0\0\0\0\x01\0\0")]
    fn heads_are_in_the_shortest_form(#[case] len: usize, #[case] bytes: &[u8]) {
        let mut head = OwnHead::new(Opcode::Binary, len);
        assert_eq!(head.as_ref(), bytes);
        assert_eq!(OwnHead::of_frame(&frame::head(Opcode::Binary, len)), Some(head));
        for written in 1..=bytes.len() {
            head.advance(1);
            assert_eq!(head.as_ref(), &bytes[written..]);
        }
        head.advance(1);
        assert!(head.as_ref().is_empty());
    }

    #[test]
    fn a_close_has_our_code_or_that_of_an_orderly_end() {
        assert_eq!(&encode_close(CloseReason::Kicked)[..], b"\x88\x08\x0d\xadkicked");
        for reason in [CloseReason::Bye, CloseReason::PeerClosed, CloseReason::PeerLost] {
            assert_eq!(&encode_close(reason)[..], b"\x88\x02\x03\xe8");
        }
    }

    #[rstest]
    #[case(b"", CloseReason::Bye)]
    #[case(b"\x03\xe8", CloseReason::Bye)]
    #[case(b"\x03\xe9", CloseReason::Bye)]
    #[case(b"\x03\xea", CloseReason::PeerClosed)]
    #[case(b"\x0b\xb8", CloseReason::Bye)]
    fn codes_of_clients_say_why_they_go(#[case] payload: &[u8], #[case] reason: CloseReason) {
        assert_eq!(reason_of_close(payload), reason);
    }
}
