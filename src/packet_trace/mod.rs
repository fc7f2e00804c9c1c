//! What the administrator watches of one account: each of its packets as a line, for a while. Bodies and tokens are in none.
//!
//! A worker whose channels nobody watches asks a flag of the channel and does nothing else. Lines go into a bounded queue;
//! what finds no place there is dropped and counted, and no worker waits for whoever reads.

mod packet;
mod tap;

pub(crate) use self::packet::{PacketKind, TracedPacket};
pub(crate) use self::tap::{Tap, TapReader, Taps, TraceSubject, tap};
