//! The header by which a balancer names the client whose connection it passes on, and what may be wrong with it.

use std::net::SocketAddr;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyPrefix {
    /// The beginning of a header, or of something that could still become one.
    Incomplete,
    /// The beginning of something else.
    Absent,
    /// A whole header.
    Complete(ProxyHeader),
}

/// A header that was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProxyHeader {
    /// What it takes of the connection's first bytes, bytes.
    pub(crate) len: usize,
    /// Whose connection it is; none where the header leaves that to the connection itself: LOCAL, UNKNOWN, UNSPEC, a Unix
    /// socket.
    pub(crate) client: Option<SocketAddr>,
}

/// Why a header is refused. Always the balancer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyHeaderError {
    /// Version 1 without the end of its line within the longest one.
    #[error("a line longer than 107 bytes, or one that does not end with CR LF")]
    Line,
    /// Version 1 with something else than its fields.
    #[error("the line is not PROXY, TCP4 or TCP6, two addresses and two ports, each behind one blank")]
    Fields,
    #[error("a version other than 2, or a command other than LOCAL and PROXY")]
    Command,
    #[error("an address family or protocol that a TCP connection does not have")]
    Family,
    #[error("a length that is above the bound, or too small for the addresses")]
    Length,
    #[error("a field (TLV) that reaches beyond the header, or a checksum that is not one")]
    Field,
    #[error("the checksum (CRC32C) does not match")]
    Checksum,
}
