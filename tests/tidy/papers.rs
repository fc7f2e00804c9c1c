//! The papers against the tree: what they tell a reader to run or to open must be there.

use std::collections::BTreeMap;
use std::path::Path;

use super::source::{Report, root};

/// What stands before a subcommand where a paper shows how to run one; in a block of commands a line may begin with
/// the program as well.
const CALLS: &[&str] = &["cargo run --release -- ", "`gateway ", "target/release/gateway "];

/// Reads every Markdown file of the repository.
pub fn papers() -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&root(), "", &mut found);
    found.sort();
    found
}

fn walk(directory: &Path, name: &str, found: &mut Vec<(String, String)>) {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{name}: {error}"));
    for entry in entries {
        let entry = entry.expect("a directory is readable");
        let file = entry.file_name().to_string_lossy().into_owned();
        let path = if name.is_empty() { file.clone() } else { format!("{name}/{file}") };
        if entry.file_type().expect("a file has a type").is_dir() {
            if file != "target" && (file == ".github" || !file.starts_with('.')) {
                walk(&entry.path(), &path, found);
            }
        } else if file.ends_with(".md") {
            let text =
                std::fs::read_to_string(entry.path()).unwrap_or_else(|error| panic!("{path}: {error}"));
            found.push((path, text));
        }
    }
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

/// Every relative link of a paper leads to a file and to a heading in it; every other one has the form of a URL.
pub fn check_links(papers: &[(String, String)], exists: impl Fn(&Path) -> bool) -> Report {
    let mut report = Report::default();
    let anchors: BTreeMap<&str, Vec<String>> =
        papers.iter().map(|(path, text)| (path.as_str(), anchors(text))).collect();
    for (path, text) in papers {
        for target in links(&prose(text)) {
            report.examined += 1;
            if let Some(problem) = problem_of(path, &target, &anchors, &exists) {
                report.violations.push(format!("{path}: {problem}"));
            }
        }
    }
    report
}

/// What is wrong with one link.
fn problem_of(
    path: &str,
    target: &str,
    anchors: &BTreeMap<&str, Vec<String>>,
    exists: &impl Fn(&Path) -> bool,
) -> Option<String> {
    if target.contains(':') {
        return (!is_url(target)).then(|| format!("{target} is no URL"));
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let resolved = if file.is_empty() { Some(path.to_owned()) } else { resolve(path, file) };
    let Some(resolved) = resolved else { return Some(format!("{file} leads out of the repository")) };
    if !file.is_empty() && !exists(Path::new(&resolved)) {
        return Some(format!("{file} is not there"));
    }
    let known = anchors.get(resolved.as_str()).is_some_and(|known| known.iter().any(|one| one == anchor));
    // Anchors of other files, such as line numbers of a source, are not looked for.
    let needs_heading = target.contains('#') && resolved.ends_with(".md");
    (needs_heading && !known).then(|| format!("{resolved} has no heading #{anchor}"))
}

/// The path of a link from a paper, without `..`; none above the root.
fn resolve(paper: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = paper.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn is_url(target: &str) -> bool {
    let rest = target.strip_prefix("https://").or_else(|| target.strip_prefix("http://"));
    let host = rest.map_or("", |rest| rest.split(['/', '?', '#']).next().unwrap_or(""));
    host.contains('.')
        && !host.starts_with('.')
        && !host.ends_with('.')
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':'))
        && !target.contains(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"'))
}

/// The text without its blocks of code, in which nothing is a link or a heading.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

/// The targets of the links.
fn links(prose: &str) -> Vec<String> {
    let ends = prose.match_indices("](").map(|(at, _)| &prose[at + 2..]);
    ends.map(|rest| rest.split(')').next().unwrap_or("").to_owned()).collect()
}

/// The anchors of the headings, as GitHub makes them.
pub fn anchors(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let prose = prose(text);
    let headings = prose.lines().filter_map(|line| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len()).then(|| heading.strip_prefix(' ')).flatten()
    });
    for heading in headings {
        let words = heading.trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let mut name = slug.clone();
        let mut number = 0;
        while found.contains(&name) {
            number += 1;
            name = format!("{slug}-{number}");
        }
        found.push(name);
    }
    found
}

/// The lines of the blocks of commands, without their comments.
pub fn command_lines(text: &str) -> Vec<&str> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let lines = blocks.flat_map(str::lines).map(|line| line.split(" #").next().unwrap_or(line).trim());
    lines.filter(|line| !line.is_empty()).collect()
}

/// Every document in docs/ is named in its index.
pub fn check_index(papers: &[(String, String)], index: &str) -> Report {
    let mut report = Report::default();
    let linked = links(&prose(index));
    let documents = papers.iter().filter_map(|(path, _)| path.strip_prefix("docs/"));
    for document in documents.filter(|name| *name != "README.md") {
        report.examined += 1;
        if !linked.iter().any(|link| link == document) {
            report.violations.push(format!("docs/README.md does not name {document}"));
        }
    }
    report
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
