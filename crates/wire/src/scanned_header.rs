//! A header that outlives its scan: what was read, kept with the bytes it stands in and never read again.

use std::str;

use bytes::Bytes;

use crate::header::HeaderView;

/// A header that was scanned, and its bytes. Smaller than one slice of them per field would be.
#[derive(Debug, Clone)]
pub struct ScannedHeader {
    raw: Bytes,
    command: Span,
    channel_id: Span,
    dest: Span,
    sequence: u32,
    flag: i32,
    status: i32,
    meta_count: u32,
    has_reserved_meta: bool,
}

impl ScannedHeader {
    /// Keeps a header and the buffer it stands in.
    ///
    /// # Panics
    /// If the header was not read from this buffer.
    pub fn share(view: &HeaderView<'_>, buffer: &Bytes) -> Self {
        Self::of(view, buffer.slice_ref(view.raw))
    }

    /// Keeps a copy of a header, and no buffer.
    pub fn copy(view: &HeaderView<'_>) -> Self {
        Self::of(view, Bytes::copy_from_slice(view.raw))
    }

    /// `raw` holds the bytes of the view.
    fn of(view: &HeaderView<'_>, raw: Bytes) -> Self {
        let span = |text: &str| Span::of(text, view.raw);
        Self {
            command: span(view.command),
            channel_id: span(view.channel_id),
            dest: span(view.dest),
            sequence: view.sequence,
            flag: view.flag,
            status: view.status,
            meta_count: view.meta_count as u32,
            has_reserved_meta: view.has_reserved_meta,
            raw,
        }
    }

    /// What the scan read.
    pub fn view(&self) -> HeaderView<'_> {
        HeaderView {
            raw: &self.raw,
            command: self.command(),
            channel_id: self.channel_id.text(&self.raw),
            sequence: self.sequence,
            flag: self.flag,
            status: self.status,
            dest: self.dest.text(&self.raw),
            meta_count: self.meta_count as usize,
            has_reserved_meta: self.has_reserved_meta,
            from_metas: &self.raw,
            kept_metas_len: self.raw.len(),
        }
    }

    /// Field 1.
    pub fn command(&self) -> &str {
        self.command.text(&self.raw)
    }

    /// Field 3.
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Field 5, any value; see `pb::Status`.
    pub const fn status(&self) -> i32 {
        self.status
    }
}

/// Where a text stands in a header. 32 bits: a header is a part of a frame, and no frame may be that long.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// An absent text stands nowhere.
    fn of(text: &str, raw: &[u8]) -> Self {
        let start = if text.is_empty() { 0 } else { text.as_ptr() as usize - raw.as_ptr() as usize };
        Self { start: start as u32, len: text.len() as u32 }
    }

    /// The text; the scan has shown that it is one.
    fn text(self, raw: &[u8]) -> &str {
        let (start, len) = (self.start as usize, self.len as usize);
        raw.get(start..start + len).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::header::HeaderLimits;
    use crate::pb;

    fn scan(raw: &[u8]) -> HeaderView<'_> {
        HeaderView::scan(raw, &HeaderLimits::BACKEND).unwrap()
    }

    fn headers() -> [pb::Header; 3] {
        let meta = |key: &str| pb::Meta { key: key.to_owned(), value: "v".to_owned(), r#type: 1 };
        let whole = pb::Header {
            command: "chat.user.talk".to_owned(),
            channel_id: "gate01_用户_1".to_owned(),
            sequence: u32::MAX,
            flag: -1,
            status: 300,
            dest: "bob".to_owned(),
            meta: vec![meta("dest.channels"), meta("k")],
        };
        [pb::Header::default(), pb::Header { dest: "bob".to_owned(), ..pb::Header::default() }, whole]
    }

    #[test]
    fn it_says_what_the_scan_said() {
        for header in headers() {
            let buffer = Bytes::from([b"before".as_slice(), &header.encode_to_vec(), b"after"].concat());
            let raw = buffer.slice("before".len().."before".len() + header.encoded_len());
            let view = scan(&raw);
            for kept in [ScannedHeader::share(&view, &buffer), ScannedHeader::copy(&view)] {
                let bound = HeaderView { from_metas: &raw, kept_metas_len: raw.len(), ..view };
                assert_eq!(format!("{:?}", kept.view()), format!("{bound:?}"));
                assert!(kept.view().metas().eq(view.metas()));
                let short = (kept.command(), kept.sequence(), kept.status());
                assert_eq!(short, (view.command, view.sequence, view.status));
            }
        }
    }

    #[test]
    fn only_a_copy_lets_go_of_the_buffer() {
        let [.., whole] = headers();
        let buffer = Bytes::from(whole.encode_to_vec());
        let copy = ScannedHeader::copy(&scan(&buffer));
        assert!(buffer.is_unique());
        let share = ScannedHeader::share(&scan(&buffer), &buffer);
        assert!(!buffer.is_unique());
        assert_ne!(copy.view().raw.as_ptr(), buffer.as_ptr());
        assert_eq!(share.view().raw.as_ptr(), buffer.as_ptr());
    }
}
