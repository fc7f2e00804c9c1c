//! [`Tally`]: every request of clients that last, by what came of it, whichever connection carried it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::ledger::Judge;
use crate::load::percentile;
use crate::note::{Note, Sender};
use crate::stamp::Stamp;

/// Stands in stamps where others name a channel: these requests may go out on any.
pub(super) const ANY: &str = "any";

/// Violations that are printed.
const PRINTED: usize = 12;

/// How a request ended for its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestOutcome {
    /// Answered 0 by a logic service, with its own stamp.
    Served,
    /// Maybe carried out: so it was said.
    Unknown(String),
    /// Neither.
    Failed(String),
}

/// One request; it may be seen before its client says how it ended.
#[derive(Debug, Default)]
struct SeenRequest {
    outcome: Option<RequestOutcome>,
    took: Duration,
    /// The links that handed it to a logic service.
    seen: Vec<String>,
}

#[derive(Debug, Default)]
struct SeenChannel {
    signins: u32,
    signouts: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tally {
    run: u64,
    app: String,
    gates: Vec<String>,
    requests: HashMap<(String, u64), SeenRequest>,
    channels: HashMap<String, SeenChannel>,
    violations: Vec<String>,
}

impl Tally {
    pub(super) fn new(run: u64, app: &str, gates: &[&str]) -> Self {
        let gates = gates.iter().map(|gate| (*gate).to_owned()).collect();
        let (requests, channels) = (HashMap::new(), HashMap::new());
        Self { run, app: app.to_owned(), gates, requests, channels, violations: Vec::new() }
    }

    pub(super) fn violated(&mut self, evidence: String) {
        self.violations.push(evidence);
    }

    /// The body of request `n` of an account, which is made now.
    pub(super) fn asking(&mut self, account: &str, n: u64) -> String {
        self.requests.entry((account.to_owned(), n)).or_default();
        Stamp { run: self.run, sender: account.to_owned(), channel: ANY.to_owned(), n }.to_string()
    }

    /// It ended.
    pub(super) fn ended(&mut self, account: &str, n: u64, outcome: RequestOutcome, took: Duration) {
        let request = self.requests.entry((account.to_owned(), n)).or_default();
        request.took = took;
        if let Some(before) = request.outcome.replace(outcome) {
            self.violations.push(format!("{account}/{n} ended twice, first with {before:?}"));
        }
    }

    fn seen(&mut self, link: &str, sender: &Sender, stamp: &Stamp) {
        if stamp.run != self.run || sender.account != stamp.sender || stamp.channel != ANY {
            self.violations.push(format!("{link}: {sender} sent {stamp}"));
        }
        let request = self.requests.entry((stamp.sender.clone(), stamp.n)).or_default();
        request.seen.push(format!("{link} for {}", sender.channel));
        if request.seen.len() > 1 {
            self.violations.push(format!("G4: {stamp} was handed over again: {:?}", request.seen));
        }
    }

    fn check(&mut self, link: &str, sender: &Sender) {
        if sender.app != self.app || !self.gates.contains(&sender.gate) {
            self.violations.push(format!("{link}: a packet of {sender}"));
        }
    }

    /// Channels that are not signed out.
    pub(super) fn signed_in(&self) -> usize {
        self.channels.values().filter(|channel| channel.signouts == 0).count()
    }

    /// Judges what both sides must agree on, when all is over. A request whose outcome is unknown breaks the promise as
    /// well: in order, a gateway goes without leaving one.
    pub(super) fn judge(&mut self) {
        let mut found = Vec::new();
        for ((account, n), SeenRequest { outcome, took, seen }) in &self.requests {
            let what = match outcome {
                Some(RequestOutcome::Served) if seen.is_empty() => "was served by nobody".to_owned(),
                Some(RequestOutcome::Served) => continue,
                Some(outcome) => format!("{outcome:?} after {took:.1?}"),
                None => "never ended".to_owned(),
            };
            found.push(format!("G1: {account}/{n}: {what}; seen by {seen:?}"));
        }
        for (id, SeenChannel { signins, signouts }) in &self.channels {
            if (*signins, *signouts) != (1, 1) {
                found.push(format!("G5: {id}: {signins} sign-ins, {signouts} sign-outs"));
            }
        }
        found.sort();
        self.violations.extend(found);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.violations.is_empty()
    }

    pub(super) fn evidence(&self) -> String {
        let mut text: String =
            self.violations.iter().take(PRINTED).map(|violation| format!("  {violation}\n")).collect();
        if self.violations.len() > PRINTED {
            text += &format!("  and {} more\n", self.violations.len() - PRINTED);
        }
        text
    }

    /// All of it in one line.
    pub(super) fn summary(&self) -> String {
        let count = |is_it: fn(Option<&RequestOutcome>) -> bool| {
            self.requests.values().filter(|request| is_it(request.outcome.as_ref())).count()
        };
        let served = count(|outcome| matches!(outcome, Some(RequestOutcome::Served)));
        let unknown = count(|outcome| matches!(outcome, Some(RequestOutcome::Unknown(_))));
        let lost = count(|outcome| matches!(outcome, Some(RequestOutcome::Failed(_)) | None));
        let repeated = self.requests.values().filter(|request| request.seen.len() > 1).count();
        let took: Vec<Duration> = self.requests.values().map(|request| request.took).collect();
        let longest = took.iter().max().copied().unwrap_or_default();
        format!(
            "{} requests: {served} served, {unknown} outcome unknown, {lost} lost, {repeated} repeated; p99 {:.0?}, \
             longest {longest:.0?}; {} sign-ins",
            took.len(),
            percentile(took, 0.99),
            self.channels.len()
        )
    }
}

impl Judge for Tally {
    fn told(&mut self, link: &str, note: &Note, _now: Instant) {
        match note {
            Note::Opened { gate, .. } if self.gates.contains(gate) => {}
            Note::Opened { gate, .. } => self.violations.push(format!("{link}: a gateway {gate:?}")),
            Note::Request { sender, stamp } => {
                self.check(link, sender);
                self.seen(link, sender, stamp);
            }
            Note::SignIn { sender, .. } => {
                self.check(link, sender);
                self.channels.entry(sender.channel.clone()).or_default().signins += 1;
            }
            Note::SignOut { sender, .. } => {
                self.check(link, sender);
                self.channels.entry(sender.channel.clone()).or_default().signouts += 1;
            }
            Note::Push { .. } => {}
            Note::Fault { text } => self.violations.push(format!("{link}: {text}")),
        }
    }

    fn link_ended(&mut self, _link: &str) {}
}
