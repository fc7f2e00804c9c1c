//! The oracle: told everything that clients and logic services sent and saw, it says which promises of the contract
//! (G1 to G9) were broken. No I/O; the time is passed in.
//!
//! Notes of a logic service arrive behind what they are about: so what both sides must agree on is compared only at
//! a quiet moment, and what one side alone can tell is judged at once.

mod balance;
mod channel;
mod clients;
mod violation;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::stamp::Stamp;
pub(crate) use channel::Outcome;
use channel::{Channel, Sign};
pub(crate) use violation::{Violation, ViolationKind};

/// One link of a gateway to a logic instance, as the instance saw it.
#[derive(Debug)]
struct Link {
    instance: String,
    life: u32,
    ended: bool,
    /// The instance was killed or stopped meanwhile: what was written to it may be lost.
    torn: bool,
}

/// What passed in a whole run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) answers: u64,
    pub(crate) outcome_unknown: u64,
    pub(crate) refused: u64,
    pub(crate) closed: u64,
    pub(crate) pushes: u64,
    pub(crate) signins: u64,
    pub(crate) signouts: u64,
    /// Sign-outs that were not seen and are not owed: their gateway was killed.
    pub(crate) orphaned: u64,
    /// Not seen, and the login instance they may have been written to was killed or stopped.
    pub(crate) excused: u64,
    /// Not seen, and the account signed in again in the same gateway.
    pub(crate) superseded: u64,
}

/// Who and where a packet says it is, on its way to a logic service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub(crate) channel: &'a str,
    pub(crate) account: &'a str,
    pub(crate) app: &'a str,
    pub(crate) gate: &'a str,
}

/// An answer as its client got it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'a> {
    /// Of the request.
    pub(crate) n: u64,
    pub(crate) status: i32,
    /// The stamp of the request, where a logic service echoed it.
    pub(crate) echo: Option<&'a Stamp>,
    /// The link that wrote it and the number of this answer among those it wrote to the channel.
    pub(crate) written: Option<&'a Stamp>,
    /// When it was read from the connection.
    pub(crate) at: Instant,
}

/// What every packet of a run must say of itself.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) run: u64,
    pub(crate) app: String,
    pub(crate) gate: String,
    /// Clients give up after this.
    pub(crate) patience: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Oracle {
    expected: Expected,
    /// Counts gateway processes.
    life: u32,
    channels: HashMap<String, Channel>,
    links: HashMap<String, Link>,
    /// When a login instance was last killed or stopped, and the last sign-in of each account.
    login_torn: Vec<Instant>,
    last_signin: HashMap<String, (u32, Instant)>,
    /// Sign-outs that the present gateway says it dropped for a later sign-in, and those that it must have.
    superseded: Superseded,
    /// When a gateway process was stopped, and when it went on.
    pauses: Vec<(Instant, Instant)>,
    violations: Vec<Violation>,
    totals: Totals,
}

/// See [`Oracle::gateway_dropped`].
#[derive(Debug, Clone, Copy, Default)]
struct Superseded {
    said: u64,
    seen: u64,
}

/// A sign-out may have been written to a login instance so long before that was killed.
const WRITTEN_BEFORE: Duration = Duration::from_secs(2);

impl Oracle {
    pub(crate) fn new(expected: Expected) -> Self {
        Self {
            expected,
            life: 0,
            channels: HashMap::new(),
            links: HashMap::new(),
            login_torn: Vec::new(),
            last_signin: HashMap::new(),
            superseded: Superseded::default(),
            pauses: Vec::new(),
            violations: Vec::new(),
            totals: Totals::default(),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Everything found so far.
    pub(crate) fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Adds what somebody else found.
    pub(crate) fn violated(&mut self, kind: ViolationKind, count: u64, evidence: String) {
        self.violations.push(Violation { kind, evidence, count });
    }

    fn channel(&mut self, id: &str, account: &str) -> &mut Channel {
        let life = self.life;
        self.channels.entry(id.to_owned()).or_insert_with(|| Channel::new(account, life))
    }

    fn check_stamp(&mut self, stamp: &Stamp) -> bool {
        let ours = stamp.run == self.expected.run && stamp.n > 0;
        if !ours {
            self.violated(ViolationKind::Crossed, 1, format!("{stamp} was to reach nobody"));
        }
        ours
    }

    // --- What logic services saw -----------------------------------------------------------------------------

    /// A gateway shook hands.
    pub(crate) fn link_opened(&mut self, link: &str, instance: &str, gate: &str) {
        if gate != self.expected.gate {
            self.violated(ViolationKind::Identity, 1, format!("{link}: a gateway shook hands as {gate:?}"));
        }
        let new = Link { instance: instance.to_owned(), life: self.life, ended: false, torn: false };
        if self.links.insert(link.to_owned(), new).is_some() {
            self.violated(ViolationKind::Lifecycle, 1, format!("{link}: a second handshake"));
        }
    }

    /// The link is over.
    pub(crate) fn link_ended(&mut self, link: &str) {
        if let Some(link) = self.links.get_mut(link) {
            link.ended = true;
        }
    }

    /// A request arrived: its place in the order, its sender, and that it is the first time.
    pub(crate) fn request_seen(&mut self, link: &str, identity: Identity<'_>, stamp: &Stamp) {
        if !self.check_stamp(stamp) {
            return;
        }
        self.check_identity(link, identity, &stamp.sender);
        if identity.channel != stamp.channel {
            self.violated(
                ViolationKind::Crossed,
                1,
                format!("{link}: {stamp} on channel {}", identity.channel),
            );
        }
        let channel = self.channel(&stamp.channel, &stamp.sender);
        let times = channel.sight(stamp.n);
        let last = channel.last_seen.entry(link.to_owned()).or_default();
        let before = std::mem::replace(last, stamp.n.max(*last));
        let signed_out = channel.signout.as_ref().is_some_and(|signout| signout.link == link);
        if times > 1 {
            self.violated(
                ViolationKind::Duplicated,
                1,
                format!("{link}: request {stamp} was handed over {times} times"),
            );
        } else if stamp.n < before {
            self.violated(ViolationKind::Order, 1, format!("{link}: request {stamp} after {before}"));
        }
        if signed_out {
            self.violated(ViolationKind::Lifecycle, 1, format!("{link}: request {stamp} after the sign-out"));
        }
    }

    fn check_identity(&mut self, link: &str, identity: Identity<'_>, account: &str) {
        let Expected { app, gate, .. } = &self.expected;
        if identity.account != account || identity.app != *app || identity.gate != *gate {
            let expected = format!("{account}, {app}, {gate}");
            self.violated(ViolationKind::Identity, 1, format!("{link}: {identity:?}, expected {expected}"));
        }
    }

    /// A sign-in arrived, with a Session for this account.
    pub(crate) fn signin_seen(&mut self, link: &str, identity: Identity<'_>, account: &str, now: Instant) {
        self.totals.signins += 1;
        self.check_identity(link, identity, account);
        let life = self.life;
        self.last_signin.insert(account.to_owned(), (life, now));
        let channel = self.channel(identity.channel, account);
        let sign = Sign { link: link.to_owned(), at: now };
        let (again, late) = (channel.signin.replace(sign).is_some(), channel.signout.is_some());
        if again {
            self.violated(
                ViolationKind::Lifecycle,
                1,
                format!("{link}: a second sign-in of {}", identity.channel),
            );
        }
        if late {
            self.violated(
                ViolationKind::Lifecycle,
                1,
                format!("{link}: {} after its sign-out", identity.channel),
            );
        }
    }

    /// A sign-out arrived.
    pub(crate) fn signout_seen(&mut self, link: &str, identity: Identity<'_>, reason: &str, now: Instant) {
        self.totals.signouts += 1;
        let id = identity.channel;
        let Some(channel) = self.channels.get_mut(id) else {
            return self.violated(
                ViolationKind::Lifecycle,
                1,
                format!("{link}: {id} signs out and never signed in"),
            );
        };
        let account = channel.account.clone();
        let signed_in = channel.signin.is_some();
        let before = channel.signout.replace(Sign { link: link.to_owned(), at: now });
        self.check_identity(link, identity, &account);
        if !signed_in {
            self.violated(
                ViolationKind::Lifecycle,
                1,
                format!("{link}: {id} signs out ({reason}) and never signed in"),
            );
        }
        if let Some(first) = before {
            self.violated(
                ViolationKind::Lifecycle,
                1,
                format!("{link}: {id} signs out ({reason}) again, first on {}", first.link),
            );
        }
    }

    /// A link is about to write push `n` for a channel.
    pub(crate) fn pushed(&mut self, link: &str, channel: &str, n: u64, now: Instant) {
        self.totals.pushes += 1;
        let channel = self.channel(channel, "");
        channel.last_push = Some(now);
        let pushes = channel.pushes.entry(link.to_owned()).or_default();
        pushes.sent = pushes.sent.max(n);
    }

    // --- What the runner did ---------------------------------------------------------------------------------

    /// An instance was killed, stopped, or cut off: what was written to its links may be lost.
    pub(crate) fn torn(&mut self, instance: &str, is_login: bool, now: Instant) {
        for link in self.links.values_mut().filter(|link| link.instance == instance) {
            link.torn = true;
        }
        if is_login {
            self.login_torn.push(now);
        }
    }

    /// The gateway process is over, killed or not, and another one comes.
    pub(crate) fn gateway_over(&mut self, killed: bool) {
        for channel in self.channels.values_mut().filter(|channel| channel.life == self.life) {
            if killed && channel.signin.is_some() && channel.signout.is_none() && !channel.signout_settled {
                channel.signout_settled = true;
                self.totals.orphaned += 1;
            }
        }
        for link in self.links.values_mut().filter(|link| link.life == self.life) {
            link.torn |= killed;
        }
        self.life += 1;
        self.superseded = Superseded::default();
    }

    /// The present gateway has counted so many sign-outs that it dropped because their account had signed in again.
    pub(crate) fn gateway_dropped(&mut self, superseded: u64) {
        self.superseded.said = superseded;
    }

    /// Links of the present gateway that no side has ended.
    pub(crate) fn live_links(&self) -> usize {
        self.links.values().filter(|link| !link.ended && !link.torn && link.life == self.life).count()
    }

    /// From the last push that was written for a channel until its sign-out; nothing for one that was signed out first.
    pub(crate) fn lived_after_pushes(&self, id: &str) -> Option<Duration> {
        let channel = self.channels.get(id)?;
        Some(channel.signout.as_ref()?.at.saturating_duration_since(channel.last_push?))
    }

    /// When the sign-out of this channel was seen; none if it was not.
    pub(crate) fn signed_out_at(&self, id: &str) -> Option<Instant> {
        Some(self.channels.get(id)?.signout.as_ref()?.at)
    }
}
