//! `[quic.lb]` as a person writes it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QuicLbTable {
    pub(super) server_id: String,
    #[serde(default = "aws_nonce_length")]
    pub(super) nonce_length: u64,
    #[serde(default)]
    pub(super) config_id: u64,
    #[serde(default)]
    pub(super) encode_length: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_file: Option<PathBuf>,
}

/// With a server id of 8 bytes it makes the ids of 16 that the balancer of AWS takes.
const fn aws_nonce_length() -> u64 {
    7
}
