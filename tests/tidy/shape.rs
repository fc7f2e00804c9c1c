//! Lengths, names, and the few things product code must not contain.

use super::source::{Report, Source};

/// Longest function, from its signature to its closing brace, lines.
pub const MAX_FUNCTION: usize = 70;

/// Longest file before its tests, lines.
pub const MAX_FILE: usize = 400;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "types", "misc"];

/// Text that product code must not contain, and why.
const BANNED: &[(&str, &str)] = &[
    (".unwrap()", "say why it cannot fail with expect, or return the error"),
    ("todo!", "unfinished"),
    ("unimplemented!", "unfinished"),
    ("dbg!", "left over"),
    ("unbounded_channel", "every queue has a bound"),
    ("unsafe ", "no unsafe code of ours"),
];

/// Text that only the command line may contain: a full pipe would block whoever writes to it (row F8).
const PRINTING: &[&str] = &["println!", "eprintln!", "print!", "eprint!"];

/// One function: its name, first line (from 1) and number of lines.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

pub fn check_lengths(sources: &[Source]) -> Report {
    let mut report = Report::default();
    for source in sources {
        let lines = source.code.trim_end().lines().count();
        if lines > MAX_FILE {
            report.violations.push(format!("{}: {lines} lines, {MAX_FILE} are allowed", source.path));
        }
        if let Some(line) = source.code_after_tests {
            report.violations.push(format!("{}:{line}: code behind the tests", source.path));
        }
        for function in functions(&source.code) {
            report.examined += 1;
            let Function { name, line, lines } = function;
            if lines > MAX_FUNCTION {
                report.violations.push(format!(
                    "{}:{line}: fn {name} has {lines} lines, {MAX_FUNCTION} are allowed",
                    source.path
                ));
            }
        }
    }
    report
}

pub fn check_names(sources: &[Source]) -> Report {
    let mut report = Report { examined: sources.len(), ..Report::default() };
    for source in sources {
        for part in source.module() {
            if EMPTY_NAMES.contains(&part) {
                report.violations.push(format!("{}: {part} does not say what is inside", source.path));
            }
        }
    }
    report
}

pub fn check_banned(sources: &[Source]) -> Report {
    let mut report = Report::default();
    for source in sources {
        let may_print = source.path == "src/main.rs" || source.path.starts_with("src/cli");
        for (index, line) in source.code.lines().enumerate() {
            report.examined += usize::from(!line.trim().is_empty());
            for (text, why) in BANNED.iter().filter(|(text, _)| contains_word(line, text)) {
                report.violations.push(format!("{}:{}: {text} ({why})", source.path, index + 1));
            }
            for text in PRINTING.iter().filter(|text| !may_print && contains_word(line, text)) {
                report.violations.push(format!("{}:{}: {text} (only cli prints)", source.path, index + 1));
            }
        }
    }
    report
}

/// Doc comments state; none asks a question. `files` are whole texts with their paths.
pub fn check_doc_comments(files: &[(String, String)]) -> Report {
    let mut report = Report::default();
    for (path, text) in files {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.starts_with("///") || line.starts_with("//!") {
                report.examined += 1;
                if asks(line) {
                    report.violations.push(format!("{path}:{}: a doc comment asks", index + 1));
                }
            }
        }
    }
    report
}

/// Returns `true` if a sentence of the line ends with a question mark; code between backticks does not count.
fn asks(line: &str) -> bool {
    let prose: String = line.split('`').step_by(2).collect();
    prose.ends_with('?') || prose.contains("? ")
}

/// Returns `true` if the text stands there, not as the end of a longer word (`eprintln!` is no `println!`).
fn contains_word(line: &str, text: &str) -> bool {
    line.match_indices(text).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !text.starts_with(char::is_alphabetic) || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Every function with a body.
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let begins_word = code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !begins_word || name.is_empty() {
            continue;
        }
        if let Some(length) = body_end(&code[at..]) {
            let line = code[..at].matches('\n').count() + 1;
            let lines = code[at..at + length].matches('\n').count() + 1;
            found.push(Function { name, line, lines });
        }
    }
    found
}

/// Bytes from a signature to behind the brace that closes its body; none for a declaration without one.
fn body_end(code: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0usize, 0usize);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}
