//! A file that is to be written.

/// A file that is to be written.
pub(super) struct NewFile {
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) mode: u32,
}

impl NewFile {
    /// For everybody to read.
    pub(super) fn public(name: &'static str, text: String) -> Self {
        Self { name, text, mode: 0o644 }
    }

    /// For its owner alone.
    pub(super) fn secret(name: &'static str, text: String) -> Self {
        Self { name, text, mode: 0o600 }
    }
}
