//! Version 2: 16 bytes, addresses, and fields of type, length and value.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::checksum::crc32c;
use super::header::{ProxyHeader, ProxyHeaderError, ProxyPrefix};
use crate::limits::PROXY_HEADER;

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and protocol, length of what follows.
const FIXED: usize = 16;

/// Version 2 in the upper half, the command in the lower one.
const LOCAL: u8 = 0x20;

/// See [`LOCAL`].
const PROXY: u8 = 0x21;

/// What carries bytes between the balancer and its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProxiedTransport {
    Unspecified,
    Tcp4,
    Tcp6,
    Unix,
}

impl ProxiedTransport {
    /// Datagrams cannot have become the stream that this is.
    const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0x00 => Self::Unspecified,
            0x11 => Self::Tcp4,
            0x21 => Self::Tcp6,
            0x31 => Self::Unix,
            _ => return None,
        })
    }

    /// Both addresses and ports, bytes.
    const fn addresses(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::Tcp4 => 2 * (4 + 2),
            Self::Tcp6 => 2 * (16 + 2),
            Self::Unix => 2 * 108,
        }
    }
}

/// Reads bytes that begin with [`SIGNATURE`], or are a part of it. What is wrong is said with the first byte that shows
/// it.
pub(super) fn parse(bytes: &[u8]) -> Result<ProxyPrefix, ProxyHeaderError> {
    let at = |index: usize| bytes.get(SIGNATURE.len() + index).copied();
    let Some(command) = at(0) else { return Ok(ProxyPrefix::Incomplete) };
    if !matches!(command, LOCAL | PROXY) {
        return Err(ProxyHeaderError::Command);
    }
    let Some(family) = at(1) else { return Ok(ProxyPrefix::Incomplete) };
    // Of the balancer itself, which is to be ignored.
    let carrier = match command {
        LOCAL => ProxiedTransport::Unspecified,
        _ => ProxiedTransport::of(family).ok_or(ProxyHeaderError::Family)?,
    };
    let (Some(high), Some(low)) = (at(2), at(3)) else { return Ok(ProxyPrefix::Incomplete) };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > PROXY_HEADER || len < FIXED + carrier.addresses() {
        return Err(ProxyHeaderError::Length);
    }
    let Some(header) = bytes.get(..len) else { return Ok(ProxyPrefix::Incomplete) };
    let client = client(carrier, &header[FIXED..]);
    if carrier != ProxiedTransport::Unspecified {
        check_fields(header, FIXED + carrier.addresses())?;
    }
    Ok(ProxyPrefix::Complete(ProxyHeader { len, client }))
}

/// The sender's address, behind which stand the receiver's and both ports.
fn client(carrier: ProxiedTransport, addresses: &[u8]) -> Option<SocketAddr> {
    let port = |at: usize| addresses[at..].first_chunk().map(|port| u16::from_be_bytes(*port));
    match carrier {
        ProxiedTransport::Unspecified | ProxiedTransport::Unix => None,
        ProxiedTransport::Tcp4 => {
            addresses.first_chunk::<4>().zip(port(8)).map(|(ip, port)| (Ipv4Addr::from(*ip), port).into())
        }
        ProxiedTransport::Tcp6 => {
            addresses.first_chunk::<16>().zip(port(32)).map(|(ip, port)| (Ipv6Addr::from(*ip), port).into())
        }
    }
}

/// The fields behind the addresses fill the rest. None of them is used; the checksum, which covers the whole header with
/// zeros in its own place, is verified.
fn check_fields(header: &[u8], mut at: usize) -> Result<(), ProxyHeaderError> {
    const CHECKSUM: u8 = 3;
    while at < header.len() {
        let Some([kind, high, low]) = header[at..].first_chunk() else { return Err(ProxyHeaderError::Field) };
        let begin = at + 3;
        let end = begin + usize::from(u16::from_be_bytes([*high, *low]));
        let value = header.get(begin..end).ok_or(ProxyHeaderError::Field)?;
        if *kind == CHECKSUM {
            let said: [u8; 4] = value.try_into().map_err(|_| ProxyHeaderError::Field)?;
            if crc32c([&header[..begin], &[0; 4], &header[end..]]) != u32::from_be_bytes(said) {
                return Err(ProxyHeaderError::Checksum);
            }
        }
        at = end;
    }
    Ok(())
}
