//! One live connection to a logic instance: writes its queue, reads its packets, pings it when it is silent (protocol §5).

use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tracing::debug;

use crate::dispatch::Dispatch;
use crate::dispatch::delivery::{Delivery, DeliveryStep};
use crate::dispatch::health::{HealthEvent, Loss};
use crate::dispatch::link::{Link, LinkEnd};
use crate::dispatch::read_budget::ReadBudget;
use crate::dispatch::turn::LinkTurn;
use crate::limits::{Limits, PRESSURE_LOOK, PUSH_TOO_LARGE_HOLDS, READ_CHUNK, SLICES_PER_WRITE};
use crate::monitor::events::event::{self, Subject};
use crate::monitor::metrics::{PushDrop, Reject};
use crate::timer::Timer;
use crate::wire::close::LINK_REPLACED;
use crate::wire::frame::{self, Frame, FrameDecoder, FrameError, Opcode};
use crate::wire::packet::{self, Encoded, Packet};
use gateway_net::gather::{gather, poll_write_gathered};

/// Longest payload of a ping that is sent back, bytes: what WebSocket allows a control frame (RFC 6455 section 5.5).
const MAX_ECHO: usize = 125;

/// The connection's own state; everything shared is in [`Link`].
pub(crate) struct LinkConnection {
    stream: TcpStream,
    link: Rc<Link>,
    dispatch: Rc<Dispatch>,
    decoder: FrameDecoder,
    scratch: Box<[u8]>,
    delivery: Option<Delivery>,
    /// When the last byte came: any byte counts as a pong.
    last_byte: Instant,
    last_ping: Instant,
    /// When the frame began whose end has not come; a pause of the gateway's own begins it anew.
    frame_began: Option<Instant>,
    patience: Patience,
    /// What `patience` was made of. Frames may be as large as they might when the connection began.
    limits: Rc<Limits>,
    read_budget: ReadBudget,
    /// Until when the administrator is told of pushes that were too large.
    oversized_until: Option<Instant>,
    timer: Timer,
    /// Whether any byte has come.
    proven: bool,
    /// What health is told when it is dropped; before its end, that it panicked.
    loss: Loss,
}

/// How long the instance may take, and when it is asked.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// A ping is sent when nothing came for so long, and not before: the Go services write a pong into the buffer of
    /// whatever they are just writing (row H12).
    ping: Duration,
    /// The task wakes at least once per ping, so it has a turn this often unless the worker, or the machine, stands
    /// still; and an instance that is well says something this often.
    two_pings: Duration,
    /// The link is dead without a byte for so long.
    silence: Duration,
    /// A frame, from its first byte to its last.
    frame: Duration,
}

impl Patience {
    fn of(limits: &Limits) -> Self {
        Self {
            ping: limits.backend_ping,
            two_pings: limits.backend_ping * 2,
            silence: limits.backend_ping * limits.backend_misses,
            frame: limits.backend_frame_deadline,
        }
    }
}

impl Drop for LinkConnection {
    /// However the connection ends, its instance leaves selection, and nothing of its queue is left for the next one.
    fn drop(&mut self) {
        self.end_oversized();
        self.dispatch.link_lost(&self.link, self.loss, Instant::now());
    }
}

impl LinkConnection {
    /// Takes over a connection on which hands were shaken.
    pub(crate) fn new(stream: TcpStream, link: Rc<Link>, dispatch: Rc<Dispatch>) -> Self {
        let limits = dispatch.settings.limits.now();
        let (now, patience) = (Instant::now(), Patience::of(&limits));
        let decoder = FrameDecoder::new(limits.backend_max_frame).ignoring_unknown_opcodes();
        link.rest();
        Self {
            stream,
            link,
            dispatch,
            decoder,
            scratch: vec![0; READ_CHUNK].into_boxed_slice(),
            delivery: None,
            last_byte: now,
            // One goes out with the handshake.
            last_ping: now,
            frame_began: None,
            patience,
            limits,
            read_budget: ReadBudget::default(),
            oversized_until: None,
            timer: Timer::new(now + patience.ping),
            proven: false,
            loss: LinkEnd::Panicked.loss(),
        }
    }

    /// Serves the link until it ends.
    pub(crate) async fn run(mut self) -> LinkEnd {
        let end = poll_fn(|cx| self.drive(cx)).await;
        self.loss = end.loss();
        // Dropping `self` takes the instance out of selection before anything else happens.
        end
    }

    /// Reads a bounded amount, writes what can be written, and yields when there is more to read.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        self.link.wake.register(cx);
        if !self.dispatch.settings.limits.are(&self.limits) {
            self.limits = self.dispatch.settings.limits.now();
            self.patience = Patience::of(&self.limits);
        }
        // What has arrived is read before the silence is judged: it may be this worker that was late.
        // And a connection that has ended is not written to: what is queued can still move.
        let step = match self.drive_read(cx) {
            Ok(step) => step,
            Err(end) => return Poll::Ready(end),
        };
        self.link.corked.release_some();
        let now = Instant::now();
        let is_paused = self.is_paused(now);
        let stood_still = self.link.note_poll(now) > self.patience.two_pings;
        if stood_still {
            self.dispatch.on(&self.link, HealthEvent::Resumed, now);
        }
        if step == DeliveryStep::Yield || is_paused || stood_still {
            // What it sent meanwhile is not read, or it was not asked: the pause is the gateway's own, and no silence of
            // the instance.
            (self.last_byte, self.frame_began) = (now, None);
        }
        let dead_at = match self.judge(now) {
            Ok(dead_at) => dead_at,
            Err(end) => return Poll::Ready(end),
        };
        let ping_at = self.ping_if_silent(now);
        if self.link.health().next_due().is_some_and(|due| due <= now) {
            self.dispatch.on(&self.link, HealthEvent::Time, now);
        }
        if self.oversized_until.is_some_and(|until| until <= now) {
            self.end_oversized();
        }
        if let Err(end) = self.drive_write(cx) {
            return Poll::Ready(end);
        }
        if self.link.has_left(now) {
            return Poll::Ready(LinkEnd::Left);
        }
        let look = is_paused.then_some(now + PRESSURE_LOOK);
        let due = [self.link.health().next_due(), self.link.leaves_by(), look, self.oversized_until]
            .into_iter()
            .flatten();
        self.timer.arm(due.fold(dead_at.min(ping_at), Instant::min), now, cx);
        if step == DeliveryStep::Yield || !self.link.corked.is_empty() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Fails if the link is dead; else returns when it will be, should nothing come.
    fn judge(&mut self, now: Instant) -> Result<Instant, LinkEnd> {
        let silent_at = self.last_byte + self.patience.silence;
        if now >= silent_at {
            return Err(if self.proven { LinkEnd::Silent } else { LinkEnd::Mute });
        }
        if !self.decoder.is_mid_frame() {
            self.frame_began = None;
            return Ok(silent_at);
        }
        // What comes within a frame belongs to it: a pong that an instance writes there is none, and the frames behind
        // it are lost if the end does not come.
        let slow_at = *self.frame_began.get_or_insert(now) + self.patience.frame;
        if now >= slow_at {
            self.dispatch.metrics.reject(Reject::BackendSlowFrame);
            return Err(LinkEnd::SlowFrame(self.patience.frame));
        }
        Ok(silent_at.min(slow_at))
    }

    /// Asks for a sign of life when there was none for a whole interval. Returns when to look again.
    fn ping_if_silent(&mut self, now: Instant) -> Instant {
        let quiet_since = self.last_byte.max(self.last_ping);
        if now < quiet_since + self.patience.ping {
            return quiet_since + self.patience.ping;
        }
        self.link.enqueue_control(frame::encode(Opcode::Ping, &[]).into());
        self.last_ping = now;
        now + self.patience.ping
    }

    fn drive_read(&mut self, cx: &mut Context<'_>) -> Result<DeliveryStep, LinkEnd> {
        let now = Instant::now();
        let mut turn = LinkTurn::new(now);
        loop {
            if let Some(delivery) = &mut self.delivery {
                if delivery.run(&self.dispatch, &self.link, &mut turn, now) == DeliveryStep::Yield {
                    return Ok(DeliveryStep::Yield);
                }
                // Only a delivery that is complete makes room for the next packet: order of pushes is that of the link (G3).
                self.delivery = None;
            }
            if turn.is_over() {
                return Ok(DeliveryStep::Yield);
            }
            if let Some(frame) = self.decoder.next_frame().map_err(|error| self.bad_frame(error))? {
                self.frame_began = None;
                self.take_frame(frame, now)?;
            } else if self.is_paused(now) || self.poll_read(cx)?.is_pending() {
                return Ok(DeliveryStep::Done);
            }
        }
    }

    /// Nothing more is read from it for now, because the clients of this process have more queued than they may (row E19).
    fn is_paused(&mut self, now: Instant) -> bool {
        self.dispatch.settings.pressure.backends_paused() && self.read_budget.is_used_up(now)
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
                // Every byte counts as life, whatever it belongs to (row H12).
                let before = std::mem::replace(&mut self.last_byte, now);
                if now.saturating_duration_since(before) > self.patience.two_pings {
                    self.dispatch.on(&self.link, HealthEvent::Resumed, now);
                }
                self.read_budget.took(buffer.filled().len());
                self.decoder.push(Bytes::copy_from_slice(buffer.filled()));
                Ok(Poll::Ready(()))
            }
        }
    }

    fn take_frame(&mut self, frame: Frame, now: Instant) -> Result<(), LinkEnd> {
        if frame.opcode == Opcode::Close {
            // Before its first byte a close frame is the word of a service that knows our id already (row E15).
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
                // A peer decides about the length; what is sent back stays small whatever it says.
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
        match Delivery::parse(packet, &settings.gate_id, &settings.limits.now(), serial) {
            Ok(mut delivery) => {
                delivery.begin_span(&self.dispatch.channels.tracer);
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
            self.dispatch.settings.limits.now().max_push
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
    fn drive_write(&mut self, cx: &mut Context<'_>) -> Result<(), LinkEnd> {
        while !self.link.queue().is_empty() {
            let signins = self.dispatch.announce_signins(&self.link);
            let stream = Pin::new(&mut self.stream);
            let polled = {
                let queue = self.link.queue();
                let mut slots = [IoSlice::new(&[]); SLICES_PER_WRITE];
                poll_write_gathered(stream, gather(&mut slots, queue.frames().flat_map(Encoded::pieces)), cx)
            };
            match polled {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(LinkEnd::Eof),
                Poll::Ready(Ok(written)) => {
                    let (link, dispatch) = (&self.link, &self.dispatch);
                    link.change_queue(|queue| {
                        queue.advance(written, |progress| dispatch.progressed(link, progress))
                    });
                    drop(signins);
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
