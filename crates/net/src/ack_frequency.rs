//! How often a peer is asked to acknowledge (draft-ietf-quic-ack-frequency-07). Peers that do not know the extension, which
//! are most stacks but quinn, do as RFC 9000 section 13.2 says: every second packet, and within 25 ms.

use std::time::Duration;

use quinn::{AckFrequencyConfig, VarInt};

/// How long the acknowledgement of a packet may wait for others, or for an answer it can leave with. The sender waits for so
/// long beyond the round trip before it takes a lone packet for lost: a lost message on a good path costs some 7 ms instead
/// of 27. Messages are mostly answered within it, so it hardly adds packets.
const MAX_DELAY: Duration = Duration::from_millis(4);

/// Packets that need not be acknowledged at once. In a burst of pushes each acknowledgement is a datagram that the gateway
/// has to read, for all of its clients.
const THRESHOLD: u32 = 8;

/// What both ends of a connection ask of each other.
pub fn ack_frequency() -> AckFrequencyConfig {
    let mut config = AckFrequencyConfig::default();
    config.max_ack_delay(Some(MAX_DELAY)).ack_eliciting_threshold(VarInt::from_u32(THRESHOLD));
    config
}
