//! Version 1: one line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::header::{ProxyHeader, ProxyHeaderError, ProxyPrefix};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

const END: &[u8] = b"\r\n";

/// The longest line, with its end: what the specification allows.
const MAX_LINE: usize = 107;

/// Reads bytes that begin with [`SIGNATURE`], or are a part of it.
pub(super) fn parse(bytes: &[u8]) -> Result<ProxyPrefix, ProxyHeaderError> {
    let window = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        let is_too_long = bytes.len() >= MAX_LINE;
        return if is_too_long { Err(ProxyHeaderError::Line) } else { Ok(ProxyPrefix::Incomplete) };
    };
    let line = window[..=end].strip_suffix(END).ok_or(ProxyHeaderError::Line)?;
    let client = client(&line[SIGNATURE.len()..]).ok_or(ProxyHeaderError::Fields)?;
    Ok(ProxyPrefix::Complete(ProxyHeader { len: end + 1, client }))
}

/// The sender's address, and none for UNKNOWN; `None` if the fields are not what they should be.
fn client(fields: &[u8]) -> Option<Option<SocketAddr>> {
    // What stands behind it is to be ignored.
    if fields == b"UNKNOWN" || fields.starts_with(b"UNKNOWN ") {
        return Some(None);
    }
    let mut fields = std::str::from_utf8(fields).ok()?.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match fields.next()? {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let (client, _server) = (address(fields.next()?)?, address(fields.next()?)?);
    let (from, _to) = (port(fields.next()?)?, port(fields.next()?)?);
    fields.next().is_none().then_some(Some(SocketAddr::new(client, from)))
}

/// A number as it is written without signs and leading zeros, which `parse` would take.
fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port: &u16| port.to_string() == text)
}
