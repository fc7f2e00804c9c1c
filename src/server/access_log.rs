//! One line per login and per close, at most ten a second for each reason, and a line that says how many were
//! left out. What a stranger can cause before login is logged at debug only (threats §1).

use std::cell::RefCell;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use crate::limits::ACCESS_LINES_PER_SECOND;
use crate::monitor::metrics::Transport;
use crate::session::channel::Channel;
use crate::wire::close::CloseReason;

/// Characters of a user's string in a log line.
const LOGGED_CHARS: usize = 64;

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    since: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

/// The log of one worker's logins and closes.
#[derive(Debug)]
pub(crate) struct AccessLog {
    /// By [`CloseReason::index`]; the last one is for logins.
    tallies: RefCell<[Tally; CloseReason::ALL.len() + 1]>,
}

impl AccessLog {
    pub(crate) fn new() -> Self {
        Self { tallies: RefCell::new([Tally::default(); CloseReason::ALL.len() + 1]) }
    }

    pub(crate) fn login(&self, channel: &Channel, transport: Transport, peer: &str, now: Instant) {
        if self.may_log(CloseReason::ALL.len(), "login", now) {
            info!(
                event = "login",
                channel = &*channel.id,
                app = printable(&channel.identity.app),
                account = printable(&channel.identity.account),
                transport = transport.label(),
                peer
            );
        }
    }

    pub(crate) fn close(
        &self,
        channel: Option<&Channel>,
        reason: CloseReason,
        transport: Transport,
        peer: &str,
        now: Instant,
    ) {
        let (reason_label, transport) = (reason.token(), transport.label());
        let Some(channel) = channel else {
            debug!(event = "close", reason = reason_label, transport, peer);
            return;
        };
        if self.may_log(reason.index(), reason_label, now) {
            info!(event = "close", reason = reason_label, channel = &*channel.id, transport, peer);
        }
    }

    fn may_log(&self, index: usize, what: &str, now: Instant) -> bool {
        let mut tallies = self.tallies.borrow_mut();
        let tally = &mut tallies[index];
        let running =
            tally.since.is_some_and(|since| now.saturating_duration_since(since) < Duration::from_secs(1));
        if !running {
            let suppressed = tally.suppressed;
            *tally = Tally { since: Some(now), lines: 0, suppressed: 0 };
            if suppressed > 0 {
                info!(event = "suppressed", what, lines = suppressed);
            }
        }
        tally.lines += 1;
        let may = tally.lines <= ACCESS_LINES_PER_SECOND;
        tally.suppressed += u64::from(!may);
        may
    }
}

/// A user's string as it may stand in a log: cut, and without what could change how the line looks (row F13). Quotes
/// and control characters are escaped by the log's own format, text and JSON alike.
fn printable(text: &str) -> String {
    let visible = |c: char| {
        let hidden = !c.is_control() && c.escape_debug().len() > 1 && !matches!(c, '"' | '\'' | '\\');
        if hidden { char::REPLACEMENT_CHARACTER } else { c }
    };
    text.chars().take(LOGGED_CHARS).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f13_user_strings_are_escaped_and_cut() {
        assert_eq!(printable("say \"\u{7528}\""), "say \"\u{7528}\"");
        assert_eq!(printable("\u{202e}x\u{200b}"), "\u{fffd}x\u{fffd}", "nothing turns the line around");
        assert_eq!(printable(&"y".repeat(1000)).len(), LOGGED_CHARS);
    }

    #[test]
    fn lines_are_limited_per_reason_and_second() {
        let log = AccessLog::new();
        let start = Instant::now();
        let logged = (0..100).filter(|_| log.may_log(0, "bye", start)).count();
        assert_eq!(logged, ACCESS_LINES_PER_SECOND as usize);
        assert!(log.may_log(1, "draining", start), "another reason has its own");
        assert!(log.may_log(0, "bye", start + Duration::from_secs(1)));
    }
}
