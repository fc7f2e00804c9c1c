//! The fields of a protobuf message, one after the other, where they lie.

/// The bytes are no protobuf message, or hold a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotProtobuf;

/// Wire types: a number of its own length, 8 bytes, bytes behind their length, 4 bytes.
pub(crate) const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
pub(crate) const COUNTED: u32 = 2;
const FIXED_32: u32 = 5;

/// What stands before a value: the number of its field, and its wire type.
pub(crate) const fn key(number: u32, wire_type: u32) -> u32 {
    number << 3 | wire_type
}

/// What is left of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn of(raw: &'a [u8]) -> Self {
        Self { rest: raw }
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The [`key`] of the next field; its value comes next. No field has the number 0.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<u32, NotProtobuf> {
        // Numbers below 16, which all of ours are.
        if let [byte @ 8..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u32::from(*byte));
        }
        let key = u32::try_from(self.varint()?).map_err(|_| NotProtobuf)?;
        if key < 1 << 3 { Err(NotProtobuf) } else { Ok(key) }
    }

    /// A base-128 number.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, NotProtobuf> {
        // Nearly all of them.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        let (value, len) = long_varint(self.rest).ok_or(NotProtobuf)?;
        self.rest = &self.rest[len..];
        Ok(value)
    }

    /// Bytes behind their length.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], NotProtobuf> {
        let len = usize::try_from(self.varint()?).map_err(|_| NotProtobuf)?;
        self.take(len)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], NotProtobuf> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(NotProtobuf)?;
        self.rest = rest;
        Ok(taken)
    }

    /// What is left behind the value of a field that nobody reads. Groups are refused (row A12).
    #[inline(never)]
    pub(crate) fn skip(mut self, key: u32) -> Result<Self, NotProtobuf> {
        match key & 7 {
            VARINT => self.varint().map(drop),
            FIXED_64 => self.take(8).map(drop),
            COUNTED => self.bytes().map(drop),
            FIXED_32 => self.take(4).map(drop),
            _ => Err(NotProtobuf),
        }?;
        Ok(self)
    }
}

/// A base-128 number of at most ten bytes, the tenth at most 1, and how many bytes it takes. By value as [`Fields::skip`], so
/// that whoever walks fields keeps them in registers.
#[inline(never)]
fn long_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (position, &byte) in bytes.iter().take(10).enumerate() {
        if position == 9 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7F) << (7 * position);
        if byte < 0x80 {
            return Some((value, position + 1));
        }
    }
    None
}
