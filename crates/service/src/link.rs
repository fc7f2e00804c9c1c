//! One link: a gateway's connection from its handshake to its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use crate::channel_queues::ChannelQueues;
use crate::frame_reader::{FrameReader, ReadError};
use crate::links::{KnownGateway, LinkEvent, Links};
use crate::request::{Request, RequestOrigin};
use crate::routes::Routes;
use crate::send_queue::SendQueue;
use gateway_net::limits::{KIB, LINGER};
use gateway_wire::frame::MAX_FRAME_HARD;
use gateway_wire::frame::{self, Frame, Opcode};
use gateway_wire::packet::{BASIC_PING, BASIC_PONG, Encoded, Packet, encode_basic};
use gateway_wire::pb;

/// Payload of the frame with the handshake, bytes: an id and two bytes before it.
const MAX_HANDSHAKE: usize = KIB;

/// Longest gateway id that is taken, bytes. The gateway of this crate uses 64; others may have longer ones.
const MAX_GATEWAY_ID: usize = 128;

/// Text of the close frame when this service shuts down.
const STOPPING: &[u8] = b"shutting down";

/// The bounds of every link.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LinkLimits {
    /// Payload of a gateway's frame, bytes.
    pub max_frame: usize,
    /// Queue towards a gateway, packets; above, the link is cut.
    pub queued_packets: usize,
    /// Queue towards a gateway, bytes; above, the link is cut.
    pub queued_bytes: usize,
    /// Requests of one link whose handlers wait, or that wait behind those; above, requests are answered 300
    /// and not handled, sign-outs included: a handler must end.
    pub in_progress: usize,
    /// From accept to the whole handshake.
    pub handshake: Duration,
    /// Nothing was read for so long: the gateway is gone.
    pub idle: Duration,
    /// The gateway's socket took nothing for so long: the link is cut.
    pub write_stall: Duration,
    /// How long a server that shuts down lets its handlers end, and its last packets leave.
    pub shutdown: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            // A client's largest frame, with room for the metas the gateway adds.
            max_frame: MAX_FRAME_HARD + 64 * KIB,
            // Half a second of what one gateway can take on one link.
            queued_packets: 65_536,
            queued_bytes: 32 * 1024 * KIB,
            // As many as a gateway queues for one instance.
            in_progress: 4096,
            // A gateway sends it with its first packet.
            handshake: Duration::from_secs(5),
            // Ours pings every 2 s; the Go gateways every 55 s and give up after three times that.
            idle: Duration::from_secs(180),
            write_stall: Duration::from_secs(10),
            // Longer than the 4.5 s a gateway waits for an answer would help nobody.
            shutdown: Duration::from_secs(5),
        }
    }
}

/// What the links of one server share.
pub(super) struct LinkContext {
    pub(super) name: String,
    pub(super) known: KnownGateway,
    pub(super) limits: LinkLimits,
    pub(super) links: Links,
    pub(super) routes: Arc<Routes>,
    pub(super) stopping: CancellationToken,
}

/// Why a link ended, for the log.
#[derive(Debug, thiserror::Error)]
enum GatewayLinkEnd {
    #[error("the gateway closed it")]
    Peer,
    #[error(transparent)]
    Read(ReadError),
    #[error("nothing came from the gateway for the idle time")]
    Idle,
    #[error("a newer link of the gateway replaced it, or it was cut")]
    Replaced,
    #[error("the gateway does not take what it is sent: {0}")]
    Write(io::Error),
    #[error("this service shuts down")]
    Stopping,
}

/// Serves one connection until it ends. Dropping the future ends it at once.
pub(super) async fn run(stream: TcpStream, service: Arc<LinkContext>) {
    // Packets are gathered by the writer; waiting for more would only delay answers.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let mut frames = FrameReader::new(read, MAX_HANDSHAKE);
    let handshake = timeout(service.limits.handshake, read_handshake(&mut frames));
    let gateway = tokio::select! {
        gateway = handshake => gateway.ok().flatten(),
        () = service.stopping.cancelled() => return,
    };
    let Some(gateway) = gateway else {
        debug!(service = ?service.name, "a connection without a usable handshake was closed");
        return service.links.record(LinkEvent::BadHandshake);
    };
    frames.set_max_payload(service.limits.max_frame);

    let limits = &service.limits;
    let send_queue = Arc::new(SendQueue::new(limits.queued_packets, limits.queued_bytes));
    let registration = match service.links.register(&gateway, &send_queue, service.known) {
        Ok(registration) => registration,
        Err(refusal) => {
            info!(service = ?service.name, ?gateway, "gateway refused: its id is linked already");
            return refuse(frames, write, refusal).await;
        }
    };
    info!(service = ?service.name, ?gateway, "gateway linked");
    let origin = RequestOrigin {
        gateway: Arc::clone(&gateway),
        send_queue: Arc::clone(&send_queue),
        links: service.links.clone(),
    };
    let end = GatewayLink::new(origin, frames, write, &service).serve(&service).await;
    drop(registration);
    service.links.record_many(LinkEvent::LostUnwritten, send_queue.unwritten());
    info!(service = ?service.name, ?gateway, %end, "link to a gateway ended");
}

/// The gateway id of the first frame; none if the first frame is anything else.
async fn read_handshake(frames: &mut FrameReader) -> Option<Arc<str>> {
    let frame = frames.next().await.ok().flatten().filter(|frame| frame.opcode == Opcode::Binary)?;
    let id = pb::InnerHandshakeReq::decode(frame.payload).ok()?.service_id;
    let usable = (1..=MAX_GATEWAY_ID).contains(&id.len()) && !id.chars().any(char::is_control);
    usable.then(|| id.into())
}

async fn refuse(mut frames: FrameReader, mut write: OwnedWriteHalf, refusal: Bytes) {
    let farewell = async {
        write.write_all(&refusal).await?;
        write.shutdown().await?;
        frames.drain().await;
        io::Result::Ok(())
    };
    // Whether the refusal arrives is the gateway's concern: it is closed in any case.
    let _ = timeout(LINGER, farewell).await;
}

/// A link after its handshake.
struct GatewayLink {
    origin: RequestOrigin,
    frames: FrameReader,
    queues: ChannelQueues,
    writer: AbortOnDropHandle<io::Result<()>>,
}

impl GatewayLink {
    fn new(origin: RequestOrigin, frames: FrameReader, write: OwnedWriteHalf, service: &LinkContext) -> Self {
        let send_queue = Arc::clone(&origin.send_queue);
        let stall = service.limits.write_stall;
        let writer = tokio::spawn(async move { send_queue.write_to(write, stall).await });
        let queues = ChannelQueues::new(
            Arc::clone(&service.routes),
            service.links.clone(),
            service.limits.in_progress,
        );
        Self { origin, frames, queues, writer: AbortOnDropHandle::new(writer) }
    }

    async fn serve(mut self, service: &LinkContext) -> GatewayLinkEnd {
        let end = self.read_all(service).await;
        match &end {
            GatewayLinkEnd::Stopping => self.stop(service).await,
            // The writer has said farewell, or nothing more can be said.
            GatewayLinkEnd::Replaced if !self.origin.send_queue.is_cut() => {
                let _ = timeout(LINGER, self.frames.drain()).await;
            }
            GatewayLinkEnd::Peer
            | GatewayLinkEnd::Read(_)
            | GatewayLinkEnd::Idle
            | GatewayLinkEnd::Replaced
            | GatewayLinkEnd::Write(_) => {
                self.origin.send_queue.cut();
            }
        }
        end
    }

    async fn read_all(&mut self, service: &LinkContext) -> GatewayLinkEnd {
        let mut heard = Instant::now();
        let idle = sleep_until(heard + service.limits.idle);
        tokio::pin!(idle);
        loop {
            tokio::select! {
                frame = self.frames.next() => {
                    heard = Instant::now();
                    match frame {
                        Ok(Some(frame)) if frame.opcode == Opcode::Close => return GatewayLinkEnd::Peer,
                        Ok(Some(frame)) => self.take_frame(frame),
                        Ok(None) => return GatewayLinkEnd::Peer,
                        Err(error) => {
                            if let ReadError::Frame(_) = error {
                                self.links().record(LinkEvent::BadFrame);
                            }
                            return GatewayLinkEnd::Read(error);
                        }
                    }
                }
                Some(()) = self.queues.advance() => {}
                written = &mut self.writer => return match written {
                    Ok(Err(error)) => GatewayLinkEnd::Write(error),
                    // The writer does not panic and is not aborted while this task reads.
                    Ok(Ok(())) | Err(_) => GatewayLinkEnd::Replaced,
                },
                () = service.stopping.cancelled() => return GatewayLinkEnd::Stopping,
                // The timer is moved only when it fires, not with every frame.
                () = &mut idle => {
                    if heard.elapsed() >= service.limits.idle {
                        return GatewayLinkEnd::Idle;
                    }
                    idle.as_mut().reset(heard + service.limits.idle);
                }
            }
        }
    }

    /// Lets running handlers end and what is queued leave, then closes.
    async fn stop(&mut self, service: &LinkContext) {
        let ending = async {
            while !self.queues.is_idle() {
                self.queues.advance().await;
            }
            self.origin.send_queue.close(frame::encode(Opcode::Close, STOPPING));
            let _ = (&mut self.writer).await;
        };
        if timeout(service.limits.shutdown, ending).await.is_err() {
            return self.origin.send_queue.cut();
        }
        let _ = timeout(LINGER, self.frames.drain()).await;
    }

    fn take_frame(&mut self, frame: Frame) {
        match frame.opcode {
            Opcode::Binary => self.take_packet(&frame.payload),
            Opcode::Ping => self.send(frame::encode(Opcode::Pong, &[])),
            Opcode::Pong => {}
            Opcode::Text | Opcode::Continuation | Opcode::Unknown | Opcode::Close => {
                self.links().record(LinkEvent::IgnoredFrame)
            }
        }
    }

    /// A bad packet in a good frame is dropped: the next one can be read all the same.
    fn take_packet(&mut self, payload: &Bytes) {
        match Packet::decode(payload) {
            Ok(Packet::Basic { dialect, code: BASIC_PING, .. }) => {
                self.send(encode_basic(dialect, BASIC_PONG));
            }
            Ok(Packet::Basic { .. }) => {}
            Ok(Packet::Logic(packet)) => match Request::read(packet, &self.origin) {
                Some(request) => self.queues.accept(request),
                None => self.drop_packet("its header is no request's, or of another dialect"),
            },
            Err(error) => {
                let error = error.to_string();
                self.drop_packet(&error);
            }
        }
    }

    fn drop_packet(&self, reason: &str) {
        debug!(gateway = ?self.origin.gateway, reason, "packet of a gateway dropped");
        self.links().record(LinkEvent::BadPacket);
    }

    fn send(&self, frame: Bytes) {
        let RequestOrigin { links, send_queue, gateway } = &self.origin;
        links.send(send_queue, gateway, Encoded::whole(frame), 1);
    }

    fn links(&self) -> &Links {
        &self.origin.links
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use tokio::sync::{Notify, mpsc};

    use super::*;
    use crate::server::LogicServer;
    use crate::testing::{TestGateway, meta, start};
    use crate::{Push, Target};
    use gateway_wire::dialect::Dialect;
    use gateway_wire::packet::encode_message;
    use gateway_wire::pb::Status;

    fn echo() -> LogicServer {
        LogicServer::new("echo").handle("echo.say", |request| async move {
            let body = request.body().clone();
            request.reply(Status::Success, body);
        })
    }

    async fn say(gateway: &mut TestGateway, account: &str, sequence: u32) {
        let channel = gateway.channel(account);
        gateway.request_of(&channel, account, "echo.say", sequence, "", b"hello".to_vec()).await;
    }

    #[tokio::test]
    async fn a_handshake_opens_a_link_for_requests_and_both_heartbeats() {
        let server = echo();
        let links = server.links();
        let (address, _task) = start(server).await;
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        assert_eq!(links.gateways(), ["gate01"]);

        say(&mut gateway, "alice", 7).await;
        let (header, body) = gateway.packet().await;
        assert_eq!((header.sequence, header.status, &body[..]), (7, 0, &b"hello"[..]));

        gateway.write(&encode_basic(Dialect::XIm, BASIC_PING)).await;
        let pong = gateway.frame().await.unwrap();
        assert_eq!(frame::encode(pong.opcode, &pong.payload), encode_basic(Dialect::XIm, BASIC_PONG));

        drop(gateway);
        let mut again = TestGateway::link(address, "gate01", Dialect::XIm).await;
        say(&mut again, "alice", 8).await;
        again.expect_status(Status::Success).await;
        assert_eq!(links.count(LinkEvent::Linked), 2);
    }

    /// The handshake of the golden vectors, byte by byte, and one that lies about its length.
    #[tokio::test]
    async fn a_handshake_may_come_in_pieces_and_a_bad_one_ends_the_connection() {
        let server = echo();
        let links = server.links();
        let (address, _task) = start(server).await;
        let golden = [0x02, 0, 0, 0, 0x08, 0x0a, 0x06, 0x67, 0x61, 0x74, 0x65, 0x30, 0x31];
        let mut slow = TestGateway::connect(address, "gate01", Dialect::XIm).await;
        for byte in golden {
            slow.write(&[byte]).await;
            tokio::task::yield_now().await;
        }
        slow.ping().await;
        assert_eq!(links.gateways(), ["gate01"]);

        let bad: [&[u8]; 4] = [
            &frame::encode(Opcode::Binary, b""),
            &frame::encode(Opcode::Binary, b"\x0a\x01\x07"),
            &frame::encode(Opcode::Ping, b""),
            &[0x02, 0xff, 0xff, 0xff, 0xff],
        ];
        for bytes in bad {
            let mut gateway = TestGateway::connect(address, "gate02", Dialect::XIm).await;
            gateway.write(bytes).await;
            assert_eq!(gateway.frame().await, None);
        }
        assert_eq!(links.count(LinkEvent::BadHandshake), 4);
        assert_eq!(links.gateways(), ["gate01"]);
    }

    #[tokio::test]
    async fn a_silent_connection_ends_at_the_handshake_deadline_and_a_silent_link_when_idle() {
        let limits = LinkLimits {
            handshake: Duration::from_millis(50),
            idle: Duration::from_millis(100),
            ..LinkLimits::default()
        };
        let server = echo().limits(limits.clone());
        let links = server.links();
        let (address, _task) = start(server).await;
        let begin = Instant::now();
        let mut silent = TestGateway::connect(address, "gate01", Dialect::XIm).await;
        assert_eq!(silent.frame().await, None);
        assert!(begin.elapsed() >= limits.handshake);
        assert_eq!(links.count(LinkEvent::BadHandshake), 1);

        let begin = Instant::now();
        let mut idle = TestGateway::link(address, "gate01", Dialect::XIm).await;
        assert_eq!(idle.frame().await, None);
        assert!(begin.elapsed() >= limits.idle);
        assert_eq!(links.count(LinkEvent::Linked), 1);
    }

    /// E12: one link per id, the newest wins.
    #[tokio::test]
    async fn e12_a_newer_link_of_the_same_gateway_replaces_the_old_one() {
        let server = echo();
        let links = server.links();
        let (address, _task) = start(server).await;
        let mut old = TestGateway::link(address, "gate01", Dialect::XIm).await;
        let mut new = TestGateway::link(address, "gate01", Dialect::XIm).await;
        let farewell = old.frame().await.unwrap();
        assert_eq!(
            (farewell.opcode, &farewell.payload[..]),
            (Opcode::Close, &b"replaced by a newer link"[..])
        );
        assert_eq!(old.frame().await, None);
        drop(old);
        new.ping().await;
        // The end of the old link has not taken the new one out.
        assert_eq!(links.gateways(), ["gate01"]);
        let push = Push { command: "echo.push".to_owned(), ..Push::default() };
        assert_eq!(links.push(&push, &[Target { gateway: "gate01", channel: "c" }]), 1);
        assert_eq!(new.packet().await.0.command, "echo.push");
        assert_eq!(links.count(LinkEvent::Replaced), 1);
    }

    /// E15, from the other side.
    #[tokio::test]
    async fn e15_a_known_gateway_is_refused_with_a_close_frame_where_that_is_the_policy() {
        let server = echo().known_gateway(KnownGateway::Refuse);
        let links = server.links();
        let (address, _task) = start(server).await;
        let mut first = TestGateway::link(address, "gate01", Dialect::XIm).await;
        let mut second = TestGateway::greet(address, "gate01", Dialect::XIm).await;
        let refusal = second.frame().await.unwrap();
        assert_eq!((refusal.opcode, &refusal.payload[..]), (Opcode::Close, &b"channelId is repeated"[..]));
        assert_eq!(second.frame().await, None);
        first.ping().await;
        assert_eq!(links.count(LinkEvent::Refused), 1);
    }

    #[tokio::test]
    async fn e4_bad_packets_are_dropped_and_bad_frames_end_the_link() {
        let server = echo();
        let links = server.links();
        let (address, _task) = start(server).await;
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        let push = pb::Header { flag: pb::Flag::Push as i32, ..Default::default() };
        let kim = pb::Header { command: "echo.say".to_owned(), ..Default::default() };
        let bad = [
            frame::encode(Opcode::Binary, b""),
            frame::encode(Opcode::Binary, b"XXXX\0\0\0\0\0\0\0\0"),
            frame::encode(Opcode::Binary, b"1234\0\0\0\x01\xff\0\0\0\0"),
            encode_message(Dialect::XIm, &push, Bytes::new()).to_bytes(),
            encode_message(Dialect::Kim, &kim, Bytes::new()).to_bytes(),
        ];
        for frame in &bad {
            gateway.write(frame).await;
        }
        gateway.write(&frame::encode(Opcode::Text, b"hello")).await;
        gateway.write(&frame::encode(Opcode::Pong, b"")).await;
        gateway.ping().await;
        assert_eq!(links.count(LinkEvent::BadPacket), bad.len() as u64);
        assert_eq!(links.count(LinkEvent::IgnoredFrame), 1);

        gateway.write(&[0x03, 0, 0, 0, 0]).await;
        assert_eq!(gateway.frame().await, None);
        assert_eq!(links.count(LinkEvent::BadFrame), 1);
        assert_eq!(links.gateways(), [""; 0]);
    }

    #[tokio::test]
    async fn an_unknown_command_is_answered_301_unless_there_is_a_fallback() {
        let (address, _task) = start(echo()).await;
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        gateway.request("alice", "echo.shout", 1, "", &pb::MessageReq::default()).await;
        gateway.expect_status(Status::NotImplemented).await;

        let tolerant = echo().fallback(|request| async move { request.reply(Status::Success, Bytes::new()) });
        let (address, _task) = start(tolerant).await;
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        gateway.request("alice", "echo.shout", 1, "", &pb::MessageReq::default()).await;
        gateway.expect_status(Status::Success).await;
    }

    /// A service whose handlers wait for the gate, except those of dest "quick"; it reports who began.
    fn slow(gate: &Arc<Notify>, begun: mpsc::Sender<u32>) -> LogicServer {
        let gate = Arc::clone(gate);
        LogicServer::new("echo").handle("echo.say", move |request| {
            let (gate, begun) = (Arc::clone(&gate), begun.clone());
            async move {
                begun.send(request.sequence()).await.unwrap();
                if request.account() != "quick" {
                    gate.notified().await;
                }
                request.reply(Status::Success, Bytes::new());
            }
        })
    }

    /// G3, G8.
    #[tokio::test]
    async fn g3_a_waiting_handler_holds_back_its_own_channel_only() {
        let gate = Arc::new(Notify::new());
        let (begun, mut begins) = mpsc::channel(16);
        let (address, _task) = start(slow(&gate, begun)).await;
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        for sequence in 1..=3 {
            say(&mut gateway, "slow", sequence).await;
        }
        say(&mut gateway, "quick", 4).await;
        // The quick one is answered although it came last.
        assert_eq!(gateway.packet().await.0.sequence, 4);
        assert_eq!((begins.recv().await, begins.recv().await), (Some(1), Some(4)));
        for sequence in 1..=3 {
            assert!(begins.try_recv().is_err(), "{sequence} began before the one before it had ended");
            gate.notify_one();
            assert_eq!(gateway.packet().await.0.sequence, sequence);
            if sequence < 3 {
                assert_eq!(begins.recv().await, Some(sequence + 1));
            }
        }
        // The queue is gone: a later request of the channel begins at once.
        say(&mut gateway, "slow", 5).await;
        assert_eq!(begins.recv().await, Some(5));
    }

    #[tokio::test]
    async fn g6_too_many_requests_in_progress_are_answered_300() {
        let gate = Arc::new(Notify::new());
        let (begun, mut begins) = mpsc::channel(16);
        let server = slow(&gate, begun).limits(LinkLimits { in_progress: 2, ..LinkLimits::default() });
        let links = server.links();
        let (address, _task) = start(server).await;
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        say(&mut gateway, "slow", 1).await;
        say(&mut gateway, "slow", 2).await;
        say(&mut gateway, "other", 3).await;
        let (header, _) = gateway.packet().await;
        assert_eq!((header.sequence, header.status), (3, Status::SystemException as i32));
        assert_eq!(links.count(LinkEvent::Overloaded), 1);
        gate.notify_one();
        assert_eq!(gateway.packet().await.0.sequence, 1);
        assert_eq!((begins.recv().await, begins.recv().await), (Some(1), Some(2)));
    }

    #[tokio::test]
    async fn g8_a_panicking_handler_ends_neither_its_link_nor_its_lane() {
        let server = echo().handle("echo.panic", |_| async { panic!("on purpose") }).handle(
            "echo.panic_later",
            |_| async {
                tokio::task::yield_now().await;
                panic!("on purpose")
            },
        );
        let links = server.links();
        let (address, _task) = start(server).await;
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        for (sequence, command) in (1..).zip(["echo.panic", "echo.panic_later"]) {
            gateway.request("alice", command, sequence, "", &pb::MessageReq::default()).await;
        }
        say(&mut gateway, "alice", 3).await;
        assert_eq!(gateway.packet().await.0.sequence, 3);
        assert_eq!(links.count(LinkEvent::HandlerPanicked), 2);
    }

    /// G2: a gateway that reads nothing loses its link, and with it everything not yet written.
    #[tokio::test]
    async fn g2_a_full_queue_cuts_the_link_and_leaves_no_gap() {
        let server = echo().limits(LinkLimits { queued_packets: 8, ..LinkLimits::default() });
        let links = server.links();
        let (address, _task) = start(server).await;
        let mut stalled = TestGateway::link(address, "gate01", Dialect::XIm).await;
        let mut healthy = TestGateway::link(address, "gate02", Dialect::XIm).await;
        let mut sent = 0;
        loop {
            let push = Push { sequence: sent, body: vec![0; 64 * KIB].into(), ..Push::default() };
            if links.push(&push, &[Target { gateway: "gate01", channel: "c" }]) == 0 {
                break;
            }
            sent += 1;
            assert!(sent < 10_000, "nothing stops the queue from growing");
            tokio::task::yield_now().await;
        }
        assert_eq!(links.count(LinkEvent::DroppedFull), 1);
        let mut received = 0;
        while let Some(frame) = stalled.frame().await {
            let Packet::Logic(packet) = Packet::decode(&frame.payload).unwrap() else { panic!("{frame:?}") };
            assert_eq!(pb::Header::decode(packet.header).unwrap().sequence, received);
            received += 1;
        }
        assert!(received < sent);
        // Every push is accounted for: in the gateway's hands, in the kernel's when it was cut, or lost.
        let lost = links.count(LinkEvent::LostUnwritten);
        assert!(lost > 0 && lost <= u64::from(sent - received), "{lost} lost of {sent}, {received} received");
        healthy.ping().await;
        assert_eq!(links.gateways(), ["gate02"]);
        // After the cut nothing is sent that the gateway could take for the next in order.
        assert_eq!(links.push(&Push::default(), &[Target { gateway: "gate01", channel: "c" }]), 0);
        assert!(links.count(LinkEvent::DroppedNotLinked) + links.count(LinkEvent::DroppedClosed) >= 1);
    }

    #[tokio::test]
    async fn a_cut_ends_a_link_without_a_word() {
        let server = echo();
        let links = server.links();
        let (address, _task) = start(server).await;
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        assert!(links.cut("gate01"));
        assert_eq!(gateway.frame().await, None);
        assert!(!links.cut("gate02"));
    }

    #[tokio::test]
    async fn a_shutdown_lets_handlers_answer_and_then_says_farewell() {
        let gate = Arc::new(Notify::new());
        let (begun, mut begins) = mpsc::channel(16);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let server = slow(&gate, begun);
        let serving = tokio::spawn(server.serve(listener, async move { stopped.notified().await }));
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        say(&mut gateway, "slow", 1).await;
        assert_eq!(begins.recv().await, Some(1));
        stop.notify_one();
        gate.notify_one();
        gateway.expect_status(Status::Success).await;
        let farewell = gateway.frame().await.unwrap();
        assert_eq!((farewell.opcode, &farewell.payload[..]), (Opcode::Close, STOPPING));
        drop(gateway);
        timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
    }

    /// What the library makes of a forwarded request, and the answer's bytes.
    #[tokio::test]
    async fn a_reply_goes_to_the_requester_by_metas_of_type_string() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let server = LogicServer::speaking("chat", Dialect::Kim).fallback(move |request| {
            log.lock()
                .unwrap()
                .extend([request.account(), request.app(), request.gateway()].map(str::to_owned));
            async move { request.reply(Status::NoDestination, &b"why"[..]) }
        });
        let (address, _task) = start(server).await;
        let mut gateway = TestGateway::link(address, "gate01", Dialect::Kim).await;
        let header = pb::Header {
            command: "chat.user.talk".to_owned(),
            channel_id: "gate01_alice_7".to_owned(),
            sequence: 42,
            dest: "bob".to_owned(),
            // The last of two counts, and its type does not.
            meta: vec![
                meta("account", "mallory"),
                meta("app", "x_im"),
                pb::Meta { r#type: pb::MetaType::Int as i32, ..meta("account", "alice") },
                meta("dest.server", "gate01"),
            ],
            ..Default::default()
        };
        gateway.write(&encode_message(Dialect::Kim, &header, Bytes::new()).to_bytes()).await;
        let (answer, body) = gateway.packet().await;
        assert_eq!(*seen.lock().unwrap(), ["alice", "x_im", "gate01"]);
        let expected = pb::Header {
            flag: pb::Flag::Response as i32,
            status: Status::NoDestination as i32,
            meta: vec![meta("dest.server", "gate01"), meta("dest.channels", "gate01_alice_7")],
            ..header
        };
        assert_eq!((answer, &body[..]), (expected, &b"why"[..]));
    }
}
