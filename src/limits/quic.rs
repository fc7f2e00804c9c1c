//! Bounds that only QUIC has.

use std::time::Duration;

use super::KIB;

/// Bytes that may be sent for each byte that came from an address which has not proven itself (RFC 9000 section 8).
pub const AMPLIFICATION: u32 = 3;

/// Addresses whose account is kept while they have not proven themselves, per QUIC socket (16 bytes each, 1 MiB). Those
/// heard last stay: at 8,000 forged addresses a second one stays for 8 s, and a handshake takes less than one.
pub const UNPROVEN_ADDRESSES: usize = 1 << 16;

/// Changes of a QUIC client's address in a minute; more is abuse. A phone between two networks makes a few, an
/// address translator that forgets quickly one with each keep-alive.
pub const ADDRESS_CHANGES_PER_MINUTE: usize = 120;

/// How long a client may take to come back with a Retry token: a client gives up sooner.
pub const RETRY_TOKEN_LIFETIME: Duration = Duration::from_secs(10);

/// How long a client that comes back is believed to have its address still (row C3; quinn's default is two weeks). Most
/// come back within minutes, and a provider may give the address to somebody else.
pub const NEW_TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Tokens given to a client that has proven its address: it needs one to come back, and gets another then.
pub const NEW_TOKENS: u32 = 1;

/// Memory of the log that lets a token be used once, per QUIC socket, bytes: exact for the first 20,000 or so of a
/// lifetime, then a filter that takes some unused tokens for used ones, which costs their clients nothing but the 3×.
pub const TOKEN_LOG_BYTES: usize = 512 * KIB;

/// Tokens the filter of that log is made for, in a lifetime.
pub const TOKEN_LOG_USES: u64 = 100_000;

/// First estimate of the round trip to a QUIC client: half of quinn's, so that a lost first flight is sent again
/// sooner.
pub const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Connection attempts quinn keeps that were not looked at yet (row C2); its default is 65,536.
pub const MAX_INCOMING: usize = 4096;

/// And the bytes they may hold; quinn's default is 100 MiB.
pub const MAX_INCOMING_BYTES: u64 = 8 * 1024 * KIB as u64;

/// Between two stateless resets of one endpoint: none, so that every former peer learns from its first packet that its
/// connection is gone (row C19). quinn's 20 ms would need 40 s to tell 2,000 of them. Any pause at all allows one in each
/// turn of quinn's loop, which reads the clock once a turn: with 100 µs half of the packets got none, and a client that
/// sends once a second learned after up to 4.5 s. A reset is always shorter than the packet it answers, so nobody can be
/// flooded with them.
pub const MIN_RESET_INTERVAL: Duration = Duration::ZERO;
