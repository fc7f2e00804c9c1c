//! The key of QUIC-LB, which the gateways behind a balancer share with it: a file of one line of hex.

use std::fmt;

use aws_lc_rs::rand;

use super::hex::{hex, parse_hex};
use super::quic::NoRandomness;

/// A file does not hold the key of QUIC-LB; the text does not hold it either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("does not hold one line of 32 hex digits, which are the 16 bytes of an AES-128 key")]
pub struct QuicLbKeyError;

/// Key of AES-128, for the connection ids that a balancer reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct QuicLbKey(pub [u8; 16]);

impl fmt::Debug for QuicLbKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuicLbKey(***)")
    }
}

impl QuicLbKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut key = [0; 16];
        rand::fill(&mut key).map_err(|_| NoRandomness)?;
        Ok(Self(key))
    }

    /// Reads the text of a key file. Empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// [`QuicLbKeyError`].
    pub fn parse(text: &str) -> Result<Self, QuicLbKeyError> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let key = lines.next().and_then(parse_hex).ok_or(QuicLbKeyError)?;
        if lines.next().is_some() {
            return Err(QuicLbKeyError);
        }
        Ok(Self(key))
    }

    /// The text that [`QuicLbKey::parse`] reads. It is a secret.
    pub fn to_text(&self) -> String {
        let key = hex(&self.0);
        format!("# QUIC-LB key of a balancer and all gateways behind it: keep it secret.\n{key}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file_and_is_never_shown() {
        let key = QuicLbKey::generate().unwrap();
        assert_eq!(QuicLbKey::parse(&key.to_text()), Ok(key));
        assert_eq!(QuicLbKey::parse(&key.to_text().to_uppercase()), Ok(key));
        assert_ne!(key, QuicLbKey::generate().unwrap());
        assert_eq!(format!("{key:?}"), "QuicLbKey(***)");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = "8f95f09245765f80256934e50c66207f";
        assert!(QuicLbKey::parse(good).is_ok());
        for bad in [
            "",
            "# nothing",
            &good[1..],
            &format!("{good}00"),
            &format!("{good}\n{good}"),
            &good.replace('f', "g"),
            "0123456789abcdef",
            &"é".repeat(16),
        ] {
            assert_eq!(QuicLbKey::parse(bad), Err(QuicLbKeyError), "{bad:?}");
        }
    }
}
