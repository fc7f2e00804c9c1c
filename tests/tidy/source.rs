//! The sources under `src/` and `crates/`, with comments, literals and tests taken out of the way.

use std::path::{Path, PathBuf};

/// What a check looked at and what it found.
#[derive(Debug, Default)]
pub struct Report {
    pub examined: usize,
    pub violations: Vec<String>,
}

impl Report {
    /// Fails with every violation, and also if the check looked at nothing.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.examined > 0, "this check examined nothing");
        assert!(
            self.violations.is_empty(),
            "{} violations:\n{}",
            self.violations.len(),
            self.violations.join("\n")
        );
    }
}

/// One source file.
pub struct Source {
    /// Relative to the repository, with forward slashes: `crates/wire/src/frame.rs`.
    pub path: String,
    /// Everything before the tests, with the contents of comments and literals blanked; lines are kept.
    pub code: String,
    /// Where its test module is not its last item: the line after it.
    pub code_after_tests: Option<usize>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let blanked = blank(text);
        let (code, code_after_tests) = cut_tests(&blanked);
        Self { path: path.to_owned(), code, code_after_tests }
    }

    /// The crate below `crates/` that it belongs to; none for the gateway itself.
    pub fn in_crate(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    /// The module path within its crate: `["frame"]` in the crate wire.
    pub fn module_in_crate(&self) -> Vec<&str> {
        self.module().split_off(usize::from(self.in_crate().is_some()))
    }

    /// The module path: `["session", "channel"]`, and `["wire", "frame"]` in the crate wire; empty for `lib.rs`.
    pub fn module(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("crates/").trim_end_matches(".rs");
        path.split('/').filter(|part| !matches!(*part, "src" | "mod" | "lib")).collect()
    }
}

/// The repository's root: where cargo runs the tests, which need not be where they were compiled.
pub fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// What nobody writes.
const GENERATED: &str = "crates/wire/src/pb.rs";

/// The directories `src` of the gateway and of each crate.
fn source_directories() -> Vec<PathBuf> {
    let crates = std::fs::read_dir(root().join("crates")).expect("crates is there");
    let crates = crates.map(|entry| entry.expect("crates is readable").path().join("src"));
    [root().join("src")].into_iter().chain(crates).collect()
}

/// Every product source: the files of each `src` without those of test modules, and without what is generated.
pub fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for directory in source_directories() {
        walk(&directory, &mut files);
    }
    files.retain(|file| !file.ends_with(GENERATED));
    files.sort();
    let root = root();
    let texts: Vec<(String, String)> = files
        .iter()
        .map(|file| {
            let relative = file.strip_prefix(&root).expect("it was found below the root");
            let text = std::fs::read_to_string(file).expect("sources are readable");
            (relative.to_string_lossy().replace('\\', "/"), text)
        })
        .collect();
    let tests: Vec<String> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let is_test = |path: &str| {
        tests.iter().any(|test| path == format!("{test}.rs") || path.starts_with(&format!("{test}/")))
    };
    let product = texts.iter().filter(|(path, _)| !is_test(path));
    product.map(|(path, text)| Source::new(path, text)).collect()
}

/// Every Rust file of the package, tests included, as it stands.
pub fn all_sources() -> Vec<(String, String)> {
    let root = root();
    let mut files = Vec::new();
    for directory in ["src", "crates", "tests", "benches", "fuzz/fuzz_targets"] {
        walk(&root.join(directory), &mut files);
    }
    files.retain(|file| !file.ends_with(GENERATED));
    files.sort();
    let read = |file: &PathBuf| {
        let relative = file.strip_prefix(&root).expect("it was found below the root");
        let text = std::fs::read_to_string(file).expect("sources are readable");
        (relative.to_string_lossy().replace('\\', "/"), text)
    };
    files.iter().map(read).collect()
}

/// The modules that a file declares for tests, its own or those of other crates, and keeps in files of their own, as paths without `.rs`.
pub fn test_modules(path: &str, text: &str) -> Vec<String> {
    let directory = match path.rsplit_once('/') {
        Some((directory, "mod.rs" | "lib.rs" | "main.rs")) => directory,
        _ => path.trim_end_matches(".rs"),
    };
    let mut is_test = false;
    let mut found = Vec::new();
    for line in text.lines() {
        let name = line.strip_suffix(';').and_then(|line| line.split_once("mod ")).map(|(_, name)| name);
        if let Some(name) = name.filter(|_| is_test) {
            found.push(format!("{directory}/{name}"));
        }
        is_test = matches!(line, "#[cfg(test)]" | "#[cfg(any(test, feature = \"testing\"))]")
            || (is_test && line.starts_with("#["));
    }
    found
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("src is there") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Replaces what is inside comments, strings and character literals with spaces; newlines stay.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end > at {
            for byte in &mut out[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            at = end;
        } else {
            at += 1;
        }
    }
    String::from_utf8(out).expect("whole characters were replaced")
}

/// The end of the comment or literal that begins at `at`; `at` itself where none begins.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let within_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at + block_comment(rest);
    }
    if rest[0] == b'r' && (!within_word || matches!(bytes[at - 1], b'b' | b'c')) {
        let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            let closing: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            let body = &rest[2 + hashes..];
            let length = body.windows(closing.len()).position(|window| window == closing);
            return at + length.map_or(rest.len(), |length| 2 + hashes + length + closing.len());
        }
    }
    match rest[0] {
        b'"' => at + quoted(rest, b'"'),
        // A character literal ends with a quote after one character or an escape; a lifetime does not.
        b'\'' if rest.get(1) == Some(&b'\\') => at + quoted(rest, b'\''),
        b'\'' => {
            let width = std::str::from_utf8(&rest[1..rest.len().min(5)])
                .or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]))
                .ok()
                .and_then(|text| text.chars().next())
                .map_or(0, char::len_utf8);
            if width > 0 && rest.get(1 + width) == Some(&b'\'') { at + width + 2 } else { at }
        }
        _ => at,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The code before the test module, and the line where code goes on behind it, if it does.
fn cut_tests(code: &str) -> (String, Option<usize>) {
    let lines: Vec<&str> = code.lines().collect();
    let is_tests = |at: usize| {
        lines[at] == "#[cfg(test)]"
            && lines[at + 1..].iter().find(|line| !line.starts_with("#[")).is_some_and(|line| {
                line.starts_with("mod ")
                    || line.starts_with("pub mod ")
                    || line.starts_with("pub(crate) mod ")
            })
    };
    let Some(first) = (0..lines.len()).find(|at| is_tests(*at)) else { return (code.to_owned(), None) };
    let opening = first + lines[first..].iter().position(|line| line.contains("mod ")).unwrap_or(0);
    let mut kept: Vec<&str> = lines[..first].to_vec();
    // Several out-of-line test modules may stand in the middle of the list of modules.
    if lines[opening].trim_end().ends_with(';') {
        let (rest, after) = cut_tests(&lines[opening + 1..].join("\n"));
        // Blank lines keep the numbers of the lines that follow.
        kept.extend(std::iter::repeat_n("", opening + 1 - first));
        return (kept.join("\n") + "\n" + &rest, after.map(|line| line + opening + 1));
    }
    let closing = lines[opening..].iter().position(|line| *line == "}").map(|at| opening + at);
    let after = closing.and_then(|closing| {
        lines[closing + 1..].iter().position(|line| !line.trim().is_empty()).map(|at| closing + 2 + at)
    });
    (kept.join("\n"), after)
}
