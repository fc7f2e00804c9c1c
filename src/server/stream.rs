//! The reading side of one stream: its decoder, and since when a frame of it is incomplete.

use std::time::Instant;

use crate::session::outgoing::StreamId;
use crate::wire::frame::FrameDecoder;

/// One stream as the driver reads it.
#[derive(Debug)]
pub(crate) struct InboundStream {
    pub(crate) id: StreamId,
    pub(crate) decoder: FrameDecoder,
    /// Since when the end of a frame is missing (row A4).
    pub(crate) mid_frame_since: Option<Instant>,
    /// The client finished it; it stays for the answers it owes (protocol §7).
    pub(crate) finished: bool,
}

impl InboundStream {
    pub(crate) const fn new(id: StreamId, max_payload: usize) -> Self {
        Self { id, decoder: FrameDecoder::new(max_payload), mid_frame_since: None, finished: false }
    }

    /// Everything that arrived was cut into frames. Starts the clock of an incomplete one, or stops it.
    pub(crate) fn note_progress(&mut self, now: Instant) {
        if self.decoder.is_mid_frame() {
            self.mid_frame_since.get_or_insert(now);
        } else {
            self.mid_frame_since = None;
        }
    }
}
