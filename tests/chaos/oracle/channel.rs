//! What the oracle knows of one channel.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// Who holds the client's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// No client has said that this channel is its own: its login is under way, or failed.
    Unclaimed,
    /// A client has it open.
    Open,
    /// A client that misbehaves has it: its end is judged by the fault it plays.
    Wild,
    /// It was open and its connection is over.
    Ended,
}

/// How a request ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not yet.
    Waiting,
    /// With an answer of this status.
    Status(i32),
    /// With its connection.
    Closed,
    /// It gave up waiting on a connection that lives.
    GaveUp,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) sent: Instant,
    pub(crate) outcome: Outcome,
}

/// Pushes of one link for one channel, numbered from 1.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pushes {
    pub(crate) sent: u64,
    pub(crate) got: u64,
}

/// The sign-in or the sign-out of a channel, where and when it was seen.
#[derive(Debug, Clone)]
pub(crate) struct Sign {
    pub(crate) link: String,
    pub(crate) at: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) account: String,
    /// The gateway process it lives in.
    pub(crate) life: u32,
    pub(crate) end: End,
    pub(crate) ended_at: Option<Instant>,
    /// By number, from 1.
    pub(crate) requests: Vec<Request>,
    /// Requests without an outcome.
    pub(crate) waiting: usize,
    /// How often each request was seen; it may be seen before the client's own note is read.
    pub(crate) seen: Vec<u8>,
    /// Requests whose outcome and sightings were not compared yet.
    pub(crate) unchecked: Vec<u64>,
    /// The last request each link saw.
    pub(crate) last_seen: HashMap<String, u64>,
    /// The last answers of each link, by their number, and when they came.
    pub(crate) answers: HashMap<String, BTreeMap<u64, Instant>>,
    pub(crate) signin: Option<Sign>,
    pub(crate) signout: Option<Sign>,
    /// Its missing sign-out was reported, or is excused.
    pub(crate) signout_settled: bool,
    pub(crate) pushes: HashMap<String, Pushes>,
    /// When a link was last about to write one.
    pub(crate) last_push: Option<Instant>,
}

impl Channel {
    pub(crate) fn new(account: &str, life: u32) -> Self {
        Self {
            account: account.to_owned(),
            life,
            end: End::Unclaimed,
            ended_at: None,
            requests: Vec::new(),
            waiting: 0,
            seen: Vec::new(),
            unchecked: Vec::new(),
            last_seen: HashMap::new(),
            answers: HashMap::new(),
            signin: None,
            signout: None,
            signout_settled: false,
            pushes: HashMap::new(),
            last_push: None,
        }
    }

    /// How often request `n` was seen by logic services.
    pub(crate) fn sightings(&self, n: u64) -> u8 {
        self.seen.get(n as usize).copied().unwrap_or(0)
    }

    /// Request `n` was seen once more; returns how often by now.
    pub(crate) fn sight(&mut self, n: u64) -> u8 {
        let n = n as usize;
        if self.seen.len() <= n {
            self.seen.resize(n + 1, 0);
        }
        self.seen[n] = self.seen[n].saturating_add(1);
        self.seen[n]
    }

    /// Request `n`, if the client has sent it.
    pub(crate) fn request(&mut self, n: u64) -> Option<&mut Request> {
        self.requests.get_mut(usize::try_from(n).ok()?.checked_sub(1)?)
    }
}
