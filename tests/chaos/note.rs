//! [`Note`]: one line of a logic service to the ledger, written before the service acts on what it is about.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use crate::oracle::{Identity, Oracle, ViolationKind};
use crate::stamp::Stamp;

/// What a packet from a gateway says of its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) channel: String,
    pub(crate) account: String,
    pub(crate) app: String,
    pub(crate) gate: String,
}

impl Sender {
    fn identity(&self) -> Identity<'_> {
        Identity { channel: &self.channel, account: &self.account, app: &self.app, gate: &self.gate }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.channel, self.account, self.app, self.gate)
    }
}

/// See the module. No field holds a space, but for the text of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    Opened { instance: String, gate: String },
    Request { sender: Sender, stamp: Stamp },
    SignIn { sender: Sender, account: String },
    SignOut { sender: Sender, reason: String },
    Push { channel: String, n: u64 },
    Fault { text: String },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { instance, gate } => write!(f, "opened {instance} {gate}"),
            Self::Request { sender, stamp } => write!(f, "request {sender} {stamp}"),
            Self::SignIn { sender, account } => write!(f, "signin {sender} {account}"),
            Self::SignOut { sender, reason } => write!(f, "signout {sender} {reason}"),
            Self::Push { channel, n } => write!(f, "push {channel} {n}"),
            Self::Fault { text } => write!(f, "fault {}", text.replace('\n', " ")),
        }
    }
}

impl FromStr for Note {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split(' ').collect();
        let sender = |words: &[&str; 5]| Sender {
            channel: words[0].into(),
            account: words[1].into(),
            app: words[2].into(),
            gate: words[3].into(),
        };
        let five = || <[&str; 5]>::try_from(words.as_slice()).map_err(|_| format!("{line:?} is no note"));
        Ok(match (verb, words.as_slice()) {
            ("opened", [instance, gate]) => {
                Self::Opened { instance: (*instance).into(), gate: (*gate).into() }
            }
            ("request", _) => {
                let words = five()?;
                Self::Request { sender: sender(&words), stamp: words[4].parse()? }
            }
            ("signin", _) => {
                let words = five()?;
                Self::SignIn { sender: sender(&words), account: words[4].into() }
            }
            ("signout", _) => {
                let words = five()?;
                Self::SignOut { sender: sender(&words), reason: words[4].into() }
            }
            ("push", [channel, n]) => Self::Push {
                channel: (*channel).into(),
                n: n.parse().map_err(|_| format!("{line:?} is no note"))?,
            },
            ("fault", _) => Self::Fault { text: rest.into() },
            _ => return Err(format!("{line:?} is no note")),
        })
    }
}

impl Note {
    /// Tells the oracle what a link wrote.
    pub(crate) fn tell(&self, link: &str, oracle: &mut Oracle, now: Instant) {
        match self {
            Self::Opened { instance, gate } => oracle.link_opened(link, instance, gate),
            Self::Request { sender, stamp } => oracle.request_seen(link, sender.identity(), stamp),
            Self::SignIn { sender, account } => oracle.signin_seen(link, sender.identity(), account, now),
            Self::SignOut { sender, reason } => oracle.signout_seen(link, sender.identity(), reason, now),
            Self::Push { channel, n } => oracle.pushed(link, channel, *n, now),
            Self::Fault { text } => oracle.violated(ViolationKind::Identity, 1, format!("{link}: {text}")),
        }
    }
}
