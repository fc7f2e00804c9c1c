//! A report as text.

use std::fmt::{self, Write as _};

use crate::report::{ContenderResult, RunReport, ScenarioResult, TargetVerdict, WorkResult};
use crate::stats::{median, short, spread};

/// A report as a table for a terminal.
pub fn table(report: &RunReport) -> String {
    let mut out = String::new();
    // A String takes everything.
    let _infallible = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &RunReport) -> fmt::Result {
    let machine = &report.machine;
    writeln!(out, "{}, {} cores, Linux {}", machine.processor, machine.cores, machine.kernel)?;
    writeln!(out, "gateway {}; {}", machine.gateway, machine.pinned)?;
    writeln!(
        out,
        "medians of {} rounds of {} s, with the least and the greatest in parentheses",
        report.rounds,
        short(report.seconds)
    )?;
    for scenario in &report.scenarios {
        write_scenario(out, scenario)?;
    }
    Ok(())
}

fn write_scenario(out: &mut String, scenario: &ScenarioResult) -> fmt::Result {
    writeln!(out, "\n{}  {}", scenario.id, scenario.title)?;
    for work in &scenario.works {
        write_work(out, work)?;
    }
    for note in &scenario.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}

fn write_work(out: &mut String, work: &WorkResult) -> fmt::Result {
    let names = work.metric_names();
    let mut rows = vec![
        std::iter::once(work.title.clone()).chain(names.iter().map(|name| (*name).to_owned())).collect(),
    ];
    rows.extend(work.contenders.iter().map(|contender| row(contender, &names)));
    write_columns(out, &rows)?;
    for target in &work.targets {
        writeln!(out, "    {}", verdict(target))?;
    }
    Ok(())
}

fn row(contender: &ContenderResult, names: &[&str]) -> Vec<String> {
    let cells = names.iter().map(|name| cell(contender.values(name)));
    std::iter::once(format!("  {}", contender.who)).chain(cells).collect()
}

fn cell(values: &[f64]) -> String {
    let (least, greatest) = spread(values);
    match values {
        [] => "–".to_owned(),
        [one] => short(*one),
        _ => format!("{} ({}–{})", short(median(values)), short(least), short(greatest)),
    }
}

fn write_columns(out: &mut String, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::from("  ");
        for (cell, width) in row.iter().zip(&widths) {
            let padding = width - cell.chars().count();
            write!(line, "{cell}{:padding$}  ", "")?;
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A target in one line.
pub(crate) fn verdict(target: &TargetVerdict) -> String {
    let unit = &target.unit;
    let aim = format!("{}: target {} {unit}", target.what, target.bound.text());
    let Some(value) = target.value else { return format!("{aim}, not measured") };
    let met = if target.is_met() == Some(true) { "met" } else { "NOT MET" };
    let (least, greatest) = spread(&target.rounds);
    let range = match target.rounds.len() {
        0 | 1 => String::new(),
        _ => format!(" ({}–{})", short(least), short(greatest)),
    };
    let goal = target.goal.map_or_else(String::new, |goal| {
        let met = if target.is_goal_met() == Some(true) { "met" } else { "not met" };
        format!("; further goal {goal} {unit} {met}")
    });
    format!("{aim}, measured {} {unit}{range}: {met}{goal}", short(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::report;

    #[test]
    fn a_table_shows_medians_spread_and_verdicts() {
        let text = table(&report());
        for line in [
            "B1  TCP echo",
            "  64 clients  CPU µs",
            "    gateway   6.30 (6.00–6.60)",
            "    floor     4.20 (4.00–4.50)",
            "    gateway / floor: target ≤ 1.45 ×, measured 1.50 × (1.47–1.50): NOT MET; further goal 1.2 × not met",
            "  note: nats-server is not installed",
        ] {
            assert!(text.lines().any(|held| held == line), "{line:?} is not in\n{text}");
        }
    }
}
