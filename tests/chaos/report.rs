//! [`Report`]: the table at the end of a run, and what a run is judged by.

use std::fmt::Write as _;
use std::time::Duration;

use crate::faults::{Fault, FaultOutcome, shown};
use crate::oracle::{Totals, Violation, ViolationKind};

/// Violations printed of each kind; the others are counted.
const PRINTED: usize = 8;

#[derive(Debug, Default)]
struct Row {
    count: u32,
    found: Option<Duration>,
    recovered: Option<Duration>,
    skipped: Option<String>,
    /// By kind, packets.
    broken: Vec<(ViolationKind, u64)>,
}

impl Row {
    fn of(&self, kind: ViolationKind) -> u64 {
        self.broken.iter().filter(|(other, _)| *other == kind).map(|(_, count)| count).sum()
    }

    fn other(&self) -> u64 {
        let shown = [
            ViolationKind::Lost,
            ViolationKind::Unanswered,
            ViolationKind::Duplicated,
            ViolationKind::Crossed,
        ];
        self.broken.iter().filter(|(kind, _)| !shown.contains(kind)).map(|(_, count)| count).sum()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { rows: Fault::ALL.iter().map(|_| Row::default()).collect() }
    }

    /// One fault and what was found with it.
    pub(crate) fn add(&mut self, fault: Fault, outcome: &FaultOutcome, found: &[Violation]) {
        let Some(place) = Fault::ALL.iter().position(|other| *other == fault) else { return };
        let row = &mut self.rows[place];
        if outcome.skipped.is_some() {
            row.skipped.clone_from(&outcome.skipped);
            return;
        }
        row.count += 1;
        row.found = row.found.max(outcome.found);
        row.recovered = row.recovered.max(outcome.recovered);
        row.broken.extend(found.iter().map(|violation| (violation.kind, violation.count)));
    }

    /// What was known only at the end.
    pub(crate) fn found(&mut self, fault: Fault, found: Option<Duration>) {
        if let Some(place) = Fault::ALL.iter().position(|other| *other == fault) {
            self.rows[place].found = self.rows[place].found.max(found);
        }
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<18}{:>6}{:>12}{:>16}{:>6}{:>12}{:>12}{:>9}{:>7}\n",
            "fault",
            "count",
            "worst found",
            "worst recovery",
            "lost",
            "unanswered",
            "duplicated",
            "crossed",
            "other"
        );
        let time = |duration: Option<Duration>| duration.map_or_else(|| "-".to_owned(), shown);
        for (fault, row) in Fault::ALL.iter().zip(&self.rows) {
            let name = fault.name();
            if let (Some(why), 0) = (&row.skipped, row.count) {
                writeln!(text, "{name:<18}skipped: {why}").expect("a String takes everything");
                continue;
            }
            let (found, recovered) = (time(row.found), time(row.recovered));
            let [lost, unanswered, duplicated, crossed] = [
                ViolationKind::Lost,
                ViolationKind::Unanswered,
                ViolationKind::Duplicated,
                ViolationKind::Crossed,
            ]
            .map(|kind| row.of(kind));
            writeln!(
                text,
                "{name:<18}{:>6}{found:>12}{recovered:>16}{lost:>6}{unanswered:>12}{duplicated:>12}{crossed:>9}{:>7}",
                row.count,
                row.other()
            )
            .expect("a String takes everything");
        }
        text
    }
}

/// What passed, in one line.
pub(crate) fn passed(totals: Totals) -> String {
    let Totals { requests, answers, outcome_unknown, refused, closed, pushes, signins, signouts, .. } =
        totals;
    let Totals { orphaned, excused, superseded, .. } = totals;
    format!(
        "{requests} requests ({answers} served, {outcome_unknown} outcome unknown, {refused} refused, {closed} closed), \
         {pushes} pushes, {signins} sign-ins, {signouts} sign-outs ({orphaned} died with their gateway, {excused} may \
         have died with a login instance, {superseded} superseded)"
    )
}

/// The evidence, a few of each kind.
pub(crate) fn evidence(violations: &[Violation]) -> String {
    let mut kinds: Vec<ViolationKind> = violations.iter().map(|violation| violation.kind).collect();
    kinds.sort();
    kinds.dedup();
    let mut text = String::new();
    for kind in kinds {
        let of_kind: Vec<_> = violations.iter().filter(|violation| violation.kind == kind).collect();
        for violation in of_kind.iter().take(PRINTED) {
            writeln!(text, "  {violation}").expect("a String takes everything");
        }
        if of_kind.len() > PRINTED {
            writeln!(text, "  {kind:?}: and {} more", of_kind.len() - PRINTED)
                .expect("a String takes everything");
        }
    }
    text
}
