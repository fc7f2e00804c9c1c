//! The file of the keys of TLS tickets: one line of `key hex` for each, the newest first, made and rotated by `gateway
//! certs --rotate-tickets`.

use std::fmt;

use aws_lc_rs::rand;

use super::hex::{hex, parse_hex};
use super::quic::NoRandomness;

/// Keys in use: the newest and those before it, with which tickets are still taken.
const KEPT: usize = 3;

/// Why a file of ticket keys is refused; no text holds a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketKeysError {
    /// There is no key.
    #[error("there is no line of: key and 64 hex digits")]
    Missing,
    /// A line is something else.
    #[error("line {0} is not: key and 64 hex digits")]
    Line(usize),
    /// A key stands twice: a rotation that brought nothing new.
    #[error("line {0} holds a key that stands above it")]
    Twice(usize),
    /// More keys than are used.
    #[error("line {0} is a key too many: the newest {KEPT} are used, the newest stands first")]
    TooMany(usize),
}

/// Keys of TLS tickets, the newest first: with that one tickets are sealed, and with all of them they are opened. Gateways
/// with the same keys take each other's.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKeys(Vec<[u8; 32]>);

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys(***)")
    }
}

impl TicketKeys {
    /// One random key.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        Self(Vec::new()).rotated()
    }

    /// These keys behind a new random one; the oldest goes.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn rotated(&self) -> Result<Self, NoRandomness> {
        let mut key = [0; 32];
        rand::fill(&mut key).map_err(|_| NoRandomness)?;
        Ok(Self(std::iter::once(key).chain(self.0.iter().copied()).take(KEPT).collect()))
    }

    /// The newest first; at least one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.0.iter()
    }

    /// Reads the text of a key file. Empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// [`TicketKeysError`].
    pub fn parse(text: &str) -> Result<Self, TicketKeysError> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (line, number) = (line.trim(), index + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = line.strip_prefix("key ").and_then(parse_hex);
            let key: [u8; 32] = key.ok_or(TicketKeysError::Line(number))?;
            if keys.contains(&key) {
                return Err(TicketKeysError::Twice(number));
            }
            if keys.len() == KEPT {
                return Err(TicketKeysError::TooMany(number));
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(TicketKeysError::Missing) } else { Ok(Self(keys)) }
    }

    /// The text that [`TicketKeys::parse`] reads. It is a secret.
    pub fn to_text(&self) -> String {
        let comment = "# Keys of TLS tickets, the newest first: keep them secret, and the same on all gateways of a name.\n";
        self.0.iter().fold(comment.to_owned(), |text, key| text + "key " + &hex(key) + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_file_and_three_are_kept() {
        let mut keys = TicketKeys::generate().unwrap();
        let first = keys.0[0];
        for count in [2, 3, 3] {
            let next = keys.rotated().unwrap();
            assert_eq!(
                (next.0.len(), &next.0[1..]),
                (count, &keys.0[..count - 1]),
                "the newest stands first"
            );
            keys = next;
        }
        assert!(!keys.0.contains(&first), "after three rotations");
        assert_eq!(TicketKeys::parse(&keys.to_text()).unwrap(), keys);
        assert_eq!(format!("{keys:?}"), "TicketKeys(***)");
    }

    #[test]
    fn what_is_no_key_file_is_refused_by_line() {
        let key = |digit: &str| format!("key {}\n", digit.repeat(64));
        let three = key("1") + &key("2") + &key("3");
        assert!(TicketKeys::parse(&format!("\u{20}\n# from elsewhere\r\n{three}")).is_ok());
        for (text, error) in [
            (String::new(), TicketKeysError::Missing),
            ("# key\n\n".to_owned(), TicketKeysError::Missing),
            (key("1") + "key 12\n", TicketKeysError::Line(2)),
            ("reset 00".to_owned(), TicketKeysError::Line(1)),
            (key("g"), TicketKeysError::Line(1)),
            ("1".repeat(64), TicketKeysError::Line(1)),
            (key("1") + &key("1"), TicketKeysError::Twice(2)),
            (three + &key("4"), TicketKeysError::TooMany(4)),
        ] {
            assert_eq!(TicketKeys::parse(&text).unwrap_err(), error);
        }
    }
}
