//! One live connection to a logic instance: writes its queue, reads its packets, pings it (protocol §5).

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tracing::debug;

use crate::dispatch::Dispatch;
use crate::dispatch::inbound::{Delivery, Step};
use crate::dispatch::link::Link;
use crate::dispatch::supervision::{Event, Loss};
use crate::dispatch::trickle::Trickle;
use crate::limits::{
    DELIVERIES_PER_TURN, PRESSURE_LOOK, PUSH_TOO_LARGE_HOLDS, PUSHES_PER_TURN, READ_CHUNK, SLICES_PER_WRITE,
};
use crate::monitor::events::event::{self, Subject};
use crate::monitor::metrics::{PushDrop, Reject};
use crate::session::signouts::SignOuts;
use crate::timer::Timer;
use crate::wire::close::LINK_REPLACED;
use crate::wire::frame::{self, Frame, FrameDecoder, FrameError, Opcode};
use crate::wire::packet::{self, Packet};

/// Longest payload of a ping that is sent back, bytes: what WebSocket allows a control frame (RFC 6455 section 5.5).
const MAX_ECHO: usize = 125;

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    /// A close frame and nothing else came: the service does not want this gateway id.
    Refused,
    /// The service took a newer link with this gateway's id in its place. This gateway made none: another one did.
    Replaced,
    /// A close frame.
    Closed,
    /// The connection ended.
    Eof,
    /// The connection broke.
    Io(String),
    /// No byte in return for so many pings (row E2).
    Silent,
    /// Not one byte after the handshake in that time.
    Mute,
    /// Not a frame (row E4).
    BadFrame(FrameError),
    /// Its instance has left the set, and it owed nothing more or had had its time (row E11).
    Left,
    /// The task that served it panicked: a fault of the gateway (row F10).
    Panicked,
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Replaced => f.write_str("replaced by the link of another gateway with the same id"),
            Self::Closed => f.write_str("closed by the service"),
            Self::Eof => f.write_str("connection ended"),
            Self::Io(error) => write!(f, "connection broke: {error}"),
            Self::Silent => f.write_str("no answer to pings"),
            Self::Mute => f.write_str("no sign of life after the handshake"),
            Self::BadFrame(error) => write!(f, "bad frame: {error}"),
            Self::Left => f.write_str("no longer in the set of instances"),
            Self::Panicked => f.write_str("a fault of the gateway; please report this"),
        }
    }
}

impl LinkEnd {
    /// What it means to supervision.
    fn loss(&self) -> Loss {
        match self {
            Self::Refused => Loss::Refused,
            Self::Replaced | Self::Closed | Self::Eof | Self::Io(_) => Loss::Ended,
            Self::Silent => Loss::Silent,
            Self::Mute => Loss::NotReached,
            Self::BadFrame(_) | Self::Left | Self::Panicked => Loss::Given,
        }
    }
}

impl From<io::Error> for LinkEnd {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// The connection's own state; everything shared is in [`Link`].
pub(crate) struct Traffic {
    stream: TcpStream,
    link: Rc<Link>,
    dispatch: Rc<Dispatch>,
    decoder: FrameDecoder,
    scratch: Box<[u8]>,
    delivery: Option<Delivery>,
    pings: Interval,
    /// When the last byte came: any byte counts as a pong.
    last_byte: Instant,
    silence: Duration,
    trickle: Trickle,
    /// Until when the administrator is told of pushes that were too large.
    oversized_until: Option<Instant>,
    /// Pings wake the task, so it has a turn at least this often unless the worker, or the machine, stands still; and
    /// an instance that is well says something this often.
    two_pings: Duration,
    timer: Timer,
    /// Has any byte come?
    proven: bool,
    /// What supervision is told when it is dropped; before its end, that it panicked.
    loss: Loss,
}

impl Drop for Traffic {
    /// However the connection ends, its instance leaves selection, and nothing of its queue is left for the next one.
    fn drop(&mut self) {
        self.end_oversized();
        self.dispatch.link_lost(&self.link, self.loss, Instant::now());
    }
}

impl Traffic {
    /// Takes over a connection on which hands were shaken.
    pub(crate) fn new(stream: TcpStream, link: Rc<Link>, dispatch: Rc<Dispatch>) -> Self {
        let limits = &dispatch.settings.limits;
        let (now, two_pings) = (Instant::now(), limits.backend_ping * 2);
        let silence = limits.backend_ping * limits.backend_misses;
        let mut pings = interval_at((now + limits.backend_ping).into(), limits.backend_ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let decoder = FrameDecoder::new(limits.backend_max_frame).ignoring_unknown_opcodes();
        link.rest();
        Self {
            stream,
            link,
            dispatch,
            decoder,
            scratch: vec![0; READ_CHUNK].into_boxed_slice(),
            delivery: None,
            pings,
            last_byte: now,
            silence,
            trickle: Trickle::default(),
            oversized_until: None,
            two_pings,
            timer: Timer::new(now + silence),
            proven: false,
            loss: LinkEnd::Panicked.loss(),
        }
    }

    /// Serves the link until it ends.
    pub(crate) async fn run(mut self) -> LinkEnd {
        let end = poll_fn(|cx| self.poll_turn(cx)).await;
        self.loss = end.loss();
        // Dropping `self` takes the instance out of selection before anything else happens.
        end
    }

    /// Reads a bounded amount, writes what can be written, and yields when there is more to read.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        self.link.register(cx);
        while self.pings.poll_tick(cx).is_ready() {
            self.link.enqueue_control(frame::encode(Opcode::Ping, &[]).into());
        }
        // What has arrived is read before the silence is judged: it may be this worker that was late.
        // And a connection that has ended is not written to: what is queued can still move.
        let step = match self.read_turn(cx) {
            Ok(step) => step,
            Err(end) => return Poll::Ready(end),
        };
        let now = Instant::now();
        let is_paused = self.is_paused(now);
        let stood_still = self.link.turn(now) > self.two_pings;
        if stood_still {
            self.dispatch.on(&self.link, Event::Resumed, now);
        }
        if step == Step::Yield || is_paused || stood_still {
            // What it sent meanwhile is not read, or it was not asked: the pause is the gateway's own, and no silence of
            // the instance.
            self.last_byte = now;
        }
        let silent_at = self.last_byte + self.silence;
        if now >= silent_at {
            return Poll::Ready(if self.proven { LinkEnd::Silent } else { LinkEnd::Mute });
        }
        if self.link.next_due().is_some_and(|due| due <= now) {
            self.dispatch.on(&self.link, Event::Time, now);
        }
        if self.oversized_until.is_some_and(|until| until <= now) {
            self.end_oversized();
        }
        if let Err(end) = self.write_turn(cx) {
            return Poll::Ready(end);
        }
        if self.link.has_left(now) {
            return Poll::Ready(LinkEnd::Left);
        }
        let look = is_paused.then_some(now + PRESSURE_LOOK);
        let due =
            [self.link.next_due(), self.link.leaves_by(), look, self.oversized_until].into_iter().flatten();
        self.timer.arm(due.fold(silent_at, Instant::min), cx);
        if step == Step::Yield {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn read_turn(&mut self, cx: &mut Context<'_>) -> Result<Step, LinkEnd> {
        let mut packets = PUSHES_PER_TURN;
        let mut deliveries = DELIVERIES_PER_TURN;
        let now = Instant::now();
        loop {
            if let Some(delivery) = &mut self.delivery {
                if delivery.run(&self.dispatch, &self.link, &mut deliveries, now) == Step::Yield {
                    return Ok(Step::Yield);
                }
                self.delivery = None;
            }
            if packets == 0 {
                return Ok(Step::Yield);
            }
            if let Some(frame) = self.decoder.next_frame().map_err(|error| self.bad_frame(error))? {
                packets -= 1;
                self.take_frame(frame, now)?;
            } else if self.is_paused(now) || self.poll_read(cx)?.is_pending() {
                return Ok(Step::Done);
            }
        }
    }

    /// Nothing more is read from it for now, because the clients of this process have more queued than they may (row E19).
    fn is_paused(&mut self, now: Instant) -> bool {
        self.dispatch.settings.pressure.backends_paused() && self.trickle.is_used_up(now)
    }

    fn bad_frame(&self, error: FrameError) -> LinkEnd {
        self.dispatch.metrics.reject(Reject::BackendBadFrame);
        LinkEnd::BadFrame(error)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, LinkEnd> {
        let mut buffer = ReadBuf::new(&mut self.scratch);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer)? {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(()) if buffer.filled().is_empty() => Err(LinkEnd::Eof),
            Poll::Ready(()) => {
                let now = Instant::now();
                if now.saturating_duration_since(std::mem::replace(&mut self.last_byte, now)) > self.two_pings
                {
                    self.dispatch.on(&self.link, Event::Resumed, now);
                }
                self.trickle.took(buffer.filled().len());
                self.decoder.push(Bytes::copy_from_slice(buffer.filled()));
                Ok(Poll::Ready(()))
            }
        }
    }

    fn take_frame(&mut self, frame: Frame, now: Instant) -> Result<(), LinkEnd> {
        if frame.opcode == Opcode::Close {
            return Err(match self.proven {
                _ if frame.payload == LINK_REPLACED => LinkEnd::Replaced,
                true => LinkEnd::Closed,
                false => LinkEnd::Refused,
            });
        }
        if !std::mem::replace(&mut self.proven, true) {
            self.dispatch.link_up(&self.link, now);
        }
        match frame.opcode {
            Opcode::Binary => self.take_packet(&frame.payload),
            Opcode::Ping => {
                let echo = &frame.payload[..frame.payload.len().min(MAX_ECHO)];
                self.link.enqueue_control(frame::encode(Opcode::Pong, echo).into());
            }
            Opcode::Pong => {}
            _ => self.dispatch.metrics.reject(Reject::BackendIgnored),
        }
        Ok(())
    }

    fn take_packet(&mut self, payload: &Bytes) {
        let dialect = self.link.instance.dialect;
        match Packet::decode(payload) {
            Ok(Packet::Logic(packet)) if packet.dialect == dialect => self.begin_delivery(packet),
            Ok(Packet::Basic { code: packet::BASIC_PING, dialect, .. }) => {
                self.link.enqueue_control(packet::encode_basic(dialect, packet::BASIC_PONG).into());
            }
            Ok(Packet::Basic { .. }) => {}
            Ok(Packet::Logic(_)) => {
                self.drop_packet("a packet of the other dialect; check the instance's dialect")
            }
            Err(error) => self.drop_packet(&error.to_string()),
        }
    }

    fn drop_packet(&self, what: &str) {
        self.dispatch.metrics.reject(Reject::BackendBadPacket);
        report_bad(&self.link, what);
    }

    fn begin_delivery(&mut self, packet: packet::LogicPacket) {
        let settings = &self.dispatch.settings;
        let serial = self.dispatch.next_serial();
        let bytes = packet.frame_len();
        match Delivery::parse(packet, &settings.gate_id, &settings.limits, serial) {
            Ok(delivery) => {
                if delivery.is_push() {
                    self.link.metrics.push_received();
                }
                self.delivery = Some(delivery);
            }
            Err(PushDrop::BadPacket) => self.drop_packet("its header cannot be read"),
            Err(reason) => {
                self.link.metrics.push_received();
                self.dispatch.metrics.push_received(1);
                self.dispatch.metrics.push_dropped(reason, 1);
                report_bad(&self.link, reason.label());
                if reason == PushDrop::TooLarge {
                    self.tell_oversized(bytes);
                }
            }
        }
    }

    /// Its pushes are lost, and only its own administrator can mend that.
    fn tell_oversized(&mut self, bytes: usize) {
        self.oversized_until = Some(Instant::now() + PUSH_TOO_LARGE_HOLDS);
        let instance = &self.link.instance;
        let detail = format_args!(
            "a push of {bytes} bytes was dropped: limits.max_push is {}",
            self.dispatch.settings.limits.max_push
        );
        let event = event::Event::push_too_large(&instance.service, &instance.id, &instance.zone, detail);
        self.dispatch.metrics.raise(event);
    }

    fn end_oversized(&mut self) {
        if self.oversized_until.take().is_some() {
            let instance = &self.link.instance;
            self.dispatch.metrics.clear(&Subject::push_too_large(
                &instance.service,
                &instance.id,
                &instance.zone,
            ));
        }
    }

    /// Offers everything queued in vectored writes until the socket takes no more.
    fn write_turn(&mut self, cx: &mut Context<'_>) -> Result<(), LinkEnd> {
        while !self.link.is_drained() {
            let announced = self.dispatch.announce_signins(&self.link);
            let stream = Pin::new(&mut self.stream);
            let polled = self.link.write_with(|frames| {
                let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
                let parts =
                    frames.flat_map(|frame| [&frame.head, &frame.body]).filter(|part| !part.is_empty());
                let mut used = 0;
                for (slot, part) in slices.iter_mut().zip(parts) {
                    *slot = IoSlice::new(part);
                    used += 1;
                }
                stream.poll_write_vectored(cx, &slices[..used])
            });
            match polled {
                Poll::Pending => {
                    SignOuts::retract(&announced);
                    return Ok(());
                }
                Poll::Ready(Ok(0)) => return Err(LinkEnd::Eof),
                Poll::Ready(Ok(written)) => {
                    let (link, dispatch) = (&self.link, &self.dispatch);
                    link.advance(written, |progress| dispatch.progressed(link, progress));
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Logs what a logic service sent and should not have; at debug, because a broken one repeats itself.
fn report_bad(link: &Link, what: &str) {
    debug!(service = link.instance.service, instance = link.instance.id, what, "dropped a packet");
}
