//! How large the parts are and how often a name is used twice: what the next person compares with.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};

use super::source::{Source, blank};

/// The parts that are not the gateway proper, each below a directory of its own.
const OTHER_PARTS: &[&str] = &[
    "crates/wire",
    "crates/net",
    "crates/client",
    "crates/service",
    "crates/messenger",
    "crates/bench",
    "src/cli",
    "src/certs",
    // Compiled for fuzzing and measurements alone.
    "src/internals",
];

/// The size of one part, without tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub files: usize,
    /// Lines that hold more than a comment.
    pub code_lines: usize,
    /// Lines that hold a comment that is no doc comment.
    pub comments: usize,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Figures {
    sizes: BTreeMap<&'static str, Size>,
    product_types: TypeNames,
    test_types: TypeNames,
    readme_lines: usize,
}

/// The names of types, each with where it is defined.
#[derive(Debug, Default)]
struct TypeNames(BTreeMap<String, Vec<String>>);

impl TypeNames {
    fn add(&mut self, path: &str, code: &str) {
        for name in type_names(code) {
            self.0.entry(name).or_default().push(path.to_owned());
        }
    }

    fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn shared(&self) -> impl Iterator<Item = (&String, &Vec<String>)> {
        self.0.iter().filter(|(_, paths)| paths.len() > 1)
    }

    fn shared_count(&self) -> usize {
        self.shared().map(|(_, paths)| paths.len()).sum()
    }
}

impl Figures {
    /// Counts in `files`, of which `product` are those without the files of tests.
    pub fn new(files: &[(String, String)], product: &[Source], readme: &str) -> Self {
        let mut figures = Self { readme_lines: readme.lines().count(), ..Self::default() };
        for (path, text) in files {
            let source = product.iter().find(|source| source.path == *path);
            let code = source.map_or("", |source| &source.code);
            if source.is_some() {
                let size = figures.sizes.entry(part(path)).or_default();
                size.add(code, text);
                figures.product_types.add(path, code);
            }
            let tests: Vec<String> =
                blank(text).lines().skip(code.lines().count()).map(str::to_owned).collect();
            figures.test_types.add(path, &tests.join("\n"));
        }
        figures
    }

    pub fn size(&self, part: &str) -> Option<&Size> {
        self.sizes.get(part)
    }

    /// How many types of the product share their name with another type of the product.
    pub fn shared_product_types(&self) -> usize {
        self.product_types.shared_count()
    }

    /// How many types of tests share their name with another type of tests.
    pub fn shared_test_types(&self) -> usize {
        self.test_types.shared_count()
    }
}

impl Size {
    fn add(&mut self, code: &str, text: &str) {
        self.files += 1;
        for (code, line) in code.lines().zip(text.lines()) {
            self.code_lines += usize::from(!code.is_empty() && !line.trim_start().starts_with("//"));
            self.comments += usize::from(holds_comment(code, line));
        }
    }

    fn comments_per_thousand(&self) -> usize {
        self.comments * 1000 / self.code_lines.max(1)
    }
}

impl Display for Figures {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        writeln!(out, "{:16}{:>6}{:>12}{:>26}", "part", "files", "code lines", "comments per 1000 lines")?;
        for (part, size) in &self.sizes {
            let comments = size.comments_per_thousand();
            writeln!(out, "{part:16}{:>6}{:>12}{comments:>26}", size.files, size.code_lines)?;
        }
        writeln!(out, "README.md has {} lines", self.readme_lines)?;
        for (what, types) in [("product", &self.product_types), ("tests", &self.test_types)] {
            writeln!(out, "{what}: {} types, {} share a name", types.count(), types.shared_count())?;
            for (name, paths) in types.shared() {
                writeln!(out, "  {name} {}: {}", paths.len(), paths.join(" "))?;
            }
        }
        Ok(())
    }
}

fn part(path: &str) -> &'static str {
    let holds = |part: &str| path.strip_prefix(part).is_some_and(|rest| rest.starts_with('/'));
    OTHER_PARTS.iter().find(|part| holds(part)).copied().unwrap_or("gateway proper")
}

/// Returns `true` if the line ends with a comment that is no doc comment; `code` is the line without it.
fn holds_comment(code: &str, line: &str) -> bool {
    let comment = &line[code.trim_end().len()..];
    let Some(comment) = comment.trim_start().strip_prefix("//") else { return false };
    !comment.starts_with('/') && !comment.starts_with('!')
}

/// The structs, enums and traits that are defined in `code`.
fn type_names(code: &str) -> Vec<String> {
    let defined = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub") || *word == "in");
        words.next().filter(|word| matches!(*word, "struct" | "enum" | "trait"))?;
        let name: String = words.next()?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        Some(name).filter(|name| !name.is_empty())
    };
    code.lines().filter_map(defined).collect()
}
