//! One pass over the protobuf `Header` of a LogicPkt, without decoding it into owned values.
//!
//! The scan accepts what prost's decoder accepts, within [`HeaderLimits`], and refuses groups (row A12). A
//! property test in `tests/it/codec.rs` holds the two together.

use std::{iter, str};

use crate::fields::{Fields, NotProtobuf};

/// Field numbers of `Header` and `Meta`.
pub(crate) mod field {
    pub(crate) const COMMAND: u32 = 1;
    pub(crate) const CHANNEL_ID: u32 = 2;
    pub(crate) const SEQUENCE: u32 = 3;
    pub(crate) const FLAG: u32 = 4;
    pub(crate) const STATUS: u32 = 5;
    pub(crate) const DEST: u32 = 6;
    pub(crate) const META: u32 = 7;
    pub(crate) const META_KEY: u32 = 1;
    pub(crate) const META_VALUE: u32 = 2;
    pub(crate) const META_TYPE: u32 = 3;
}

/// The keys of these fields: their numbers with the wire types that they have.
mod key {
    use super::field;
    use crate::fields::{COUNTED, VARINT, key};

    pub(super) const COMMAND: u32 = key(field::COMMAND, COUNTED);
    pub(super) const CHANNEL_ID: u32 = key(field::CHANNEL_ID, COUNTED);
    pub(super) const SEQUENCE: u32 = key(field::SEQUENCE, VARINT);
    pub(super) const FLAG: u32 = key(field::FLAG, VARINT);
    pub(super) const STATUS: u32 = key(field::STATUS, VARINT);
    pub(super) const DEST: u32 = key(field::DEST, COUNTED);
    pub(super) const META: u32 = key(field::META, COUNTED);
    pub(super) const META_KEY: u32 = key(field::META_KEY, COUNTED);
    pub(super) const META_VALUE: u32 = key(field::META_VALUE, COUNTED);
    pub(super) const META_TYPE: u32 = key(field::META_TYPE, VARINT);
}

/// What a header may cost.
#[derive(Debug, Clone, Copy)]
pub struct HeaderLimits {
    /// Whole header without the text of its command, bytes. The command is left out because an overlong one is
    /// answered 103 and not closed upon (rows A9, A14).
    pub bytes: usize,
    /// MetaEntries of `meta`; the one after the last allowed ends the scan (row A11).
    pub metas: usize,
    /// `dest`, and each key and value of `meta`, bytes.
    pub string: usize,
    /// `channelID`, bytes.
    pub channel_id: usize,
}

impl HeaderLimits {
    /// For logic services: the frame limit bounds everything, `dest.channels` alone may hold megabytes.
    pub const BACKEND: Self = Self { bytes: usize::MAX, metas: 1024, string: usize::MAX, channel_id: 4096 };
}

/// The header cannot be read; whether its sequence could be does not matter (row A9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not protobuf, a group, a wrong wire type, or invalid UTF-8.
    #[error("header is not a protobuf Header")]
    Malformed,
    /// More bytes than allowed, or a string longer than allowed.
    #[error("header or one of its strings is too long")]
    TooLong,
    /// More metas than allowed.
    #[error("too many metas")]
    TooManyMetas,
}

impl From<NotProtobuf> for HeaderError {
    fn from(_: NotProtobuf) -> Self {
        Self::Malformed
    }
}

/// The fields of a header, borrowed from its bytes. Of a repeated singular field the last one counts (row A13).
#[derive(Debug, Clone, Copy)]
pub struct HeaderView<'a> {
    pub(crate) raw: &'a [u8],
    /// Field 1.
    pub command: &'a str,
    /// Field 2.
    pub channel_id: &'a str,
    /// Field 3.
    pub sequence: u32,
    /// Field 4, any value; see `pb::Flag`.
    pub flag: i32,
    /// Field 5, any value; see `pb::Status`.
    pub status: i32,
    /// Field 6.
    pub dest: &'a str,
    /// MetaEntries of `meta`.
    pub meta_count: usize,
    /// Whether one of them is reserved for the gateway.
    pub has_reserved_meta: bool,
    /// The header from its first meta on, or all of it.
    pub(crate) from_metas: &'a [u8],
    /// Bytes of the metas that are not reserved as they stand, or more: how much room they take when they are written again.
    pub(crate) kept_metas_len: usize,
}

/// One entry of `meta`: bytes, because most are only compared and copied. Key and value are UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetaView<'a> {
    /// Field 1.
    pub key: &'a [u8],
    /// Field 2.
    pub value: &'a [u8],
    /// Field 3, any value; readers must not care.
    pub kind: i32,
}

impl<'a> MetaView<'a> {
    /// Reads one entry. Whether its key and value are texts is not looked at.
    fn parse(raw: &'a [u8]) -> Result<Self, HeaderError> {
        let mut meta = Self::default();
        let mut fields = Fields::of(raw);
        while !fields.is_at_end() {
            match fields.key()? {
                key::META_KEY => meta.key = fields.bytes()?,
                key::META_VALUE => meta.value = fields.bytes()?,
                key::META_TYPE => meta.kind = fields.varint()? as i32,
                other if other >> 3 <= field::META_TYPE => return Err(HeaderError::Malformed),
                other => fields = fields.skip(other)?,
            }
        }
        Ok(meta)
    }

    /// Field 1 as a text.
    pub fn key_text(&self) -> &'a str {
        str::from_utf8(self.key).unwrap_or_default()
    }

    /// Field 2 as a text.
    pub fn value_text(&self) -> &'a str {
        str::from_utf8(self.value).unwrap_or_default()
    }

    /// Returns `true` for the keys only the gateway may set (protocol §4.5).
    pub fn is_reserved(&self) -> bool {
        self.key == b"app" || self.key == b"account" || self.is_destination()
    }

    /// Returns `true` for the `dest.*` keys, which no client ever sees.
    pub fn is_destination(&self) -> bool {
        self.key.starts_with(b"dest.")
    }
}

impl<'a> HeaderView<'a> {
    const fn empty(raw: &'a [u8]) -> Self {
        HeaderView {
            raw,
            command: "",
            channel_id: "",
            sequence: 0,
            flag: 0,
            status: 0,
            dest: "",
            meta_count: 0,
            has_reserved_meta: false,
            from_metas: &[],
            kept_metas_len: 0,
        }
    }

    /// Reads the whole header once.
    ///
    /// # Errors
    /// [`HeaderError`]; nothing of the header may be used then.
    pub fn scan(raw: &'a [u8], limits: &HeaderLimits) -> Result<Self, HeaderError> {
        Self::scan_with(raw, limits, |_| {})
    }

    /// Reads the whole header once, and shows each meta on the way.
    ///
    /// # Errors
    /// As [`HeaderView::scan`].
    pub fn scan_with(
        raw: &'a [u8],
        limits: &HeaderLimits,
        mut show: impl FnMut(&MetaView<'a>),
    ) -> Result<Self, HeaderError> {
        let mut view = HeaderView::empty(raw);
        let mut fields = Fields::of(raw);
        while !fields.is_at_end() {
            let here = fields;
            match fields.key()? {
                key::COMMAND => view.command = text(fields.bytes()?)?,
                key::CHANNEL_ID => view.channel_id = short_text(fields.bytes()?, limits.channel_id)?,
                key::SEQUENCE => view.sequence = fields.varint()? as u32,
                key::FLAG => view.flag = fields.varint()? as i32,
                key::STATUS => view.status = fields.varint()? as i32,
                key::DEST => view.dest = short_text(fields.bytes()?, limits.string)?,
                key::META => {
                    if view.meta_count == 0 {
                        view.from_metas = here.rest();
                    }
                    view.meta_count += 1;
                    if view.meta_count > limits.metas {
                        return Err(HeaderError::TooManyMetas);
                    }
                    let meta = checked_meta(fields.bytes()?, limits)?;
                    if meta.is_reserved() {
                        view.has_reserved_meta = true;
                    } else {
                        view.kept_metas_len += here.rest().len() - fields.rest().len();
                    }
                    show(&meta);
                }
                // A field of ours with another wire type.
                other if other >> 3 <= field::META => return Err(HeaderError::Malformed),
                other => fields = fields.skip(other)?,
            }
        }
        if raw.len() - view.command.len() > limits.bytes {
            return Err(HeaderError::TooLong);
        }
        Ok(view)
    }

    /// Its metas in order.
    pub fn metas(&self) -> impl Iterator<Item = MetaView<'a>> + use<'a> {
        let mut entries = MetaEntries::of(self.from_metas);
        iter::from_fn(move || entries.next_meta()).map(|entry| entry.meta)
    }

    /// The value of the last meta with this key (protocol §4.6).
    pub fn last_meta(&self, key: &str) -> Option<&'a str> {
        self.metas().filter(|meta| meta.key == key.as_bytes()).last().map(|meta| meta.value_text())
    }

    /// What is left of its bytes without the `dest.*` metas, in as few pieces as there are.
    pub(crate) fn pieces_without_destinations(&self, mut show: impl FnMut(&'a [u8])) {
        let mut entries = MetaEntries::of(self.raw);
        let mut begin = 0;
        while let Some(entry) = entries.next_meta() {
            if entry.meta.is_destination() {
                show(&self.raw[begin..entry.start]);
                begin = entry.end;
            }
        }
        show(&self.raw[begin..]);
    }

    /// Bytes of the header.
    pub fn encoded_len(&self) -> usize {
        self.raw.len()
    }
}

fn text(bytes: &[u8]) -> Result<&str, HeaderError> {
    str::from_utf8(bytes).map_err(|_| HeaderError::Malformed)
}

fn short_text(bytes: &[u8], max: usize) -> Result<&str, HeaderError> {
    text(bytes).and_then(|text| if text.len() > max { Err(HeaderError::TooLong) } else { Ok(text) })
}

/// An entry of `meta` whose key and value are texts within the limits.
fn checked_meta<'a>(raw: &'a [u8], limits: &HeaderLimits) -> Result<MetaView<'a>, HeaderError> {
    let meta = MetaView::parse(raw)?;
    // Nearly always all of it is ASCII, which is one look instead of two. A repeated key or value, of which only the last
    // counts, has to be a text as well.
    if !raw.is_ascii() {
        check_texts(raw)?;
    }
    if meta.key.len().max(meta.value.len()) > limits.string {
        return Err(HeaderError::TooLong);
    }
    Ok(meta)
}

/// Checks that every key and value of an entry of `meta` is UTF-8.
#[cold]
fn check_texts(raw: &[u8]) -> Result<(), HeaderError> {
    let mut fields = Fields::of(raw);
    while !fields.is_at_end() {
        match fields.key()? {
            key::META_KEY | key::META_VALUE => _ = text(fields.bytes()?)?,
            other => fields = fields.skip(other)?,
        }
    }
    Ok(())
}

/// The entries of `meta` in a header that was scanned, so everything in it can be read.
struct MetaEntries<'a> {
    raw: &'a [u8],
    fields: Fields<'a>,
}

/// One of them, and where it stands in the header.
struct MetaEntry<'a> {
    meta: MetaView<'a>,
    start: usize,
    end: usize,
}

impl<'a> MetaEntries<'a> {
    const fn of(raw: &'a [u8]) -> Self {
        Self { raw, fields: Fields::of(raw) }
    }

    fn next_meta(&mut self) -> Option<MetaEntry<'a>> {
        while !self.fields.is_at_end() {
            let start = self.position();
            match self.fields.key().ok()? {
                key::META => {
                    let meta = MetaView::parse(self.fields.bytes().ok()?).ok()?;
                    return Some(MetaEntry { meta, start, end: self.position() });
                }
                other => self.fields = self.fields.skip(other).ok()?,
            }
        }
        None
    }

    const fn position(&self) -> usize {
        self.raw.len() - self.fields.rest().len()
    }
}
