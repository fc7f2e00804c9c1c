//! The file of the QUIC keys: three lines of `name hex`, made by `gateway certs`.

use std::fmt;

use aws_lc_rs::rand;

use super::hex::{hex, parse_hex};

/// Why a file of QUIC keys is refused; no text holds a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuicKeysError {
    /// A line is missing.
    #[error("the line {0:?} is missing")]
    Missing(&'static str),
    /// A line is not `name hex`, of the right length, and once in the file.
    #[error("line {0} is not one of: reset and 128 hex digits, token and 128, connection_id and 16")]
    Line(usize),
}

/// The system has no random numbers to give.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// Keys that must survive a restart, so that a restarted gateway can tell its former peers (row C19).
#[derive(Clone, PartialEq, Eq)]
pub struct QuicKeys {
    /// HMAC key of stateless resets.
    pub reset: [u8; 64],
    /// Master key of Retry and address-validation tokens.
    pub token: [u8; 64],
    /// Key by which connection ids are recognised as ours.
    pub connection_id: u64,
}

impl fmt::Debug for QuicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuicKeys(***)")
    }
}

impl QuicKeys {
    /// New random keys.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        let (mut reset, mut token, mut connection_id) = ([0; 64], [0; 64], [0; 8]);
        for buffer in [&mut reset[..], &mut token[..], &mut connection_id[..]] {
            rand::fill(buffer).map_err(|_| NoRandomness)?;
        }
        Ok(Self { reset, token, connection_id: u64::from_be_bytes(connection_id) })
    }

    /// Reads the text of a key file. Empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// [`QuicKeysError`].
    pub fn parse(text: &str) -> Result<Self, QuicKeysError> {
        let (mut reset, mut token, mut connection_id) = (None, None, None);
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let taken = match line.split_once(' ') {
                Some(("reset", hex)) => put(&mut reset, parse_hex::<64>(hex)),
                Some(("token", hex)) => put(&mut token, parse_hex::<64>(hex)),
                Some(("connection_id", hex)) => put(&mut connection_id, parse_hex::<8>(hex)),
                _ => None,
            };
            taken.ok_or(QuicKeysError::Line(index + 1))?;
        }
        Ok(Self {
            reset: reset.ok_or(QuicKeysError::Missing("reset"))?,
            token: token.ok_or(QuicKeysError::Missing("token"))?,
            connection_id: connection_id
                .map(u64::from_be_bytes)
                .ok_or(QuicKeysError::Missing("connection_id"))?,
        })
    }

    /// The text that [`QuicKeys::parse`] reads. It is a secret.
    pub fn to_text(&self) -> String {
        format!(
            "# QUIC keys of a gateway: keep them secret, and keep them over restarts.\n\
             reset {}\ntoken {}\nconnection_id {}\n",
            hex(&self.reset),
            hex(&self.token),
            hex(&self.connection_id.to_be_bytes())
        )
    }
}

/// Fills an empty place; none if there is no value or the place is taken.
fn put<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    if place.is_some() {
        return None;
    }
    *place = Some(value?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c19_keys_survive_their_file_and_differ_between_files() {
        let keys = QuicKeys::generate().unwrap();
        let read = QuicKeys::parse(&keys.to_text()).unwrap();
        assert_eq!((read.reset, read.token), (keys.reset, keys.token));
        assert_eq!(read.connection_id, keys.connection_id);
        assert_ne!(keys.reset, QuicKeys::generate().unwrap().reset);
        assert_eq!(format!("{keys:?}"), "QuicKeys(***)");
    }

    #[test]
    fn what_is_no_key_file_is_refused_by_line() {
        let good = QuicKeys::generate().unwrap().to_text();
        let without_last = good.lines().take(3).collect::<Vec<_>>().join("\n");
        assert_eq!(QuicKeys::parse(&without_last).unwrap_err(), QuicKeysError::Missing("connection_id"));
        assert_eq!(QuicKeys::parse("").unwrap_err(), QuicKeysError::Missing("reset"));
        for (text, line) in [
            ("reset 00", 1),
            ("\n\nreset zz", 3),
            ("something", 1),
            (&format!("{good}connection_id 0011223344556677"), 5),
            (&format!("token {}", "é".repeat(64)), 1),
        ] {
            assert_eq!(QuicKeys::parse(text).unwrap_err(), QuicKeysError::Line(line), "{text}");
        }
    }
}
