//! A fuzzer's bytes, taken apart from the front.

use std::str;

/// Between two texts of one input, so that a corpus can be read and written by people.
const SEPARATOR: &[u8] = b"\n----\n";

/// What is left of the bytes. At their end numbers are 0 and texts are empty, so that every input means something.
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// Up to 255 bytes behind their length, as far as they are UTF-8.
    pub(super) fn text(&mut self) -> &'a str {
        let len = usize::from(self.byte()).min(self.rest.len());
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }

    /// Everything that was not taken.
    pub(super) const fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// What stands before the first line of dashes, and behind it; nothing where there is none.
pub(super) fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.windows(SEPARATOR.len()).position(|window| window == SEPARATOR).unwrap_or(data.len());
    (&data[..end], data.get(end + SEPARATOR.len()..).unwrap_or_default())
}

/// The data as text, where it is some.
pub(super) fn text(data: &[u8]) -> Option<&str> {
    str::from_utf8(data).ok()
}
