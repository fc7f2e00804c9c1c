//! CRC-32 of Castagnoli, which is another one than that of the route.

/// Its polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Of all parts one after the other. Bit by bit: a header has at most a few KiB, and comes once in a connection.
pub(super) fn crc32c<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let step = |crc: u32, _bit: u32| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
    !parts.into_iter().flatten().fold(u32::MAX, byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value that catalogues of checksums give.
    #[test]
    fn the_known_value_comes_out_whole_and_in_parts() {
        assert_eq!(crc32c([b"123456789".as_slice()]), 0xe306_9283);
        assert_eq!(crc32c([b"1234".as_slice(), b"", b"56789"]), 0xe306_9283);
    }
}
