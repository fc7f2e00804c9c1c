//! Many pieces of bytes for one vectored write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Fills the slots with the pieces in their order, empty ones left out, until one of both ends; returns the slots in use.
///
/// Slots on the stack make a write without an allocation: `[IoSlice::new(&[]); 64]`.
pub fn gather<'slots, 'bytes>(
    slots: &'slots mut [IoSlice<'bytes>],
    pieces: impl IntoIterator<Item = &'bytes [u8]>,
) -> &'slots [IoSlice<'bytes>] {
    let mut used = 0;
    for (slot, piece) in slots.iter_mut().zip(pieces.into_iter().filter(|piece| !piece.is_empty())) {
        *slot = IoSlice::new(piece);
        used += 1;
    }
    &slots[..used]
}

/// Writes the slices, at least one, as [`AsyncWrite`] does. A single one costs less in a plain write than in a vectored one.
pub fn poll_write_gathered(
    writer: Pin<&mut impl AsyncWrite>,
    slices: &[IoSlice<'_>],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    match slices {
        [slice] => writer.poll_write(cx, slice),
        slices => writer.poll_write_vectored(cx, slices),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_order_and_empty_ones_take_no_slot() {
        let mut slots = [IoSlice::new(&[]); 3];
        assert!(gather(&mut slots, []).is_empty());
        let pieces: [&[u8]; 5] = [b"", b"a", b"", b"bc", b""];
        let gathered: Vec<&[u8]> = gather(&mut slots, pieces).iter().map(|slice| &**slice).collect();
        assert_eq!(gathered, [&b"a"[..], b"bc"]);
    }

    #[test]
    fn what_finds_no_slot_is_left_for_the_next_write() {
        let mut slots = [IoSlice::new(&[]); 2];
        let pieces: [&[u8]; 3] = [b"a", b"b", b"c"];
        assert_eq!(gather(&mut slots, pieces).len(), 2);
    }
}
