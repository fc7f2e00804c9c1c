//! Certificates and keys that are read again while a gateway runs.

use aws_lc_rs::digest;

use super::identity::TlsIdentity;
use super::token_keys::TokenKey;
use crate::keys::TicketKeys;

/// Certificates and keys read again; none: as they run.
#[derive(Debug, Default)]
pub struct KeysAgain {
    /// Of the encrypted listeners.
    pub identity: Option<TlsIdentity>,
    /// Of TLS tickets.
    pub ticket_keys: Option<TicketKeys>,
    /// What verifies tokens.
    pub token_keys: Option<Vec<TokenKey>>,
}

/// What the files of certificates and keys hold, in short. Equal ones are the same for all that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysDigest(Vec<u8>);

impl KeysDigest {
    pub(super) fn of(digest: digest::Context) -> Self {
        Self(digest.finish().as_ref().to_vec())
    }
}
