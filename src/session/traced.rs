//! Channels whose packets the administrator watches.

use crate::packet_trace::TracedPacket;
use crate::session::channel::{Channel, Identity};
use crate::session::channels::Channels;

impl Channels {
    /// Has a channel that is about to sign in be watched, if its account is.
    pub(crate) fn look_whether_traced(&self, channel: &Channel) {
        let Identity { app, account } = &channel.identity;
        channel.set_traced(self.taps.is_any_about(app, account));
    }

    /// Shows a packet of a channel to whoever watches it. It is described only for them.
    pub(crate) fn trace<'a>(&self, channel: &Channel, packet: impl FnOnce() -> TracedPacket<'a>) {
        if channel.is_traced() {
            self.show(channel, &packet());
        }
    }

    #[cold]
    fn show(&self, channel: &Channel, packet: &TracedPacket<'_>) {
        let Identity { app, account } = &channel.identity;
        if self.taps.is_any_about(app, account) {
            self.taps.tell((app, account), Some(&channel.id), packet);
        } else {
            channel.set_traced(false);
        }
    }
}
