//! How far a change of each key reaches while a gateway runs: it applies, or it needs a restart.

/// Keys whose change needs a restart: who the gateway is to others, what it listens on, and what every channel or log line
/// was made with. Everything else applies; a test holds that each key stands in one of the two lists.
pub(super) const FIXED: &[&str] = &[
    "gateway.id",
    "gateway.workers",
    "gateway.dialect",
    "gateway.state_file",
    "quic.listen",
    "quic.key_file",
    "tcp.listen",
    "tcp.tls_listen",
    "login.service",
    "discovery.kind",
    "monitor.listen",
    "admin.socket",
    "log.format",
];

