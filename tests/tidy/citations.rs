//! Citations in comments: rows of docs/threats.md, sections of papers, RFCs. Each must lead somewhere.

use std::collections::BTreeSet;

use super::source::{Report, blank};

/// What may be cited.
pub struct Papers {
    /// `A1` to `H24`, and `G1` to `G9`.
    pub rows: BTreeSet<String>,
    /// `protocol §4.2`: a paper's name, its section, and an item of its numbered list.
    pub sections: BTreeSet<String>,
    /// Numbers of RFCs.
    pub rfcs: BTreeSet<String>,
}

impl Papers {
    pub fn new(architecture: &str, protocol: &str, threats: &str) -> Self {
        let mut sections = BTreeSet::new();
        for (name, text) in [("ARCHITECTURE", architecture), ("protocol", protocol), ("threats", threats)] {
            sections.extend(sections_of(text).into_iter().map(|section| format!("{name} §{section}")));
        }
        let listed = architecture.split("Standards that the sources cite:").nth(1).unwrap_or_default();
        let listed = listed.split("\n\n").next().unwrap_or_default();
        let rfcs = numbers(listed).into_iter().filter(|number| number.len() == 4).collect();
        Self { rows: rows(threats).into_iter().chain(promises(protocol)).collect(), sections, rfcs }
    }
}

/// The ids of the rows of docs/threats.md, in its order.
pub fn rows(threats: &str) -> Vec<String> {
    let cells = threats.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    cells.filter(|cell| is_row(cell)).map(str::to_owned).collect()
}

/// The promises of docs/protocol.md: `* **G1 …`.
pub fn promises(protocol: &str) -> Vec<String> {
    let lines = protocol.lines().filter_map(|line| line.strip_prefix("* **")?.split(' ').next());
    lines.filter(|id| is_row(id)).map(str::to_owned).collect()
}

/// `4` and `4.2` for each numbered heading and each item of a numbered list below it.
fn sections_of(text: &str) -> Vec<String> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.split('.').next().unwrap_or_default().to_owned();
            found.push(section.clone());
        } else if let Some((number, _)) = line.split_once(". ")
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
        {
            found.push(format!("{section}.{number}"));
        }
    }
    found
}

fn is_row(word: &str) -> bool {
    let digits = word.strip_prefix(|group: char| ('A'..='H').contains(&group)).unwrap_or_default();
    (1..=2).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn numbers(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Checks the comments of sources and the names of their tests.
pub fn check(sources: &[(String, String)], papers: &Papers) -> Report {
    let mut report = Report::default();
    for (path, text) in sources {
        let code = blank(text);
        for (index, (line, code)) in text.lines().zip(code.lines()).enumerate() {
            let mut cited = |known: bool, what: &str| {
                report.examined += 1;
                if !known {
                    report.violations.push(format!("{path}:{}: {what} is nowhere", index + 1));
                }
            };
            if let Some(at) = code.find("fn ") {
                for row in super::generated::rows_of(code[at + 3..].split('(').next().unwrap_or_default()) {
                    cited(papers.rows.contains(&row), &row);
                }
            }
            let Some(at) =
                line.find("//").filter(|at| code.get(*at..).is_some_and(|rest| rest.trim().is_empty()))
            else {
                continue;
            };
            comment(&line[at..], papers, &mut cited);
        }
    }
    report
}

fn comment(text: &str, papers: &Papers, cited: &mut impl FnMut(bool, &str)) {
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '§' && c != '.' && c != '-') {
        let word = word.trim_end_matches('.');
        if is_row(word) {
            cited(papers.rows.contains(word), word);
        }
    }
    for (at, _) in text.match_indices('§') {
        let before = text[..at].trim_end_matches([' ', ',', '–']);
        let number: String =
            text[at + '§'.len_utf8()..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let number = number.trim_end_matches('.');
        // "protocol §4.6–§4.8" and "§4.2, §4.3" name their paper once.
        let start = text[..at].find('§').map_or(before, |first| text[..first].trim_end());
        let paper = start.rsplit([' ', '(', '"', '`']).next().unwrap_or_default();
        if start.trim_end_matches(paper).trim_end().ends_with("RFC") {
            continue;
        }
        let section = format!("{paper} §{number}");
        cited(papers.sections.contains(&section), &section);
    }
    for (at, _) in text.match_indices("RFC ") {
        let number: String = text[at + 4..].chars().take_while(char::is_ascii_digit).collect();
        cited(papers.rfcs.contains(&number), &format!("RFC {number}"));
    }
    for (at, _) in text.match_indices("nvariant ") {
        let number: String = text[at + 9..].chars().take_while(char::is_ascii_digit).collect();
        if !number.is_empty() {
            let section = format!("ARCHITECTURE §{INVARIANTS}.{number}");
            cited(papers.sections.contains(&section), &section);
        }
    }
}

/// The section of ARCHITECTURE.md that holds the invariants.
const INVARIANTS: u32 = 4;
