//! What the tests of several layers need: counters that can be read, channels, tickets, packets.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;

use crate::limits::Limits;
use crate::monitor::metrics::{Metrics, PushDrop, Reject, Signout, Transport, WorkerMetrics};
use crate::session::channel::{Channel, Identity, Ticket};
use crate::session::connected::ConnectionOrigin;
use crate::session::outgoing::{Outgoing, OutgoingBounds, StreamId};
use crate::session::pending::NewTicket;
use crate::wire::dialect::Dialect;
use crate::wire::frame::HEAD_LEN;
use crate::wire::header::{HeaderLimits, HeaderView};
use crate::wire::packet::{self, Encoded, LogicPacket, Packet};
use crate::wire::pb;
use crate::wire::scanned_header::ScannedHeader;

/// Gauges that would be shown as 0 when they are negative begin here, so that the tests see both signs.
const GAUGE_BASE: i64 = 1_000_000;

/// The metrics of one worker, to be read.
pub(crate) struct TestMetrics {
    pub(crate) metrics: Metrics,
    pub(crate) worker: Arc<WorkerMetrics>,
}

impl TestMetrics {
    pub(crate) fn new() -> Self {
        let metrics = Metrics::new("gate01", 1, vec!["z".to_owned()]);
        let worker = metrics.worker(0);
        worker.queued(GAUGE_BASE, GAUGE_BASE);
        worker.signouts_waiting(GAUGE_BASE);
        for _ in 0..100 {
            worker.pending_opened();
        }
        Self { metrics, worker }
    }

    /// The value of one series, by its exact name and labels.
    pub(crate) fn value(&self, series: &str) -> i64 {
        let text = self.metrics.render();
        let line = text
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))
            .unwrap_or_else(|| panic!("no series {series} in\n{text}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as i64
    }

    /// Messages and bytes in the queues of all clients.
    pub(crate) fn queued(&self) -> (i64, i64) {
        let of = |series| self.value(series) - GAUGE_BASE;
        (of("gateway_queued_messages"), of("gateway_queued_bytes"))
    }

    pub(crate) fn pending(&self) -> i64 {
        self.value("gateway_pending_requests") - 100
    }

    pub(crate) fn signouts_waiting(&self) -> i64 {
        self.value("gateway_signouts_waiting") - GAUGE_BASE
    }

    pub(crate) fn rejects(&self, reason: Reject) -> i64 {
        self.value(&format!("gateway_reject_total{{reason=\"{}\"}}", reason.label()))
    }

    pub(crate) fn signouts(&self, outcome: Signout) -> i64 {
        self.value(&format!("gateway_signouts_total{{outcome=\"{}\"}}", outcome.label()))
    }

    pub(crate) fn push_drops(&self, reason: PushDrop) -> i64 {
        self.value(&format!("gateway_push_drops_total{{reason=\"{}\"}}", reason.label()))
    }

    /// Requests in, forwarded and rejected (G9).
    pub(crate) fn requests(&self) -> (i64, i64, i64) {
        (
            self.value("gateway_requests_received_total"),
            self.value("gateway_requests_forwarded_total"),
            self.value("gateway_requests_rejected_total"),
        )
    }
}

/// Counts how often it was woken.
#[derive(Default)]
pub(crate) struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl CountingWaker {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        (Arc::clone(&bell), bell.into())
    }

    pub(crate) fn rung(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) fn identity(account: &str) -> Identity {
    Identity { app: "x_im".to_owned(), account: account.to_owned() }
}

/// Where a connection comes from, where nothing depends on it.
pub(crate) fn origin() -> ConnectionOrigin {
    let address = IpAddr::from([192, 0, 2, 1]);
    ConnectionOrigin { address, transport: Transport::Tcp, since: Instant::now() }
}

/// The queue of a connection with stream 0.
pub(crate) fn outgoing(test_metrics: &TestMetrics, bounds: OutgoingBounds) -> Rc<Outgoing> {
    let outgoing = Outgoing::new(bounds, Arc::clone(&test_metrics.worker));
    outgoing.add_stream(StreamId::LOGIN);
    Rc::new(outgoing)
}

/// A channel in its opening, with room for much.
pub(crate) fn channel(test_metrics: &TestMetrics, account: &str) -> Rc<Channel> {
    thread_local!(static NEXT: Cell<u64> = const { Cell::new(1) });
    let number = NEXT.replace(NEXT.get() + 1);
    let outgoing = outgoing(test_metrics, OutgoingBounds::of(&Limits::default()));
    Channel::new(format!("g_{account}_{number}").into(), identity(account), Dialect::XIm, outgoing)
}

/// A packet as a client sends it.
pub(crate) fn packet(command: &str, sequence: u32, body: impl Into<Bytes>) -> LogicPacket {
    let header = pb::Header { command: command.to_owned(), sequence, ..pb::Header::default() };
    logic_packet(&packet::encode_message(Dialect::XIm, &header, body))
}

/// The packet in a frame.
pub(crate) fn logic_packet(frame: &Encoded) -> LogicPacket {
    match Packet::decode(&frame.to_bytes().slice(HEAD_LEN..)) {
        Ok(Packet::Logic(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

/// The header of a packet, decoded whole.
pub(crate) fn header(packet: &LogicPacket) -> pb::Header {
    pb::Header::decode(packet.header.clone()).unwrap()
}

/// The value of the last meta with this key.
pub(crate) fn meta(header: &pb::Header, key: &str) -> Option<String> {
    header.meta.iter().rev().find(|meta| meta.key == key).map(|meta| meta.value.clone())
}

/// A ticket for a packet that came on a stream of a channel.
pub(crate) fn ticket_of(
    channel: &Rc<Channel>,
    packet: &LogicPacket,
    stream: StreamId,
    arrived: Instant,
) -> Rc<Ticket> {
    let view = HeaderView::scan(&packet.header, &HeaderLimits::BACKEND).unwrap();
    let is_signin = view.command == "login.signin";
    let header = ScannedHeader::share(&view, &packet.header);
    Ticket::new(channel, NewTicket { stream, header, arrived, is_signin, is_traced: false })
}

/// A ticket of a channel on stream 0.
pub(crate) fn ticket(channel: &Rc<Channel>, command: &str, sequence: u32) -> Rc<Ticket> {
    ticket_of(channel, &packet(command, sequence, ""), StreamId::LOGIN, Instant::now())
}

/// Sequence and status of what is queued on a stream.
pub(crate) fn answers(outgoing: &Outgoing, stream: StreamId) -> Vec<(u32, i32)> {
    outgoing.write_with(stream, |frames| {
        let headers = frames.map(|frame| header(&logic_packet(frame)));
        headers.map(|header| (header.sequence, header.status)).collect()
    })
}

pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
