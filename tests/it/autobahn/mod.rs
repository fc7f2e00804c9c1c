//! The cases of the Autobahn test suite for servers, by their numbers, against the WebSocket listener.
//!
//! The suite wants a server that echoes any message. Here a message is a request, and the echo is its answer; text is refused
//! whatever it says. So is what the suite wants failed: with 3503, where RFC 6455 has 1002, 1003 and 1007 (protocol §8).

mod closing;
mod framing;
mod limits;

use bytes::Bytes;
use gateway::limits::Limits;
use gateway::wire::frame::{HEAD_LEN, Opcode};

use crate::support::harness::TestGateway;
use crate::support::raw::{Kind, Raw, request};
use crate::support::stream::Seen;
use crate::support::websocket::masked_frame;

const TALK: &str = "chat.user.talk";

/// First bytes of frames: FIN, three reserved bits, opcode.
const BINARY: u8 = 0x82;
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const BEGINNING: u8 = 0x02;
const MIDDLE: u8 = 0x00;
const END: u8 = 0x80;

/// How bytes become writes.
#[derive(Debug, Clone, Copy)]
enum Chop {
    /// All in one.
    None,
    /// A frame in each.
    Frames,
    /// So many bytes in each.
    Bytes(usize),
}

/// What a frame carries.
#[derive(Debug, Clone, Copy)]
enum Carried {
    /// A request with a number of its own.
    Request,
    /// The first or second half of one, or all of the one that was begun last.
    First,
    Second,
    This(&'static [u8]),
}

/// First byte and payload.
type FrameToSend = (u8, Carried);

const MESSAGE: FrameToSend = (BINARY, Carried::Request);

/// A message in fragments of this length.
fn fragments(message: &[u8], len: usize) -> Vec<Vec<u8>> {
    let mut parts = message.chunks(len).peekable();
    let mut first = BEGINNING;
    let mut frames = Vec::new();
    while let Some(part) = parts.next() {
        let end = if parts.peek().is_none() { END } else { 0 };
        frames.push(masked_frame(std::mem::replace(&mut first, MIDDLE) | end, part));
    }
    frames
}

/// Somebody who has signed in over a WebSocket and writes its frames by hand.
struct AutobahnCase {
    harness: TestGateway,
    client: Raw,
    channel: String,
    /// Sequences of the requests that were begun.
    begun: Vec<u32>,
    /// The request that was begun last.
    request: Bytes,
}

impl AutobahnCase {
    async fn start() -> Self {
        Self::with_limits(|_| {}).await
    }

    async fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let harness = TestGateway::with_limits(change).await;
        let (client, channel) = harness.client(Kind::Ws, "alice").await;
        Self { harness, client, channel, begun: Vec::new(), request: Bytes::new() }
    }

    /// A request of so many bytes in all.
    fn request_of(&mut self, len: usize) -> Bytes {
        let sequence = self.client.next_sequence();
        self.begun.push(sequence);
        let header = request(TALK, sequence, "bob");
        // Without the head that a frame has elsewhere.
        let encode = |body: &[u8]| self.client.encode(&header, body).slice(HEAD_LEN..);
        let body: Vec<u8> = (0..len - encode(b"").len()).map(|n| (n % 251) as u8).collect();
        let encoded = encode(&body);
        assert_eq!(encoded.len(), len);
        encoded
    }

    fn frame(&mut self, (first, carried): FrameToSend) -> Vec<u8> {
        if matches!(carried, Carried::Request | Carried::First) {
            self.request = self.request_of(100);
        }
        let payload = match carried {
            Carried::Request => &self.request[..],
            Carried::First => &self.request[..50],
            Carried::Second => &self.request[50..],
            Carried::This(bytes) => bytes,
        };
        masked_frame(first, payload)
    }

    async fn send(&mut self, frames: &[FrameToSend], chop: Chop) {
        let frames: Vec<_> = frames.iter().map(|frame| self.frame(*frame)).collect();
        self.write(&frames, chop).await;
    }

    async fn write(&mut self, frames: &[Vec<u8>], chop: Chop) {
        let whole = frames.concat();
        let pieces: Vec<&[u8]> = match chop {
            Chop::None => vec![&whole],
            Chop::Frames => frames.iter().map(Vec::as_slice).collect(),
            Chop::Bytes(len) => whole.chunks(len).collect(),
        };
        for piece in pieces {
            self.client.write_as_is(0, piece).await;
            tokio::task::yield_now().await;
        }
    }

    /// These pongs come, in their order.
    async fn pongs(&mut self, expected: &[&[u8]]) {
        for pong in expected {
            let payload = self.client.take("a pong", |seen| match seen {
                Seen::Frame(_, frame) if frame.opcode == Opcode::Pong => Some(frame.payload.clone()),
                _ => None,
            });
            assert_eq!(payload.await, pong);
        }
    }

    /// Every request that was begun has reached the service whole, and is answered.
    async fn echoed(&mut self) {
        for (n, sequence) in std::mem::take(&mut self.begun).into_iter().enumerate() {
            let received = self.harness.chat.packet(TALK, n).await;
            assert!(received.body.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8));
            assert_eq!(self.client.response(sequence).await.header.status, 0);
        }
    }

    /// Nothing else came, and the session goes on.
    async fn goes_on(mut self) {
        let sequence = self.client.talk("bob", "still here").await;
        assert_eq!(self.client.response(sequence).await.header.status, 0);
        assert!(self.client.leftovers().is_empty(), "nothing beside what was asked for");
    }

    /// The session ends like this, after so many requests.
    async fn ends(mut self, code: u16, reason: &str, requests: usize) {
        if requests > 0 {
            self.harness.chat.packet(TALK, requests - 1).await;
        }
        self.client.closed_with(code).await;
        assert_eq!(self.harness.login.signout(&self.channel).await.meta("reason"), reason);
        assert_eq!(self.harness.chat.packets(TALK).len(), requests);
        self.harness.serves_a_bystander().await;
    }

    /// The connection fails; what counts this is named.
    async fn fails(self, counter: &str, requests: usize) {
        self.harness.metric_is("gateway_reject_total", &[counter], 1.0).await;
        self.ends(3503, "protocol_error", requests).await;
    }
}
