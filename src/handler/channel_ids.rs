//! The names of channels: unique over all gateways and over restarts (protocol §4.2).

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Channel ids of one worker: `{gate}_{account}_{n}` (protocol §4.2).
#[derive(Debug)]
pub(crate) struct ChannelIds {
    /// The gateway id, escaped, and an underscore.
    head: String,
    next: Cell<u64>,
}

/// 2020-01-01T00:00:00Z, seconds since 1970.
pub(super) const EPOCH_2020: u64 = 1_577_836_800;

impl ChannelIds {
    /// Numbers begin at the milliseconds since 2020 × 2^20, so that a restarted gateway repeats none.
    pub(crate) fn new(gate_id: &str, started: SystemTime) -> Self {
        let since_1970 = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = since_1970.as_millis().saturating_sub(u128::from(EPOCH_2020) * 1000);
        let boot = u64::try_from(millis).unwrap_or(u64::MAX >> 20) & (u64::MAX >> 20);
        let mut head = String::new();
        push_escaped(&mut head, gate_id);
        head.push('_');
        Self { head, next: Cell::new(boot << 20) }
    }

    /// The next id. Whatever gateway id and account hold, it has no comma, and two underscores.
    pub(crate) fn generate_channel_id(&self, account: &str) -> Rc<str> {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let mut id = String::with_capacity(self.head.len() + account.len() + 24);
        id.push_str(&self.head);
        push_escaped(&mut id, account);
        write!(id, "_{number}").expect("a String takes everything");
        id.into()
    }
}

/// As gateway ids and accounts stand in a channel id.
fn push_escaped(id: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => id.push(char::from(byte)),
            other => write!(id, "%{other:02X}").expect("a String takes everything"),
        }
    }
}
