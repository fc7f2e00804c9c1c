//! What is said to the person at the terminal, beside the events.

use gateway_client::{ConnectError, Transport};

use crate::cli::chat::events;
use crate::cli::output;

/// One line for the person at the terminal. Nobody may be there to read it, which is no error.
pub(super) fn say(line: &str) {
    output::complain(events::escape(line));
}

/// What failed before this transport was taken, for the person; nothing when nothing did.
pub(super) fn detour(failed: &[(Transport, ConnectError)], taken: Transport) -> Option<String> {
    if failed.is_empty() {
        return None;
    }
    let causes: Vec<String> =
        failed.iter().map(|(transport, error)| format!("{transport}: {}", error.cause())).collect();
    let clear =
        if matches!(taken, Transport::Tcp | Transport::Ws) { ", and the token travels in clear" } else { "" };
    Some(format!("{}. Connected over {taken}{clear}.", causes.join("; ")))
}
