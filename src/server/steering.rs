//! Which worker a QUIC packet belongs to: connection ids name their worker, and the kernel is told how to read them
//! (ARCHITECTURE §5).
//!
//! A client that changes its address keeps its connection id, so its packets still reach the worker that has its
//! session; by the kernel's own rule, a hash of the addresses, they would reach any.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid, RandomConnectionIdGenerator};

use crate::config::QuicLb;
use crate::monitor::metrics::{Reject, WorkerMetrics};

/// One worker among those that share a UDP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerSlot {
    /// From 0, below `of`; sockets are bound in this order.
    pub(crate) index: usize,
    /// How many share the port, 1 to 256: a byte of a connection id tells them apart.
    pub(crate) of: usize,
}

impl WorkerSlot {
    /// Returns `true` if this steering byte names this worker. The kernel reckons the same way, see [`program`].
    pub(crate) fn owns(self, byte: u8) -> bool {
        usize::from(byte) % self.of == self.index
    }
}

/// Which byte of a connection id names the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SteeringByte {
    /// Bytes of every id of ours.
    pub(crate) id_len: usize,
    /// Below `id_len`.
    at: usize,
}

impl SteeringByte {
    /// The first, or the last where the first ones are a balancer's.
    pub(crate) fn of(lb: Option<&QuicLb>) -> Self {
        match lb.map(QuicLb::id_len) {
            Some(id_len) => Self { id_len, at: id_len - 1 },
            None => Self { id_len: NONCE + CHECK, at: 0 },
        }
    }

    /// The byte of an id of ours.
    pub(crate) fn read(self, id: &ConnectionId) -> u8 {
        id.get(self.at).copied().unwrap_or_default()
    }
}

/// Random bytes of a connection id. An id that the process before had given to a client must not be drawn again while
/// that client still uses it: its packets would count as those of the new connection, and it would never be told that
/// its own is gone (row C19). With a million clients of eight ids each, three restarts in a hundred would leave one of
/// them to its idle timeout. quinn's own signed ids have three random bytes: there, 3 restarts of 80 left one of 667.
const NONCE: usize = 6;

/// Bytes that tell an id of ours from noise, which gets no stateless reset. Forging one gains nothing.
const CHECK: usize = 2;

/// Makes connection ids that name their worker, and knows them again, also those of an earlier process with the same
/// key.
pub(crate) struct WorkerIds {
    nonces: RandomConnectionIdGenerator,
    key: hmac::Key,
    slot: WorkerSlot,
    metrics: Arc<WorkerMetrics>,
}

impl WorkerIds {
    pub(crate) fn new(key: u64, slot: WorkerSlot, metrics: Arc<WorkerMetrics>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key.to_be_bytes());
        Self { nonces: RandomConnectionIdGenerator::new(NONCE), key, slot, metrics }
    }

    fn check(&self, nonce: &[u8]) -> [u8; CHECK] {
        let tag = hmac::sign(&self.key, nonce);
        std::array::from_fn(|at| tag.as_ref()[at])
    }
}

impl ConnectionIdGenerator for WorkerIds {
    fn generate_cid(&mut self) -> ConnectionId {
        // The first byte is random: this takes as many draws as there are workers, on average.
        loop {
            let nonce = self.nonces.generate_cid();
            if self.slot.owns(nonce[0]) {
                let mut id = [0; NONCE + CHECK];
                id[..NONCE].copy_from_slice(&nonce);
                id[NONCE..].copy_from_slice(&self.check(&nonce));
                return ConnectionId::new(&id);
            }
        }
    }

    /// An id of another worker is dropped. A stateless reset, which an unknown id of ours gets, would end a session
    /// that lives on over there.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let (nonce, check) = id.split_at_checked(NONCE).ok_or(InvalidCid)?;
        if check != self.check(nonce) {
            return Err(InvalidCid);
        }
        if self.slot.owns(id[0]) {
            return Ok(());
        }
        self.metrics.reject(Reject::QuicMisdirected);
        Err(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        NONCE + CHECK
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Has the kernel hand each packet to the worker its connection id names. `first` is the first bound socket of the
/// group; those bound later with SO_REUSEPORT join it in order.
///
/// # Errors
/// The kernel does not allow it, or the system is not Linux.
#[cfg(target_os = "linux")]
pub(crate) fn steer(first: &UdpSocket, workers: usize, byte: SteeringByte) -> io::Result<()> {
    use nix::libc::sock_fprog;
    use nix::sys::socket::{setsockopt, sockopt};

    let workers = u32::try_from(workers).map_err(io::Error::other)?;
    let mut filter = program(workers, byte);
    let len = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len, filter: filter.as_mut_ptr() };
    Ok(setsockopt(first, sockopt::AttachReusePortCbpf, &program)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn steer(_first: &UdpSocket, _workers: usize, _byte: SteeringByte) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The filter, for the kernel's classic BPF machine. It sees the UDP payload and returns the position of a socket in
/// its group. A packet that is too short yields 0.
///
/// A connection id stands at 6 behind a long header's flags, version and length, and at 1 behind a short header's flags
/// (RFC 8999 section 5). A client's very first packets carry an id it drew itself: that one chooses the worker, which
/// answers with an id of its own. It may have any length from 8 bytes on, so where it is not as long as ours, its first
/// byte is read, and not one behind its end that differs from packet to packet.
#[cfg(target_os = "linux")]
fn program(workers: u32, byte: SteeringByte) -> [nix::libc::sock_filter; 11] {
    use nix::libc::{self, sock_filter};

    const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const IF_ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
    const REMAINDER: u32 = libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_A;
    const LONG_HEADER: u32 = 0x80;
    const LONG_ID: u32 = 6;
    const SHORT_ID: u32 = 1;

    // A connection id has 20 bytes at most.
    let [id_len, at] = [byte.id_len, byte.at].map(|value| value as u32);
    [
        (LOAD_BYTE, 0, 0),
        (IF_ANY_BIT, LONG_HEADER, 6),
        (LOAD_BYTE, LONG_ID - 1, 0),
        (IF_EQUAL, id_len, 2),
        (LOAD_BYTE, LONG_ID + at, 0),
        (JUMP, 3, 0),
        (LOAD_BYTE, LONG_ID, 0),
        (JUMP, 1, 0),
        (LOAD_BYTE, SHORT_ID + at, 0),
        (REMAINDER, workers, 0),
        (RETURN, 0, 0),
    ]
    .map(|(code, k, jf)| sock_filter { code: code as u16, jt: 0, jf, k })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::fixtures::TestMetrics;

    fn ids(key: u64, index: usize, of: usize, test_metrics: &TestMetrics) -> WorkerIds {
        WorkerIds::new(key, WorkerSlot { index, of }, Arc::clone(&test_metrics.worker))
    }

    #[test]
    fn an_id_names_its_worker_and_only_that_one_knows_it() {
        for of in [1, 2, 3, 8] {
            for index in 0..of {
                let test_metrics = TestMetrics::new();
                let mut own = ids(7, index, of, &test_metrics);
                for _ in 0..200 {
                    let id = own.generate_cid();
                    assert_eq!((id.len(), usize::from(id[0]) % of), (own.cid_len(), index));
                    for other in 0..of {
                        let known = ids(7, other, of, &test_metrics).validate(&id).is_ok();
                        assert_eq!(known, other == index, "worker {other} of {of} saw an id of {index}");
                    }
                }
                assert_eq!(test_metrics.rejects(Reject::QuicMisdirected), 200 * (of as i64 - 1));
            }
        }
    }

    #[test]
    fn c19_an_id_of_an_earlier_process_is_known_and_a_strangers_is_not_counted() {
        let test_metrics = TestMetrics::new();
        let id = ids(7, 1, 2, &test_metrics).generate_cid();
        assert!(ids(7, 1, 2, &test_metrics).validate(&id).is_ok(), "the same key");
        assert!(ids(8, 1, 2, &test_metrics).validate(&id).is_err(), "another key");
        assert!(ids(8, 0, 2, &test_metrics).validate(&id).is_err(), "another key and worker");
        assert_eq!(test_metrics.rejects(Reject::QuicMisdirected), 0, "a forged id names nobody");
    }

    #[test]
    fn c19_ids_of_an_earlier_process_are_not_drawn_again() {
        const IDS: usize = 50_000;
        let test_metrics = TestMetrics::new();
        let drawn = || {
            let mut process = ids(7, 0, 1, &test_metrics);
            std::iter::repeat_with(move || process.generate_cid()).take(IDS)
        };
        let before: std::collections::HashSet<_> = drawn().collect();
        assert_eq!(before.len(), IDS);
        assert_eq!(drawn().filter(|id| before.contains(id)).count(), 0);
    }

    #[test]
    fn what_is_no_id_is_not_known() {
        let test_metrics = TestMetrics::new();
        let mut own = ids(7, 0, 1, &test_metrics);
        let id = own.generate_cid();
        for at in 0..id.len() {
            let mut other = id.to_vec();
            other[at] ^= 1;
            assert!(own.validate(&ConnectionId::new(&other)).is_err(), "byte {at} differs");
        }
        for len in 0..id.len() {
            assert!(own.validate(&ConnectionId::new(&id[..len])).is_err(), "{len} bytes of it");
        }
    }

    /// What the kernel makes of the filter: real sockets, real packets.
    #[cfg(target_os = "linux")]
    #[rstest::rstest]
    #[case::of_our_own(SteeringByte::of(None))]
    #[case::of_a_balancer(SteeringByte { id_len: 16, at: 15 })]
    fn the_kernel_hands_every_packet_to_the_worker_its_id_names(#[case] byte: SteeringByte) {
        const WORKERS: usize = 3;
        let group = group(WORKERS, byte);
        let address = group[0].local_addr().unwrap();
        let sender = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let mut buffer = [0; 64];
        for value in 0..=u8::MAX {
            // No other byte may be taken for it.
            let packet = |flags: u8, id_at: usize, id_len: usize, at: usize| {
                let mut packet = [value.wrapping_add(1); 40];
                (packet[0], packet[id_at + at]) = (flags, value);
                if flags & 0x80 != 0 {
                    packet[id_at - 1] = id_len as u8;
                }
                packet
            };
            for packet in [
                packet(0xC3, 6, byte.id_len, byte.at),
                packet(0x43, 1, byte.id_len, byte.at),
                // The client's own: longer and shorter ones.
                packet(0xC3, 6, 20, 0),
                packet(0xC3, 6, 9, 0),
            ] {
                // Loopback delivers before the call returns.
                sender.send_to(&packet, address).unwrap();
                let at: Vec<_> = (0..WORKERS).filter(|at| group[*at].recv(&mut buffer).is_ok()).collect();
                assert_eq!(at, [usize::from(value) % WORKERS], "byte {value}, flags {:#x}", packet[0]);
            }
        }
        for short in [&[0xC3][..], &[0x43]] {
            sender.send_to(short, address).unwrap();
            assert!(group[0].recv(&mut buffer).is_ok(), "a packet that is too short goes to the first");
        }
    }

    /// Sockets of one port, with the filter.
    #[cfg(target_os = "linux")]
    fn group(workers: usize, byte: SteeringByte) -> Vec<UdpSocket> {
        use socket2::{Domain, Socket, Type};

        let mut address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let mut group: Vec<UdpSocket> = Vec::new();
        for _ in 0..workers {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).unwrap();
            let socket = UdpSocket::from(socket);
            address = socket.local_addr().unwrap();
            if group.is_empty() {
                steer(&socket, workers, byte).unwrap();
            }
            socket.set_nonblocking(true).unwrap();
            group.push(socket);
        }
        group
    }
}
