//! `[quic.lb]`: what a balancer reads in the connection ids of this gateway.

use std::ops::RangeInclusive;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checker::Checker;
use super::error::ConfigError;
use crate::keys::{QuicLbKey, QuicLbKeyError};

/// Bytes of a server id (draft-ietf-quic-load-balancers-21 section 5.3 and appendix A).
const SERVER_ID_BYTES: RangeInclusive<usize> = 1..=15;

/// The same of a nonce.
const NONCE_BYTES: RangeInclusive<usize> = 4..=18;

/// Bytes of both: a connection id of QUIC has 20, and the first says which configuration it follows.
const MOST_BYTES: usize = 19;

/// What stands before the name of a variable.
const FROM_ENVIRONMENT: &str = "env:";

const SERVER_ID: &str = "quic.lb.server_id";

const SERVER_ID_ALLOWED: &str = "allowed are 1 to 15 bytes in hex, such as \"c4605e\" or \"0xc4605e\", or \"env:NAME\" \
                                 with the name of a variable that holds them in base64";

/// What connection ids say to a balancer (draft-ietf-quic-load-balancers-21). Server id and nonce have 19 bytes at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicLb {
    /// Which of the balancer's configurations the ids follow: 0 to 6.
    pub config_id: u8,
    /// Whom the ids lead to, 1 to 15 bytes.
    pub server_id: Vec<u8>,
    /// Bytes that make an id unique, 4 to 18.
    pub nonce_length: usize,
    /// Hides both from everyone else; none: they stand there in clear.
    pub key: Option<QuicLbKey>,
    /// The first byte says how many follow; otherwise its five bits are random.
    pub encode_length: bool,
}

impl QuicLb {
    /// Bytes of a connection id.
    pub(crate) fn id_len(&self) -> usize {
        1 + self.server_id.len() + self.nonce_length
    }
}

impl Checker<'_> {
    pub(super) fn quic_lb(&mut self) -> Result<Option<QuicLb>, ConfigError> {
        let Some(table) = &self.file.quic.lb else { return Ok(None) };
        let server_id = self.server_id(&table.server_id)?;
        let config_id = u8::try_from(table.config_id).ok().filter(|id| *id <= 6).ok_or_else(|| {
            self.error("quic.lb.config_id", format!("is {}; allowed are 0 to 6", table.config_id))
        })?;
        let nonce_length = self.nonce_length(table.nonce_length, server_id.len())?;
        let key = table.key_file.as_ref().map(|path| self.quic_lb_key(path)).transpose()?;
        Ok(Some(QuicLb { config_id, server_id, nonce_length, key, encode_length: table.encode_length }))
    }

    fn server_id(&self, text: &str) -> Result<Vec<u8>, ConfigError> {
        let refused = |problem| self.error(SERVER_ID, format!("{problem}; {SERVER_ID_ALLOWED}"));
        let bytes = match text.strip_prefix(FROM_ENVIRONMENT) {
            Some(name) => {
                let value = self.variable(name).ok_or_else(|| {
                    refused(format!("is {text:?}, and there is no such variable in the environment"))
                })?;
                STANDARD
                    .decode(value.trim())
                    .map_err(|_| refused(format!("is {text:?}, and what that variable holds is no base64")))?
            }
            None => hex_bytes(text.strip_prefix("0x").unwrap_or(text))
                .ok_or_else(|| refused(format!("is {text:?}")))?,
        };
        if SERVER_ID_BYTES.contains(&bytes.len()) {
            return Ok(bytes);
        }
        Err(refused(format!("is {text:?}, which makes {} bytes", bytes.len())))
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let environment = &self.options.environment;
        environment.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.to_str())
    }

    fn nonce_length(&self, asked: u64, server_id: usize) -> Result<usize, ConfigError> {
        let most = (MOST_BYTES - server_id).min(*NONCE_BYTES.end());
        let least = *NONCE_BYTES.start();
        let length = usize::try_from(asked).ok().filter(|length| (least..=most).contains(length));
        length.ok_or_else(|| {
            let problem = format!(
                "is {asked}; allowed are {least} to {most}, because server_id has {server_id} bytes and both together \
                 may have {MOST_BYTES}"
            );
            self.error("quic.lb.nonce_length", problem)
        })
    }

    fn quic_lb_key(&mut self, path: &Path) -> Result<QuicLbKey, ConfigError> {
        const KEY: &str = "quic.lb.key_file";
        const ALLOWED: &str = "allowed is a file of 32 hex digits, which the balancer has as well";
        let key = self.read_private(KEY, path, ALLOWED)?;
        let key = std::str::from_utf8(&key).ok().and_then(|text| QuicLbKey::parse(text).ok());
        key.ok_or_else(|| self.error(KEY, format!("{} {QuicLbKeyError}; {ALLOWED}", path.display())))
    }
}

fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
