//! Connection ids for a balancer that speaks QUIC-LB: each leads to this gateway, and within it to the worker that drew it.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid, RandomConnectionIdGenerator};
use tracing::warn;

use crate::config::{QuicLb, QuicLbKey};
use crate::monitor::metrics::{Reject, WorkerMetrics};
use crate::server::quic_lb::{LbCodec, Nonces, unroutable_octet};
use crate::server::steering::{SteeringByte, WorkerSlot};

/// Draws ids of one worker, and knows them again, also those of an earlier process with the same configuration.
///
/// The filter in the kernel cannot decrypt, so ids are drawn until their last byte, which is of the nonce or of the
/// ciphertext, names the worker. Workers count nonces on their own: of any nonce only one of them takes the id.
pub(crate) struct LbIds {
    codec: LbCodec,
    nonces: Nonces,
    steering: SteeringByte,
    slot: WorkerSlot,
    metrics: Arc<WorkerMetrics>,
    has_warned: bool,
}

impl LbIds {
    /// `key` and `start` are those of [`Nonces::new`].
    pub(crate) fn new(
        lb: &QuicLb,
        key: &QuicLbKey,
        start: u64,
        slot: WorkerSlot,
        metrics: Arc<WorkerMetrics>,
    ) -> Self {
        Self {
            codec: LbCodec::new(lb),
            nonces: Nonces::new(key, start, lb.nonce_length),
            steering: SteeringByte::of(Some(lb)),
            slot,
            metrics,
            has_warned: false,
        }
    }

    /// A random id that says of itself that no balancer can read it. Packets with it go where their addresses lead.
    fn unroutable(&mut self) -> ConnectionId {
        if !self.has_warned {
            warn!(
                event = "quic_lb_nonces",
                "quic.lb.nonce_length: all nonces have been drawn; ids no longer lead to this gateway, and a client whose \
                 address changes is lost; use another quic.lb.config_id and longer nonces"
            );
            self.has_warned = true;
        }
        let mut random = RandomConnectionIdGenerator::new(self.steering.id_len);
        loop {
            let mut id = random.generate_cid();
            id[0] = unroutable_octet(id.len() - 1);
            if self.slot.owns(self.steering.read(&id)) {
                return id;
            }
        }
    }
}

impl ConnectionIdGenerator for LbIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let (codec, slot, steering) = (&self.codec, self.slot, self.steering);
        let mut drawn = self.nonces.by_ref().map(|nonce| codec.encode(&nonce.bytes, nonce.spare));
        // The byte looks random: this takes as many draws as there are workers, on average.
        drawn.find(|id| slot.owns(steering.read(id))).unwrap_or_else(|| self.unroutable())
    }

    /// An unknown id of ours gets a stateless reset. One of another gateway or worker is dropped: its connection lives
    /// on over there (row H8).
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let stranger = if !self.codec.is_own(id) {
            Reject::QuicOtherServer
        } else if !self.slot.owns(self.steering.read(id)) {
            Reject::QuicMisdirected
        } else {
            return Ok(());
        };
        self.metrics.reject(stranger);
        Err(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        self.steering.id_len
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::session::fixtures::TestMetrics;

    const KEYS: [Option<QuicLbKey>; 2] = [None, Some(QuicLbKey([9; 16]))];

    fn lb(server_id: &[u8], nonce_length: usize, key: Option<QuicLbKey>) -> QuicLb {
        QuicLb { config_id: 2, server_id: server_id.to_vec(), nonce_length, key, encode_length: false }
    }

    fn ids(lb: &QuicLb, start: u64, index: usize, of: usize, test_metrics: &TestMetrics) -> LbIds {
        let metrics = Arc::clone(&test_metrics.worker);
        LbIds::new(lb, &QuicLbKey([3; 16]), start, WorkerSlot { index, of }, metrics)
    }

    #[test]
    fn h8_an_id_leads_to_one_worker_of_one_gateway_and_only_that_one_knows_it() {
        // In clear and under both algorithms, those of AWS and a single pass among them.
        for (server, nonce, key) in [(8, 7, KEYS[0]), (8, 7, KEYS[1]), (8, 8, KEYS[1]), (1, 4, KEYS[1])] {
            for of in [1, 2, 3, 8] {
                let test_metrics = TestMetrics::new();
                let (here, there) = (lb(&[1; 15][..server], nonce, key), lb(&[2; 15][..server], nonce, key));
                for index in 0..of {
                    let mut own = ids(&here, 5, index, of, &test_metrics);
                    for _ in 0..50 {
                        let id = own.generate_cid();
                        assert_eq!((id.len(), id[0] >> 5), (own.cid_len(), 2));
                        assert_eq!(usize::from(id[id.len() - 1]) % of, index);
                        for other in 0..of {
                            let knows = |lb| ids(lb, 9, other, of, &test_metrics).validate(&id).is_ok();
                            assert_eq!((knows(&here), knows(&there)), (other == index, false));
                        }
                    }
                }
                let [workers, of] = [of as i64, 50 * of as i64];
                assert_eq!(test_metrics.rejects(Reject::QuicMisdirected), of * (workers - 1));
                assert_eq!(test_metrics.rejects(Reject::QuicOtherServer), of * workers);
            }
        }
    }

    #[test]
    fn c19_ids_of_earlier_processes_and_of_other_workers_are_not_drawn_again() {
        const IDS: usize = 20_000;
        let test_metrics = TestMetrics::new();
        for key in KEYS {
            let lb = lb(&[1; 8], 7, key);
            let mut seen = HashSet::new();
            for (start, index) in [(u64::MAX - 5, 0), (u64::MAX - 5, 1), (1 << 50, 0), (1 << 50, 1)] {
                let mut own = ids(&lb, start, index, 2, &test_metrics);
                // The first byte may differ between two ids of the same nonce.
                (0..IDS).for_each(|_| assert!(seen.insert(own.generate_cid()[1..].to_vec())));
            }
            assert_eq!(seen.len(), 4 * IDS);
        }
    }

    #[test]
    fn ids_without_a_nonce_say_that_they_are_unroutable_and_find_their_worker() {
        let test_metrics = TestMetrics::new();
        let lb = lb(&[1, 2, 3], 4, KEYS[1]);
        let mut own = ids(&lb, 0, 1, 3, &test_metrics);
        own.nonces = Nonces::new(&QuicLbKey([3; 16]), 0, 1);
        assert_eq!(own.nonces.by_ref().count(), 256);
        let drawn: HashSet<_> = (0..1_000).map(|_| own.generate_cid()).collect();
        assert_eq!(drawn.len(), 1_000);
        for id in drawn {
            assert_eq!((id.len(), id[0]), (8, 0b111_00111));
            assert_eq!(id[7] % 3, 1);
            assert!(own.validate(&id).is_err(), "nobody can tell whose it is");
        }
    }

    /// Chi-square with 3 degrees of freedom is above 16.27 once in a thousand; nothing here is drawn at random.
    #[test]
    fn four_workers_have_equal_shares_and_an_id_takes_four_draws() {
        const NONCES: usize = 40_000;
        let test_metrics = TestMetrics::new();
        for (server, nonce, key) in [(8, 7, KEYS[0]), (3, 4, KEYS[1]), (8, 8, KEYS[1]), (10, 9, KEYS[1])] {
            let lb = lb(&[1; 15][..server], nonce, key);
            let mut own = ids(&lb, 77, 2, 4, &test_metrics);
            let mut share = [0.0; 4];
            for nonce in own.nonces.by_ref().take(NONCES) {
                let id = own.codec.encode(&nonce.bytes, nonce.spare);
                share[usize::from(own.steering.read(&id)) % 4] += 1.0;
            }
            let expected = NONCES as f64 / 4.0;
            let chi_square: f64 = share.iter().map(|count| (count - expected).powi(2) / expected).sum();
            assert!(chi_square < 16.27, "{chi_square}: {share:?}");

            let (begun, before) = (std::time::Instant::now(), own.nonces.drawn());
            let ids: Vec<_> = (0..NONCES / 4).map(|_| own.generate_cid()).collect();
            let (took, draws) = (begun.elapsed() / ids.len() as u32, own.nonces.drawn() - before);
            let draws = draws as f64 / ids.len() as f64;
            println!(
                "{} bytes: shares {share:?}, chi-square {chi_square:.2}, {draws:.2} draws and {took:?} an id",
                ids[0].len()
            );
            assert!((3.8..4.2).contains(&draws), "{draws} draws for an id");
        }
    }
}
