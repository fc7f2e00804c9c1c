//! One pass over the protobuf `Header` of a LogicPkt, without decoding it into owned values.
//!
//! The scan accepts what prost's decoder accepts, within [`HeaderLimits`], and refuses groups (row A12). A
//! property test in `tests/it/codec.rs` holds the two together.

use std::str;

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

/// The meta that says which trace a request belongs to, as W3C Trace Context writes it.
pub const TRACEPARENT: &str = "traceparent";

/// What vendors add to it. The gateway hands none on.
pub const TRACESTATE: &str = "tracestate";

/// What a header may cost.
#[derive(Debug, Clone, Copy)]
pub struct HeaderLimits {
    /// Whole header without the text of its command, bytes. The command is left out because an overlong one is
    /// answered 103 and not closed upon (rows A9, A14).
    pub bytes: usize,
    /// Entries of `meta`; the one after the last allowed ends the scan (row A11).
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
    /// Entries of `meta`.
    pub meta_count: usize,
    /// Whether one of them is reserved for the gateway.
    pub has_reserved_meta: bool,
}

/// One entry of `meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetaView<'a> {
    /// Field 1.
    pub key: &'a str,
    /// Field 2.
    pub value: &'a str,
    /// Field 3, any value; readers must not care.
    pub kind: i32,
}

impl MetaView<'_> {
    /// Returns `true` for the keys only the gateway may set (protocol §4.5).
    pub fn is_reserved(&self) -> bool {
        self.key == "app" || self.key == "account" || is_for_services(self.key.as_bytes())
    }
}

/// Returns `true` for the keys that no client ever sees: `dest.*`, and those of a trace.
fn is_for_services(key: &[u8]) -> bool {
    key.starts_with(b"dest.") || key == TRACEPARENT.as_bytes() || key == TRACESTATE.as_bytes()
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
        for item in Fields::of(raw) {
            let item = item?;
            match item.number {
                field::COMMAND => view.command = item.text()?,
                field::CHANNEL_ID => view.channel_id = within(item.text()?, limits.channel_id)?,
                field::SEQUENCE => view.sequence = item.varint()? as u32,
                field::FLAG => view.flag = item.varint()? as i32,
                field::STATUS => view.status = item.varint()? as i32,
                field::DEST => view.dest = within(item.text()?, limits.string)?,
                field::META => {
                    view.meta_count += 1;
                    if view.meta_count > limits.metas {
                        return Err(HeaderError::TooManyMetas);
                    }
                    let meta = parse_meta(item.bytes()?)?;
                    within(meta.key, limits.string)?;
                    within(meta.value, limits.string)?;
                    view.has_reserved_meta |= meta.is_reserved();
                    show(&meta);
                }
                _ => {}
            }
        }
        if raw.len() - view.command.len() > limits.bytes {
            return Err(HeaderError::TooLong);
        }
        Ok(view)
    }

    /// Its metas in order.
    pub fn metas(&self) -> impl Iterator<Item = MetaView<'a>> + use<'a> {
        self.fields().filter(|item| item.number == field::META).filter_map(|item| item.meta())
    }

    /// The value of the last meta with this key (protocol §4.6).
    pub fn last_meta(&self, key: &str) -> Option<&'a str> {
        self.metas().filter(|meta| meta.key == key).last().map(|meta| meta.value)
    }

    /// Its fields as they stand; the scan has shown that they can be read.
    pub(crate) fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        Fields::of(self.raw).map_while(Result::ok)
    }

    /// Bytes of the header.
    pub fn encoded_len(&self) -> usize {
        self.raw.len()
    }
}

fn within(text: &str, max: usize) -> Result<&str, HeaderError> {
    if text.len() > max { Err(HeaderError::TooLong) } else { Ok(text) }
}

fn parse_meta(raw: &[u8]) -> Result<MetaView<'_>, HeaderError> {
    let mut meta = MetaView::default();
    for item in Fields::of(raw) {
        let item = item?;
        match item.number {
            field::META_KEY => meta.key = item.text()?,
            field::META_VALUE => meta.value = item.text()?,
            field::META_TYPE => meta.kind = item.varint()? as i32,
            _ => {}
        }
    }
    Ok(meta)
}

/// One field of a message: its number, its value, and all its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    value: Value<'a>,
    /// Key and value as they stand.
    pub(crate) raw: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// 4 or 8 bytes: no field of ours has this type.
    Fixed,
}

impl<'a> Field<'a> {
    fn varint(&self) -> Result<u64, HeaderError> {
        if let Value::Varint(value) = self.value { Ok(value) } else { Err(HeaderError::Malformed) }
    }

    fn bytes(&self) -> Result<&'a [u8], HeaderError> {
        if let Value::Bytes(bytes) = self.value { Ok(bytes) } else { Err(HeaderError::Malformed) }
    }

    fn text(&self) -> Result<&'a str, HeaderError> {
        str::from_utf8(self.bytes()?).map_err(|_| HeaderError::Malformed)
    }

    /// The field as an entry of `meta`.
    fn meta(&self) -> Option<MetaView<'a>> {
        parse_meta(self.bytes().ok()?).ok()
    }

    /// Returns `true` if it is a meta that no client ever sees. The scan has shown that it can be read.
    pub(crate) fn is_for_services(&self) -> bool {
        let is_key = |item: &Field<'_>| item.number == field::META_KEY;
        let key = |raw| Fields::of(raw).map_while(Result::ok).filter(is_key).last();
        self.number == field::META
            && self.bytes().ok().and_then(key).is_some_and(|key| key.bytes().is_ok_and(is_for_services))
    }
}

/// Walks the fields of one message.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    const fn of(raw: &'a [u8]) -> Self {
        Fields { rest: raw }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], HeaderError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(HeaderError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Base-128 varint of at most ten bytes, the tenth at most 1.
    fn take_varint(&mut self) -> Result<u64, HeaderError> {
        // Nearly all of them.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0u64;
        for (position, &byte) in self.rest.iter().take(10).enumerate() {
            if position == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << (7 * position);
            if byte < 0x80 {
                self.rest = &self.rest[position + 1..];
                return Ok(value);
            }
        }
        Err(HeaderError::Malformed)
    }

    fn take_field(&mut self) -> Result<Field<'a>, HeaderError> {
        let start = self.rest;
        let key = u32::try_from(self.take_varint()?).map_err(|_| HeaderError::Malformed)?;
        let number = key >> 3;
        if number == 0 {
            return Err(HeaderError::Malformed);
        }
        let value = match key & 7 {
            0 => Value::Varint(self.take_varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = usize::try_from(self.take_varint()?).map_err(|_| HeaderError::Malformed)?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(HeaderError::Malformed),
        };
        Ok(Field { number, value, raw: &start[..start.len() - self.rest.len()] })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, HeaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.take_field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}
