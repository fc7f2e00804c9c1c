//! A client without sockets: what it sends is put in by hand, and what it gets is kept.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::monitor::metrics;
use crate::server::transport::{CloseDetails, Flushed, Read, Transport, Wrote};
use crate::session::outgoing::StreamId;
use crate::wire::close::CloseReason;
use crate::wire::frame::{Frame, FrameDecoder, Opcode};
use crate::wire::packet::{Encoded, LogicPacket, Packet};

/// How long a test waits for what must come. Nothing that passes takes anything like it.
const PATIENCE: Duration = Duration::from_secs(10);

/// One step of a client on one stream.
pub(super) enum Step {
    Data(Bytes),
    Finish,
    Reset,
    /// The gateway's own code fails here.
    Panic,
}

/// What the gateway did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// One write: its stream, and how many frames it was offered.
    Wrote(StreamId, usize),
    OpenedPushLane,
    Finished(StreamId),
    Reset(StreamId, CloseReason),
    /// With or without a word about the reason.
    Closed(CloseReason, bool),
}

#[derive(Default)]
struct Script {
    opened: VecDeque<StreamId>,
    steps: HashMap<u32, VecDeque<Step>>,
    /// Bytes that the client takes on a stream; no entry: any number.
    room: HashMap<u32, usize>,
    stopped: Vec<StreamId>,
    /// Whether the transport holds something back; no entry: it does not.
    flushed: Option<Flushed>,
    gone: Option<CloseReason>,
    /// None: QUIC.
    kind: Option<metrics::Transport>,
    grants_push_stream: bool,
    written: HashMap<u32, BytesMut>,
    events: Vec<Event>,
    waker: Option<Waker>,
}

/// The client's end. Clones are the same client.
#[derive(Clone, Default)]
pub(super) struct Client {
    script: Rc<RefCell<Script>>,
    changed: Rc<Notify>,
}

/// The gateway's end.
pub(super) struct FakeTransport(Client);

impl Client {
    /// A client with stream 0.
    pub(super) fn connect() -> (Self, FakeTransport) {
        let client = Self::default();
        client.open(StreamId::LOGIN);
        (client.clone(), FakeTransport(client))
    }

    fn change<R>(&self, change: impl FnOnce(&mut Script) -> R) -> R {
        let mut script = self.script.borrow_mut();
        let result = change(&mut script);
        let waker = script.waker.clone();
        drop(script);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    fn note(&self, event: Event) {
        self.script.borrow_mut().events.push(event);
        self.changed.notify_one();
    }

    pub(super) fn open(&self, stream: StreamId) {
        self.change(|script| script.opened.push_back(stream));
    }

    pub(super) fn send(&self, stream: StreamId, data: impl Into<Bytes>) {
        self.step(stream, Step::Data(data.into()));
    }

    pub(super) fn step(&self, stream: StreamId, step: Step) {
        self.change(|script| script.steps.entry(stream.0).or_default().push_back(step));
    }

    /// From now on it takes only so many bytes more of a stream.
    pub(super) fn set_room(&self, stream: StreamId, bytes: usize) {
        self.change(|script| script.room.insert(stream.0, bytes));
    }

    /// From now on this is where what the transport took is.
    pub(super) fn set_flushed(&self, flushed: Flushed) {
        self.change(|script| script.flushed = Some(flushed));
    }

    pub(super) fn stop(&self, stream: StreamId) {
        self.change(|script| script.stopped.push(stream));
    }

    pub(super) fn vanish(&self, reason: CloseReason) {
        self.change(|script| script.gone = Some(reason));
    }

    /// From now on it is on this transport.
    pub(super) fn be(&self, kind: metrics::Transport) {
        self.change(|script| script.kind = Some(kind));
    }

    pub(super) fn grant_push_stream(&self) {
        self.change(|script| script.grants_push_stream = true);
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.script.borrow().events.clone()
    }

    /// How many frames each write to a stream since `from` was offered.
    pub(super) fn writes(&self, stream: StreamId, from: usize) -> Vec<usize> {
        let offered = |event: &Event| match event {
            Event::Wrote(to, frames) if *to == stream => Some(*frames),
            _ => None,
        };
        self.script.borrow().events[from..].iter().filter_map(offered).collect()
    }

    /// The whole frames that came on a stream.
    pub(super) fn frames(&self, stream: StreamId) -> Vec<Frame> {
        let bytes = self.script.borrow().written.get(&stream.0).cloned().unwrap_or_default();
        let mut decoder = FrameDecoder::new(1 << 20);
        decoder.push(bytes.freeze());
        std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
    }

    /// The packets that came on a stream.
    pub(super) fn packets(&self, stream: StreamId) -> Vec<LogicPacket> {
        let frames = self.frames(stream).into_iter().filter(|frame| frame.opcode == Opcode::Binary);
        let packet = |frame: Frame| match Packet::decode(&frame.payload) {
            Ok(Packet::Logic(packet)) => Some(packet),
            _ => None,
        };
        frames.filter_map(packet).collect()
    }

    /// The payloads of the pongs that came on a stream.
    pub(super) fn pongs(&self, stream: StreamId) -> Vec<Bytes> {
        let frames = self.frames(stream).into_iter().filter(|frame| frame.opcode == Opcode::Pong);
        frames.map(|frame| frame.payload).collect()
    }

    pub(super) fn closed(&self) -> Option<(CloseReason, bool)> {
        self.script.borrow().events.iter().find_map(|event| match event {
            Event::Closed(reason, tell) => Some((*reason, *tell)),
            _ => None,
        })
    }

    /// Waits until it has seen what a test is about.
    pub(super) async fn until(&self, what: &str, mut seen: impl FnMut(&Self) -> bool) {
        let waited = timeout(PATIENCE, async {
            while !seen(self) {
                self.changed.notified().await;
            }
        });
        if waited.await.is_err() {
            panic!("not seen: {what}; events: {:?}", self.events());
        }
    }

    pub(super) async fn until_closed(&self) -> (CloseReason, bool) {
        self.until("the close", |client| client.closed().is_some()).await;
        self.closed().unwrap()
    }
}

impl Transport for FakeTransport {
    fn kind(&self) -> metrics::Transport {
        self.0.script.borrow().kind.unwrap_or(metrics::Transport::Quic)
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<StreamId, CloseReason>> {
        let mut script = self.0.script.borrow_mut();
        script.waker = Some(cx.waker().clone());
        script.opened.pop_front().map_or(Poll::Pending, |stream| Poll::Ready(Ok(stream)))
    }

    fn poll_read(&mut self, stream: StreamId, _cx: &mut Context<'_>) -> Poll<Result<Read, CloseReason>> {
        let mut script = self.0.script.borrow_mut();
        if let Some(reason) = script.gone {
            return Poll::Ready(Err(reason));
        }
        let Some(step) = script.steps.get_mut(&stream.0).and_then(VecDeque::pop_front) else {
            return Poll::Pending;
        };
        drop(script);
        Poll::Ready(Ok(match step {
            Step::Data(bytes) => Read::Data(bytes),
            Step::Finish => Read::Finished,
            Step::Reset => Read::Reset,
            Step::Panic => panic!("on purpose"),
        }))
    }

    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.0.script.borrow().gone.map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_write(
        &mut self,
        stream: StreamId,
        frames: &mut dyn Iterator<Item = &Encoded>,
        _cx: &mut Context<'_>,
    ) -> Poll<Result<Wrote, CloseReason>> {
        let mut script = self.0.script.borrow_mut();
        if script.stopped.contains(&stream) {
            return Poll::Ready(Ok(Wrote::Stopped));
        }
        let room = script.room.get(&stream.0).copied().unwrap_or(usize::MAX);
        if room == 0 {
            return Poll::Pending;
        }
        let mut bytes = BytesMut::new();
        let mut offered = 0;
        for frame in frames {
            offered += 1;
            bytes.put(frame.to_bytes());
        }
        bytes.truncate(room);
        let taken = bytes.len();
        if let Some(room) = script.room.get_mut(&stream.0) {
            *room -= taken;
        }
        script.written.entry(stream.0).or_default().extend_from_slice(&bytes);
        drop(script);
        self.0.note(Event::Wrote(stream, offered));
        Poll::Ready(Ok(Wrote::Bytes(taken)))
    }

    fn flush(&mut self, _cx: &mut Context<'_>) -> Result<Flushed, CloseReason> {
        Ok(self.0.script.borrow().flushed.unwrap_or(Flushed::All))
    }

    fn open_push_stream(&mut self, _cx: &mut Context<'_>) -> StreamId {
        if !self.0.script.borrow().grants_push_stream {
            return StreamId::LOGIN;
        }
        self.0.note(Event::OpenedPushLane);
        StreamId::PUSH
    }

    fn finish(&mut self, stream: StreamId) {
        self.0.note(Event::Finished(stream));
    }

    fn reset(&mut self, stream: StreamId, reason: CloseReason) {
        self.0.note(Event::Reset(stream, reason));
    }

    async fn close(self, details: CloseDetails) {
        self.0.note(Event::Closed(details.reason, details.say_why));
    }
}
