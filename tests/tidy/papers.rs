//! The papers against the tree: what they tell a reader to run or to open must be there.

use std::path::Path;

use super::source::{Report, root};

/// The papers a reader is sent to.
const PAPERS: &[&str] = &[
    "README.md",
    "README.zh-CN.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/README.md",
    "docs/clients.md",
    "docs/configuration.md",
    "docs/events.md",
    "docs/limits.md",
    "docs/migrating.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/protocol.md",
    "docs/scaling.md",
    "docs/services.md",
    "docs/threats.md",
    "docs/tokens-and-tls.md",
];

/// What stands before a subcommand where a paper shows how to run one; in a block of commands a line may begin with
/// the program as well.
const CALLS: &[&str] = &["cargo run --release -- ", "`gateway ", "target/release/gateway "];

/// Reads every paper.
pub fn papers() -> Vec<(String, String)> {
    let read = |path: &&str| {
        let text =
            std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        ((*path).to_owned(), text)
    };
    PAPERS.iter().map(read).collect()
}

/// The subcommands: one file each in `src/cli`.
pub fn subcommands() -> Vec<String> {
    let directory = std::fs::read_dir(root().join("src/cli")).expect("src/cli is there");
    directory
        .filter_map(|entry| {
            let path = entry.expect("src/cli is readable").path();
            path.file_stem().map(|stem| stem.to_string_lossy().into_owned())
        })
        .collect()
}

/// Every subcommand a paper shows exists.
pub fn check_commands(papers: &[(String, String)], known: &[String]) -> Report {
    let mut report = Report::default();
    for (path, text) in papers {
        let anywhere = CALLS.iter().flat_map(|call| text.match_indices(call).map(|(at, _)| at + call.len()));
        let shown = anywhere.map(|at| &text[at..]).chain(commands(text));
        for arguments in shown {
            let name: String = arguments.chars().take_while(char::is_ascii_lowercase).collect();
            if name.is_empty() {
                continue;
            }
            report.examined += 1;
            if !known.contains(&name) {
                report.violations.push(format!("{path}: there is no `gateway {name}`"));
            }
        }
    }
    report
}

/// What follows the program's name in the blocks of commands.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let lines = blocks.flat_map(str::lines).map(|line| line.split('#').next().unwrap_or(line));
    // Also behind `docker compose exec gateway` and `token=$(`.
    lines
        .filter_map(|line| line.split_once("gateway "))
        .map(|(_, after)| after.strip_prefix("gateway ").unwrap_or(after))
}

/// Every relative link of a paper leads to a file.
pub fn check_links(papers: &[(String, String)], exists: impl Fn(&Path) -> bool) -> Report {
    let mut report = Report::default();
    for (path, text) in papers {
        let directory = Path::new(path).parent().unwrap_or(Path::new(""));
        for (at, _) in text.match_indices("](") {
            let target: String = text[at + 2..].chars().take_while(|c| !matches!(c, ')' | '#')).collect();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            report.examined += 1;
            if !exists(&directory.join(&target)) {
                report.violations.push(format!("{path}: {target} is not there"));
            }
        }
    }
    report
}

/// Every link to a part of a paper leads to one of its headings.
pub fn check_anchors(papers: &[(String, String)]) -> Report {
    let mut report = Report::default();
    for (path, text) in papers {
        let directory = Path::new(path).parent().unwrap_or(Path::new(""));
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            let Some((file, anchor)) = target.split_once('#') else { continue };
            let file = if file.is_empty() { path.clone() } else { normal(&directory.join(file)) };
            let Some((_, paper)) = papers.iter().find(|(name, _)| *name == file) else { continue };
            report.examined += 1;
            if !headings(paper).any(|heading| heading == anchor) {
                report.violations.push(format!("{path}: {file} has no heading for #{anchor}"));
            }
        }
    }
    report
}

/// A relative path without `..`.
fn normal(path: &Path) -> String {
    let mut parts = Vec::new();
    for part in path.iter().map(|part| part.to_string_lossy()) {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// The anchors that a paper's headings have where Markdown is shown.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// The commands of CONTRIBUTING.md and the recipes of the justfile are the same.
pub fn check_recipes(contributing: &str, justfile: &str) -> Report {
    let shown = contributing.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let mut shown: Vec<&str> = shown.flat_map(str::lines).collect();
    let mut recipes: Vec<&str> = justfile.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    shown.sort_unstable();
    recipes.sort_unstable();
    let mut report = Report { examined: recipes.len(), ..Report::default() };
    for (one, other, place) in
        [(&shown, &recipes, "in the justfile"), (&recipes, &shown, "in CONTRIBUTING.md")]
    {
        let missing = one.iter().filter(|command| !other.contains(command));
        report.violations.extend(missing.map(|command| format!("`{command}` is not {place}")));
    }
    report
}
