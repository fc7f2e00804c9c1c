//! As much of QUIC's frames (RFC 9000 section 19) as path validation needs: where a PATH_CHALLENGE is, where the
//! padding behind it begins, and whether a PATH_RESPONSE answers it. Pure: bytes in, values out.

const PADDING: u64 = 0x00;
const PING: u64 = 0x01;
const ACK: u64 = 0x02;
const ACK_ECN: u64 = 0x03;
const CRYPTO: u64 = 0x06;
const NEW_TOKEN: u64 = 0x07;
const STREAM_FIRST: u64 = 0x08;
const STREAM_LAST: u64 = 0x0f;
const NEW_CONNECTION_ID: u64 = 0x18;
const PATH_CHALLENGE: u64 = 0x1a;
const PATH_RESPONSE: u64 = 0x1b;
const HANDSHAKE_DONE: u64 = 0x1e;
const IMMEDIATE_ACK: u64 = 0x1f;

/// What a PATH_CHALLENGE or PATH_RESPONSE carries.
pub(super) type Token = [u8; 8];

/// A PATH_CHALLENGE in a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) token: Token,
    /// Where the padding begins; the length of the payload if there is none, or if a frame is not known here.
    pub(super) end: usize,
}

/// The PATH_CHALLENGE of a payload that quinn wrote: only what says nothing about streams stands before it. Returns at
/// the first other frame, so that it costs an ordinary packet next to nothing.
pub(super) fn challenge(payload: &[u8]) -> Option<Challenge> {
    let mut reader = PayloadReader(payload);
    let token = loop {
        match reader.varint()? {
            PATH_CHALLENGE => break reader.token()?,
            kind @ (PING | ACK | ACK_ECN | HANDSHAKE_DONE | IMMEDIATE_ACK) => reader.skip_frame(kind)?,
            _ => return None,
        }
    };
    let padding = reader.skip_to_padding().unwrap_or_default();
    Some(Challenge { token, end: payload.len() - padding })
}

/// Returns `true` if a payload carries data of a stream. quinn writes them behind everything else.
pub(super) fn carries_stream(payload: &[u8]) -> bool {
    let mut reader = PayloadReader(payload);
    while let Some(kind) = reader.varint() {
        if (STREAM_FIRST..=STREAM_LAST).contains(&kind) {
            return true;
        }
        if kind == PADDING || reader.skip_frame(kind).is_none() {
            return false;
        }
    }
    false
}

/// Shows the first and the last packet of each range that the first ACK of a payload acknowledges. A frame that is not
/// known here ends the search, and so does a range that quinn refuses.
pub(super) fn acknowledged(payload: &[u8], mut range: impl FnMut(u64, u64)) -> Option<()> {
    let mut reader = PayloadReader(payload);
    let mut last = loop {
        match reader.varint()? {
            ACK | ACK_ECN => break reader.varint()?,
            kind => reader.skip_frame(kind)?,
        }
    };
    let _delay = reader.varint()?;
    let further = reader.varint()?;
    for number in 0..=further {
        if number > 0 {
            // The gap is behind the range before: RFC 9000 section 19.3.1.
            last = last.checked_sub(reader.varint()? + 2)?;
        }
        let first = last.checked_sub(reader.varint()?)?;
        range(first, last);
        last = first;
    }
    Some(())
}

/// Returns `true` if a payload holds the PATH_RESPONSE with this token. A frame that is not known here ends the search.
pub(super) fn answers(payload: &[u8], token: Token) -> bool {
    let mut reader = PayloadReader(payload);
    while let Some(kind) = reader.varint() {
        if kind == PATH_RESPONSE {
            match reader.token() {
                Some(answer) if answer == token => return true,
                Some(_) => continue,
                None => return false,
            }
        }
        if reader.skip_frame(kind).is_none() {
            return false;
        }
    }
    false
}

/// What is left of a payload.
struct PayloadReader<'a>(&'a [u8]);

impl PayloadReader<'_> {
    fn skip(&mut self, count: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let first = *self.0.first()?;
        let (bytes, rest) = self.0.split_at_checked(1 << (first >> 6))?;
        self.0 = rest;
        let value =
            bytes[1..].iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
        Some(value)
    }

    fn token(&mut self) -> Option<Token> {
        let (token, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*token)
    }

    fn skip_varints(&mut self, count: u64) -> Option<()> {
        (0..count).try_for_each(|_| self.varint().map(drop))
    }

    fn skip_with_length(&mut self) -> Option<()> {
        let length = self.varint()?;
        self.skip(length)
    }

    /// Skips a frame whose type was read. None: it is cut off, or not known.
    fn skip_frame(&mut self, kind: u64) -> Option<()> {
        match kind {
            PADDING | PING | HANDSHAKE_DONE | IMMEDIATE_ACK => Some(()),
            ACK | ACK_ECN => {
                self.skip_varints(2)?;
                let ranges = self.varint()?;
                // A range takes two bytes at least.
                let ranges = (ranges <= self.0.len() as u64).then_some(ranges)?;
                self.skip_varints(1 + 2 * ranges + if kind == ACK_ECN { 3 } else { 0 })
            }
            CRYPTO => {
                self.varint()?;
                self.skip_with_length()
            }
            NEW_TOKEN => self.skip_with_length(),
            STREAM_FIRST..=STREAM_LAST => {
                self.skip_varints(if kind & 0x04 != 0 { 2 } else { 1 })?;
                if kind & 0x02 != 0 { self.skip_with_length() } else { self.skip(self.0.len() as u64) }
            }
            // MAX_DATA, MAX_STREAMS, DATA_BLOCKED, STREAMS_BLOCKED, RETIRE_CONNECTION_ID
            0x10 | 0x12..=0x14 | 0x16 | 0x17 | 0x19 => self.skip_varints(1),
            // STOP_SENDING, MAX_STREAM_DATA, STREAM_DATA_BLOCKED
            0x05 | 0x11 | 0x15 => self.skip_varints(2),
            // RESET_STREAM
            0x04 => self.skip_varints(3),
            NEW_CONNECTION_ID => {
                self.skip_varints(2)?;
                let (length, rest) = self.0.split_first()?;
                self.0 = rest;
                self.skip(u64::from(*length) + 16)
            }
            PATH_CHALLENGE | PATH_RESPONSE => self.skip(8),
            _ => None,
        }
    }

    /// How many bytes of padding end the payload. None: a frame is not known.
    fn skip_to_padding(&mut self) -> Option<usize> {
        while !self.0.is_empty() {
            let rest = self.0;
            match self.varint()? {
                PADDING => return rest.iter().all(|byte| *byte == 0).then_some(rest.len()),
                kind => self.skip_frame(kind)?,
            }
        }
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = [9, 8, 7, 6, 5, 4, 3, 0];

    fn payload(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    fn challenge_frame() -> Vec<u8> {
        payload(&[&[0x1a], &TOKEN])
    }

    #[test]
    fn h5_the_padding_behind_a_challenge_is_found_and_never_a_byte_of_a_frame() {
        let own = challenge_frame();
        let ack: &[u8] = &[0x02, 0x40, 0x80, 0x05, 0x01, 0x00, 0x00, 0x00];
        let retire: &[u8] = &[0x19, 0x00];
        let stream: &[u8] = &[0x0a, 0x03, 0x03, b'a', 0x00, 0x00];
        let stream_to_the_end: &[u8] = &[0x08, 0x03, b'a', 0x00, 0x00];
        let new_id: &[u8] = &payload(&[&[0x18, 0x02, 0x00, 0x02, 0, 0], &[0; 16]]);
        let unknown: &[u8] = &[0x40, 0xaf, 0x00, 0x00];
        for (before, after, padded) in [
            (&[][..], &[][..], true),
            (ack, &[], true),
            (&[0x01, 0x1e], retire, true),
            (ack, stream, true),
            (ack, new_id, true),
            (&[], stream_to_the_end, false),
            (&[], unknown, false),
        ] {
            let frames = payload(&[before, &own, after]);
            let whole = payload(&[&frames, &[0; 100]]);
            let end = if padded { frames.len() } else { whole.len() };
            assert_eq!(challenge(&whole), Some(Challenge { token: TOKEN, end }), "{before:?} {after:?}");
            let end = frames.len();
            assert_eq!(
                challenge(&frames),
                Some(Challenge { token: TOKEN, end }),
                "{before:?} {after:?} alone"
            );
        }
    }

    #[test]
    fn h5_what_holds_no_challenge_is_left_alone() {
        let stream: &[u8] = &[0x0a, 0x03, 0x09, 0x1a, 1, 2, 3, 4, 5, 6, 7, 8];
        for payload in [&[][..], &[0x01], &[0; 20], stream, &[0x1a, 1, 2], &[0x02, 0x00, 0x00, 0x80]] {
            assert_eq!(challenge(payload), None, "{payload:?}");
        }
    }

    #[test]
    fn h5_only_the_response_with_the_token_answers() {
        let response = payload(&[&[0x1b], &TOKEN]);
        let other = payload(&[&[0x1b], &[1; 8]]);
        let stream: &[u8] = &payload(&[&[0x0a, 0x00, 0x09], &response]);
        assert!(answers(&payload(&[&other, &[0x01], &response, &[0; 50]]), TOKEN));
        for payload in [&other, stream, &challenge_frame(), &response[..8], &[][..]] {
            assert!(!answers(payload, TOKEN), "{payload:?}");
        }
    }

    #[test]
    fn c9_data_of_streams_and_acknowledgements_are_found_behind_other_frames() {
        let ack: &[u8] = &[0x02, 0x40, 0x80, 0x05, 0x01, 0x00, 0x00, 0x00];
        let stream: &[u8] = &[0x0a, 0x03, 0x03, b'a', 0x00, 0x00];
        let max_data: &[u8] = &[0x10, 0x44, 0x00];
        assert!(carries_stream(&payload(&[ack, max_data, stream])));
        assert!(!carries_stream(&payload(&[ack, max_data, &[0x01], &[0; 9]])));
        let ranges = |payload: &[u8]| {
            let mut ranges = Vec::new();
            acknowledged(payload, |first, last| ranges.push((first, last)));
            ranges
        };
        assert_eq!(ranges(&payload(&[stream, &[0x01, 0x00], ack])), [(128, 128), (126, 126)]);
        assert_eq!(ranges(&[0x03, 0x14, 0x00, 0x01, 0x04, 0x02, 0x03, 0, 0, 0]), [(16, 20), (9, 12)]);
        assert_eq!(ranges(&payload(&[stream, max_data])), []);
        assert_eq!(ranges(&[0x40, 0xaf, 0x02, 0x05]), [], "a frame that is not known");
        assert_eq!(ranges(&[0x02, 0x03, 0x00, 0x01, 0x00, 0x05, 0x00]), [(3, 3)], "below 0");
        assert_eq!(
            ranges(&[0x02, 0x03, 0x00, 0xbf, 0xff, 0xff, 0xff, 0x00]),
            [(3, 3)],
            "claimed and not there"
        );
    }

    #[test]
    fn h5_claimed_lengths_cost_nothing() {
        let claims_many_ranges = [0x02, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00];
        assert_eq!(challenge(&claims_many_ranges), None);
        assert!(!answers(&claims_many_ranges, TOKEN));
    }
}
