//! [`Stamp`]: what every packet carries, so that whoever gets it can say where it came from and where it belongs.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `run/sender/channel/n`. Accounts, links and channel ids hold no slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The run: a packet of an earlier one must not be taken for one of this.
    pub(crate) run: u64,
    /// The account of a client, or the link of a logic service.
    pub(crate) sender: String,
    /// The channel it was sent on, or is for.
    pub(crate) channel: String,
    /// Counted from 1 per sender and channel; 0 is a packet that nobody may ever get.
    pub(crate) n: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.run, self.sender, self.channel, self.n)
    }
}

impl FromStr for Stamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let [run, sender, channel, n] = parts[..] else { return Err(format!("{text:?} is no stamp")) };
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number of a stamp"));
        Ok(Self { run: number(run)?, sender: sender.into(), channel: channel.into(), n: number(n)? })
    }
}

/// A logic service holds the answer to one request in so many back, so that something is under way whatever breaks.
const HELD_EVERY: u64 = 4;

impl Stamp {
    /// Returns `true` if the answer to the request with this stamp is held back.
    pub(crate) fn is_held(&self) -> bool {
        (self.n + u64::from(crc32fast::hash(self.sender.as_bytes()))).is_multiple_of(HELD_EVERY)
    }

    /// The stamp a body begins with; a body may hold several, one a line.
    ///
    /// # Errors
    /// What it holds instead.
    pub(crate) fn first(body: &[u8]) -> Result<Self, String> {
        Self::all(body).next().unwrap_or_else(|| Err("an empty body".into()))
    }

    /// The stamp of this channel in a body with one per receiver.
    pub(crate) fn of_channel(body: &[u8], channel: &str) -> Option<Self> {
        Self::all(body).flatten().find(|stamp| stamp.channel == channel)
    }

    /// The stamp of the second line: what a logic service adds to the one it echoes.
    pub(crate) fn second(body: &[u8]) -> Option<Self> {
        Self::all(body).nth(1)?.ok()
    }

    /// The line that says when a push was written, nanoseconds since 1970.
    pub(crate) fn time_line(now: SystemTime) -> String {
        format!("@{}", now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()))
    }

    /// How long ago a body says that it was written.
    pub(crate) fn age(body: &[u8], now: SystemTime) -> Option<Duration> {
        let text = std::str::from_utf8(body).ok()?;
        let written: u64 = text.lines().find_map(|line| line.strip_prefix('@'))?.parse().ok()?;
        now.duration_since(UNIX_EPOCH + Duration::from_nanos(written)).ok()
    }

    fn all(body: &[u8]) -> impl Iterator<Item = Result<Self, String>> {
        let text = std::str::from_utf8(body).unwrap_or("(not UTF-8)");
        text.lines().map(str::parse).collect::<Vec<_>>().into_iter()
    }
}
