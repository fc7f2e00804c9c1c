//! The header field `traceparent` of W3C Trace Context, level 1: which trace something belongs to, and to what in it.

use std::fmt;

/// Its bytes in version 00.
const LEN: usize = 55;

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceContext {
    /// Never 0.
    pub(crate) trace: u128,
    /// The span it was made in, never 0.
    pub(crate) span: u64,
    /// Whether whoever made it records it.
    pub(crate) is_sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` of version 00, or the beginning of one of a later version; none for what is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let is_marked = bytes.len() >= LEN && [2, 35, 52].iter().all(|at| bytes[*at] == b'-');
        let is_lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        if !is_marked || !bytes[..LEN].iter().all(is_lower) {
            return None;
        }
        let is_whole = match &text[..2] {
            "ff" => false,
            "00" => bytes.len() == LEN,
            _ => bytes.len() == LEN || bytes[LEN] == b'-',
        };
        let trace = u128::from_str_radix(&text[3..35], 16).ok()?;
        let span = u64::from_str_radix(&text[36..52], 16).ok()?;
        let flags = u8::from_str_radix(&text[53..55], 16).ok()?;
        let is_sampled = flags & SAMPLED != 0;
        (is_whole && trace != 0 && span != 0).then_some(Self { trace, span, is_sampled })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_read_and_written_as_the_standard_says() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(text).unwrap();
        assert_eq!((context.span, context.is_sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.to_string(), text);
        let later = format!("cc-{}-what-comes-later", &text[3..]);
        assert_eq!(TraceContext::parse(&later), Some(context));
        let unsampled = format!("{}-02", &text[..52]);
        assert!(!TraceContext::parse(&unsampled).unwrap().is_sampled);
    }

    #[test]
    fn what_is_no_context_is_none() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for wrong in [
            "",
            &text[..54],
            &format!("{text}-"),
            &format!("{text}0"),
            &text.replace("00-4b", "ff-4b"),
            &text.to_uppercase(),
            &text.replace('4', "g"),
            &text.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &text.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &text.replace('-', "_"),
            &text.replace("-01", "-+1"),
            &format!("00-é{}", &text[5..]),
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }
}
