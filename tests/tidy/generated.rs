//! The parts of papers that are made from the sources, between `<!-- generated: NAME -->` and `<!-- end -->`.
//! `UPDATE=1 cargo test --test tidy` writes them anew.

use std::collections::BTreeMap;

use super::source::{Report, root};

const END: &str = "<!-- end -->";

/// A paper with one block replaced; none where it has no such block.
pub fn with_block(paper: &str, name: &str, block: &str) -> Option<String> {
    let opening = format!("<!-- generated: {name} -->\n");
    let begin = paper.find(&opening)? + opening.len();
    let end = begin + paper[begin..].find(END)?;
    Some(format!("{}\n{}\n\n{}", &paper[..begin], block.trim_end(), &paper[end..]))
}

/// Compares the blocks of a paper with what they must be; with `UPDATE` set writes them.
pub fn check(path: &str, blocks: &[(String, String)]) -> Report {
    let mut report = Report { examined: blocks.len(), ..Report::default() };
    let paper = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut wanted = paper.clone();
    for (name, block) in blocks {
        match with_block(&wanted, name, block) {
            Some(changed) => wanted = changed,
            None => report.violations.push(format!("{path}: no block {name}")),
        }
    }
    if wanted == paper {
        return report;
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(root().join(path), wanted).expect("the paper can be written");
    } else {
        report.violations.push(format!("{path} is behind the sources: UPDATE=1 cargo test --test tidy"));
    }
    report
}

/// The rows that a test's name begins with: `c8_d4_a_slow_reader` is of C8 and D4.
pub fn rows_of(name: &str) -> Vec<String> {
    let parts = name.split('_').take_while(|part| {
        let digits = part.strip_prefix(|group: char| ('a'..='h').contains(&group));
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    });
    parts.map(str::to_uppercase).collect()
}

/// By row: the tests named after it, by file.
type Tests = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// Finds the tests named after rows in sources, given with their paths.
pub fn tests(sources: &[(String, String)]) -> Tests {
    let mut found = Tests::new();
    for (path, text) in sources {
        for (at, _) in text.match_indices("fn ") {
            let name: String =
                text[at + 3..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            for row in rows_of(&name) {
                found.entry(row).or_default().entry(path.clone()).or_default().push(name.clone());
            }
        }
    }
    found
}

/// The lists of docs/threats.md, one for each group of rows.
pub fn lists(rows: &[String], tests: &Tests) -> Vec<(String, String)> {
    let mut lists: BTreeMap<char, String> = BTreeMap::new();
    for row in rows {
        let group = row.chars().next().expect("a row has a group");
        let list = lists.entry(group).or_default();
        match tests.get(row) {
            None => *list += &format!("* **{row}** no test\n"),
            Some(files) => {
                *list += &format!("* **{row}**\n");
                for (path, names) in files {
                    *list += &format!("  * {path}: `{}`\n", names.join("`, `"));
                }
            }
        }
    }
    lists.into_iter().map(|(group, list)| (format!("tests {group}"), list)).collect()
}
