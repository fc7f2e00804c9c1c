//! Files that import each other, directly or by way of others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::paths::{Import, count, declares, named};
use super::source::{Report, Source};

/// Follows a chain of re-exports no further than this.
const MAX_HOPS: usize = 8;

/// Checks that the imports of the files make no circle. A file imports another when it names what that one declares;
/// that it holds it as a module, or hands it on with `pub use`, is no import.
pub fn check(sources: &[Source]) -> Report {
    let mut report = Report::default();
    for of_crate in sources.chunk_by(|one, next| one.in_crate() == next.in_crate()) {
        let Report { examined, violations } = check_crate(of_crate);
        report.examined += examined;
        report.violations.extend(violations);
    }
    report
}

/// The same for the files of one crate: between crates there can be none.
fn check_crate(sources: &[Source]) -> Report {
    let files = FileGraph::new(sources);
    let edges: Vec<BTreeMap<usize, BTreeSet<String>>> =
        (0..sources.len()).map(|file| files.imports_of(file)).collect();
    let reached: Vec<BTreeSet<usize>> = (0..edges.len()).map(|from| reachable(&edges, from)).collect();
    let mut report = Report { examined: edges.iter().map(BTreeMap::len).sum(), violations: Vec::new() };
    let mut seen = BTreeSet::new();
    for from in 0..edges.len() {
        let circle: BTreeSet<usize> =
            reached[from].iter().copied().filter(|to| reached[*to].contains(&from)).collect();
        if !circle.is_empty() && seen.insert(circle.clone()) {
            report.violations.push(describe(sources, &edges, &circle));
        }
    }
    report
}

/// The files that can be reached from one, itself only by way of another.
fn reachable(edges: &[BTreeMap<usize, BTreeSet<String>>], from: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open: Vec<usize> = edges[from].keys().copied().collect();
    while let Some(file) = open.pop() {
        if found.insert(file) {
            open.extend(edges[file].keys());
        }
    }
    found
}

/// The files of a circle, and every import within it.
fn describe(
    sources: &[Source],
    edges: &[BTreeMap<usize, BTreeSet<String>>],
    circle: &BTreeSet<usize>,
) -> String {
    let names: Vec<&str> = circle.iter().map(|file| sources[*file].path.as_str()).collect();
    let mut text = format!("{} files import each other: {}", names.len(), names.join(", "));
    for from in circle {
        for (to, paths) in edges[*from].iter().filter(|(to, _)| circle.contains(to)) {
            let mut paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            // What was imported once is named often.
            if paths.iter().any(|path| path.starts_with("crate::")) {
                paths.retain(|path| path.starts_with("crate::"));
            }
            text += &format!("\n    {} -> {}: {}", sources[*from].path, sources[*to].path, paths.join(", "));
        }
    }
    text
}

/// The sources, and which of them is which module.
struct FileGraph<'a> {
    sources: &'a [Source],
    modules: HashMap<String, usize>,
    imports: Vec<Vec<Import>>,
    inline: Vec<Vec<String>>,
}

impl<'a> FileGraph<'a> {
    fn new(sources: &'a [Source]) -> Self {
        let modules = sources
            .iter()
            .enumerate()
            .map(|(at, source)| (source.module_in_crate().join("::"), at))
            .collect();
        let (imports, inline) = sources.iter().map(named).unzip();
        Self { sources, modules, imports, inline }
    }

    /// The files whose declarations a file names, with the paths by which it does.
    fn imports_of(&self, file: usize) -> BTreeMap<usize, BTreeSet<String>> {
        let used = |import: &&Import| !import.is_public || count(&self.sources[file], &import.name) > 1;
        let imports = self.imports[file].iter().filter(used).map(|import| &import.path);
        let mut found = BTreeMap::<usize, BTreeSet<String>>::new();
        for path in imports.chain(&self.inline[file]) {
            if let Some(to) = self.declaring(file, path, MAX_HOPS)
                && to != file
            {
                found.entry(to).or_default().insert(path.clone());
            }
        }
        found
    }

    /// The file that declares what a path in `file` names; `None` for a module as a whole, and for other crates.
    fn declaring(&self, file: usize, path: &str, hops: usize) -> Option<usize> {
        let hops = hops.checked_sub(1)?;
        let (first, rest) = path.split_once("::").unwrap_or((path, ""));
        if first != "crate" {
            let module = self.sources[file].module_in_crate();
            let child = module.iter().copied().chain([first]).collect::<Vec<_>>().join("::");
            if self.modules.contains_key(&child) {
                return self.declaring(file, &format!("crate::{child}::{rest}"), hops);
            }
            let import =
                self.imports[file].iter().find(|import| import.name == first && import.path != path)?;
            return self.declaring(file, &format!("{}::{rest}", import.path), hops);
        }
        // The longest module that is a file, and what is named in it.
        let parts: Vec<&str> = rest.split("::").filter(|part| !part.is_empty()).collect();
        let length =
            (0..=parts.len()).rev().find(|length| self.modules.contains_key(&parts[..*length].join("::")))?;
        let holder = self.modules[&parts[..length].join("::")];
        let item = parts.get(length).filter(|item| **item != "*")?;
        if declares(&self.sources[holder], item) {
            return Some(holder);
        }
        let imports = &self.imports[holder];
        if let Some(import) = imports.iter().find(|import| import.name == *item) {
            return self.declaring(holder, &import.path, hops);
        }
        let globs = imports.iter().filter_map(|import| import.path.strip_suffix("*"));
        let declared = |file: &usize| declares(&self.sources[*file], item);
        let mut through =
            globs.filter_map(|glob| self.declaring(holder, &format!("{glob}{item}"), hops).filter(declared));
        // What nobody declares in so many words is made by a macro of its holder.
        through.next().or(Some(holder))
    }
}
