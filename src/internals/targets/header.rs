//! The scan of a header against prost: what one reads the other reads, and what prost refuses the scan refuses. It refuses
//! groups as well, which prost skips, and what is beyond its bounds.

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::limits::Limits;
use crate::wire::header::{HeaderError, HeaderLimits, HeaderView};
use crate::wire::pb;

/// No bounds, as prost has none.
pub(super) const UNBOUNDED: HeaderLimits =
    HeaderLimits { bytes: usize::MAX, metas: usize::MAX, string: usize::MAX, channel_id: usize::MAX };

/// The number of `Header.meta`.
const META: u32 = 7;

/// A header.
pub fn target(data: &[u8]) {
    let scanned = HeaderView::scan(data, &UNBOUNDED);
    match (&scanned, pb::Header::decode(data)) {
        (Ok(view), Ok(decoded)) => check(view, &decoded, data),
        (Err(HeaderError::Malformed), Err(_)) => {}
        (Err(HeaderError::Malformed), Ok(_)) => assert!(has_group(data, true), "only groups differ"),
        (scanned, decoded) => panic!("scan {scanned:?}, prost {decoded:?}"),
    }
    for limits in [Limits::default().header(), HeaderLimits::BACKEND] {
        match (HeaderView::scan(data, &limits), &scanned) {
            (Ok(bounded), Ok(view)) => {
                assert_eq!(message(&bounded), message(view));
                assert!(is_within(view, &limits));
            }
            (Err(HeaderError::Malformed), Err(HeaderError::Malformed)) => {}
            // The bounds are looked at on the way: what is broken behind them is not seen.
            (Err(HeaderError::TooLong | HeaderError::TooManyMetas), Err(HeaderError::Malformed)) => {}
            (Err(HeaderError::TooLong | HeaderError::TooManyMetas), Ok(_)) => {}
            (bounded, scanned) => panic!("{bounded:?} within bounds, {scanned:?} without"),
        }
    }
}

fn check(view: &HeaderView<'_>, decoded: &pb::Header, data: &[u8]) {
    assert_eq!(message(view), *decoded);
    assert_eq!((view.meta_count, view.encoded_len()), (decoded.meta.len(), data.len()));
    assert_eq!(view.has_reserved_meta, decoded.meta.iter().any(is_reserved));
    for meta in &decoded.meta {
        let last = decoded.meta.iter().rfind(|other| other.key == meta.key);
        assert_eq!(view.last_meta(&meta.key), last.map(|last| last.value.as_str()));
    }
}

/// The header as prost would have decoded it.
pub(super) fn message(view: &HeaderView<'_>) -> pb::Header {
    pb::Header {
        command: view.command.to_owned(),
        channel_id: view.channel_id.to_owned(),
        sequence: view.sequence,
        flag: view.flag,
        status: view.status,
        dest: view.dest.to_owned(),
        meta: view
            .metas()
            .map(|meta| pb::Meta {
                key: meta.key_text().into(),
                value: meta.value_text().into(),
                r#type: meta.kind,
            })
            .collect(),
    }
}

/// Returns `true` for the metas that only the gateway may set (protocol §4.5).
pub(super) fn is_reserved(meta: &pb::Meta) -> bool {
    matches!(meta.key.as_str(), "app" | "account") || meta.key.starts_with("dest.")
}

fn is_within(view: &HeaderView<'_>, limits: &HeaderLimits) -> bool {
    view.encoded_len() - view.command.len() <= limits.bytes
        && view.meta_count <= limits.metas
        && view.channel_id.len() <= limits.channel_id
        && view.dest.len() <= limits.string
        && view.metas().all(|meta| meta.key.len().max(meta.value.len()) <= limits.string)
}

/// Returns `true` if a group begins or ends where a reader of a header, or of one of its metas, meets it.
fn has_group(mut rest: &[u8], is_header: bool) -> bool {
    while let Ok((number, wire_type)) = decode_key(&mut rest) {
        if matches!(wire_type, WireType::StartGroup | WireType::EndGroup) {
            return true;
        }
        if is_header && number == META && wire_type == WireType::LengthDelimited {
            let mut behind = rest;
            let meta =
                decode_varint(&mut behind).ok().and_then(|len| behind.get(..usize::try_from(len).ok()?));
            if meta.is_some_and(|meta| has_group(meta, false)) {
                return true;
            }
        }
        if skip_field(wire_type, number, &mut rest, DecodeContext::default()).is_err() {
            return false;
        }
    }
    false
}
