//! The queues of one connection: frames by stream, and what their sums are. No metrics, no wakers.

use std::collections::VecDeque;

use crate::wire::packet::Encoded;

/// Places an empty queue keeps for the next messages.
const KEPT_PLACES: usize = 16;

/// A stream of one connection, numbered in the order of its opening; TCP has only [`StreamId::LOGIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamId(pub(crate) u32);

impl StreamId {
    /// QUIC stream 0, or the TCP connection.
    pub(crate) const LOGIN: Self = Self(0);
    /// The unidirectional stream for pushes.
    pub(crate) const PUSH: Self = Self(u32::MAX);
}

/// What a queued frame is: it decides whose budget it takes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A response or a frame of the gateway's own.
    Reply,
    /// The response that opens the channel: pushes follow it.
    Login,
    /// A push: lost ones are counted.
    Push,
}

/// Why nothing was enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The writer had no turn since the queue filled: let it have one and try again. Pushes only.
    TryAgain,
    /// It had: the client is slow, and its channel is closing now. Pushes only.
    Slow,
    /// The channel is closing; nothing more is taken.
    Closing,
    /// The stream is gone.
    Gone,
}

/// Messages and their bytes: what is queued, or how much may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Amount {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Amount {
    const fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    const fn remove(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes;
    }

    const fn minus(self, other: Self) -> Self {
        Self { messages: self.messages - other.messages, bytes: self.bytes - other.bytes }
    }
}

#[derive(Debug)]
pub(super) struct Queued {
    frame: Encoded,
    kind: Kind,
    /// What is not written of it.
    bytes: usize,
    /// A part of it is written: its stream can carry nothing else before the rest.
    pub(super) has_begun: bool,
}

#[derive(Debug)]
struct StreamQueue {
    id: StreamId,
    queue: VecDeque<Queued>,
    /// Its replies.
    replies: Amount,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queues {
    streams: Vec<StreamQueue>,
    /// What came before the channel was open and goes where pushes go (row B22).
    parked: VecDeque<Queued>,
    /// Where pushes go once the channel is open.
    push_stream: Option<StreamId>,
    /// Whether the login response was handed to the transport.
    pub(super) login_written: bool,
    /// All there is.
    pub(super) all: Amount,
    /// The pushes; bytes of those behind the oldest one only. A push of any size can be delivered alone, and what it
    /// takes is no sign of a slow client.
    pushes: Amount,
    /// The writer's turn during which the pushes were first found at their hard bound.
    full_in_poll: Option<u64>,
    /// Turns the writer has had.
    pub(super) polls: u64,
    /// Pushes that were dropped unwritten.
    dropped_pushes: u64,
    /// A push was refused or dropped: none may follow it (G2).
    pub(super) has_gap: bool,
    /// A frame was dropped after it had begun: nothing that follows on its stream could be read.
    pub(super) is_torn: bool,
}

impl Queues {
    pub(super) fn add_stream(&mut self, id: StreamId) {
        if self.streams.is_empty() {
            // Most connections have one for all of their life.
            self.streams.reserve_exact(1);
        }
        self.streams.push(StreamQueue { id, queue: VecDeque::new(), replies: Amount::default() });
    }

    /// Returns what was queued for the stream and is lost.
    pub(super) fn remove_stream(&mut self, id: StreamId) -> Amount {
        let Some(position) = self.streams.iter().position(|stream| stream.id == id) else {
            return Amount::default();
        };
        let before = self.all;
        for lost in self.streams.remove(position).queue {
            self.all.remove(lost.bytes);
        }
        if self.push_stream == Some(id) {
            self.pushes = Amount::default();
        }
        before.minus(self.all)
    }

    pub(super) fn stream_count(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn stream_at(&self, position: usize) -> Option<StreamId> {
        self.streams.get(position).map(|stream| stream.id)
    }

    fn stream(&self, id: StreamId) -> Option<&StreamQueue> {
        self.streams.iter().find(|stream| stream.id == id)
    }

    fn stream_mut(&mut self, id: StreamId) -> Option<&mut StreamQueue> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    /// Returns `true` if nothing is queued for the stream.
    pub(super) fn is_stream_empty(&self, id: StreamId) -> bool {
        self.stream(id).is_none_or(|stream| stream.queue.is_empty())
    }

    /// Returns `true` if nothing is queued for any stream.
    pub(super) fn is_empty(&self) -> bool {
        self.streams.iter().all(|stream| stream.queue.is_empty())
    }

    /// The frames of a stream, the first of them perhaps in part.
    pub(super) fn frames(&self, id: StreamId) -> impl Iterator<Item = &Encoded> {
        self.stream(id).into_iter().flat_map(|stream| stream.queue.iter().map(|queued| &queued.frame))
    }

    /// Pushes go to this stream from now on, the parked ones first.
    pub(super) fn set_push_stream(&mut self, id: StreamId) {
        let parked = std::mem::take(&mut self.parked);
        self.push_stream = Some(id);
        if let Some(stream) = self.stream_mut(id) {
            for queued in parked {
                if queued.kind != Kind::Push {
                    stream.replies.add(queued.bytes);
                }
                stream.queue.push_back(queued);
            }
        }
    }

    /// Queues a frame, without a stream where pushes go.
    ///
    /// # Errors
    /// [`Full::Gone`].
    pub(super) fn put(&mut self, stream: Option<StreamId>, frame: Encoded, kind: Kind) -> Result<(), Full> {
        let bytes = frame.len();
        let queued = Queued { frame, kind, bytes, has_begun: false };
        match stream.or(self.push_stream) {
            None => self.parked.push_back(queued),
            Some(id) => {
                let stream = self.stream_mut(id).ok_or(Full::Gone)?;
                if stream.queue.capacity() == 0 {
                    // An idle client has had one answer, and may never have more than one at a time.
                    stream.queue.reserve_exact(1);
                }
                stream.queue.push_back(queued);
                if kind != Kind::Push {
                    stream.replies.add(bytes);
                }
            }
        }
        if kind == Kind::Push {
            let is_alone = self.pushes.messages == 0;
            self.pushes.add(if is_alone { 0 } else { bytes });
        }
        self.all.add(bytes);
        Ok(())
    }

    /// `written` bytes of a stream's queue are on their way. Returns what that frees, and how many pushes are
    /// complete.
    pub(super) fn advance(&mut self, id: StreamId, mut written: usize) -> (Amount, u64) {
        let (mut gone, mut pushes) = (Amount { messages: 0, bytes: written }, 0);
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) else {
            return Default::default();
        };
        while let Some(front) = stream.queue.front_mut() {
            let taken = front.frame.advance(written);
            written -= taken;
            front.bytes -= taken;
            front.has_begun |= taken > 0;
            if front.kind != Kind::Push {
                stream.replies.bytes -= taken;
            }
            if !front.frame.is_empty() {
                break;
            }
            gone.messages += 1;
            let kind = front.kind;
            stream.queue.pop_front();
            if kind == Kind::Push {
                pushes += 1;
                self.pushes.remove(oldest_push(&stream.queue));
            } else {
                stream.replies.messages -= 1;
                self.login_written |= kind == Kind::Login;
            }
        }
        if stream.queue.is_empty() && stream.queue.capacity() > KEPT_PLACES {
            // A burst is over: an idle channel keeps little.
            stream.queue = VecDeque::new();
        }
        self.all = self.all.minus(gone);
        (gone, pushes)
    }

    /// Drops frames; returns what that frees.
    pub(super) fn discard(&mut self, is_dropped: impl Fn(&Queued) -> bool) -> Amount {
        let before = self.all;
        let Self { streams, parked, all, pushes, dropped_pushes, has_gap, is_torn, .. } = self;
        let mut discard_from = |queue: &mut VecDeque<Queued>, replies: Option<&mut Amount>| {
            let mut dropped = Amount::default();
            queue.retain(|queued| {
                if !is_dropped(queued) {
                    return true;
                }
                all.remove(queued.bytes);
                *is_torn |= queued.has_begun;
                if queued.kind == Kind::Push {
                    *dropped_pushes += 1;
                    *has_gap = true;
                    pushes.messages -= 1;
                } else {
                    dropped.add(queued.bytes);
                }
                false
            });
            queue.shrink_to_fit();
            if let Some(replies) = replies {
                *replies = replies.minus(dropped);
            }
        };
        for stream in streams {
            discard_from(&mut stream.queue, Some(&mut stream.replies));
        }
        discard_from(parked, None);
        // At most the oldest has begun, and nothing is behind it now.
        pushes.bytes = 0;
        before.minus(self.all)
    }

    /// Returns `true` if the pushes have room for one more. One that is alone has, whatever its size.
    pub(super) fn check_room(&mut self, bytes: usize, hard: Amount) -> Result<(), Full> {
        let fits =
            self.pushes.messages < hard.messages && self.pushes.bytes.saturating_add(bytes) <= hard.bytes;
        if fits || self.pushes.messages == 0 {
            self.full_in_poll = None;
            return Ok(());
        }
        match self.full_in_poll {
            Some(poll) if poll < self.polls => {
                self.has_gap = true;
                Err(Full::Slow)
            }
            Some(_) => Err(Full::TryAgain),
            None => {
                self.full_in_poll = Some(self.polls);
                Err(Full::TryAgain)
            }
        }
    }

    /// Returns `true` if the replies of a stream are fewer than this.
    pub(super) fn has_room(&self, id: StreamId, soft: Amount) -> bool {
        let is_below = |stream: &StreamQueue| {
            stream.replies.messages < soft.messages && stream.replies.bytes < soft.bytes
        };
        self.stream(id).is_none_or(is_below)
    }

    /// See [`Outgoing::is_over_soft_bound`](super::Outgoing::is_over_soft_bound).
    pub(super) fn is_over(&self, soft: Amount) -> bool {
        let is_over = self.pushes.messages > soft.messages || self.pushes.bytes > soft.bytes;
        let front = || self.stream(self.push_stream?)?.queue.front();
        is_over && front().is_some_and(|front| front.kind == Kind::Push)
    }

    /// Pushes that are queued or were dropped.
    pub(super) fn unwritten_pushes(&self) -> u64 {
        self.dropped_pushes
            + self
                .streams
                .iter()
                .flat_map(|stream| &stream.queue)
                .chain(&self.parked)
                .filter(|queued| queued.kind == Kind::Push)
                .count() as u64
    }
}

/// Bytes of the oldest push; only replies are looked at on the way, each of them once in its life.
fn oldest_push(queue: &VecDeque<Queued>) -> usize {
    queue.iter().find(|queued| queued.kind == Kind::Push).map_or(0, |queued| queued.bytes)
}
