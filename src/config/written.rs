//! What a configuration says, key by key, kept to be compared with what it says later.

use std::fmt;

use toml::{Table, Value};

use super::effective;
use super::file::File;
use super::reach::{FIXED, KEPT_WITH};
use super::sources::Sources;

/// Every value of a configuration by its key, defaults included. It holds secrets, and shows none.
#[derive(Clone)]
pub struct Written {
    values: Table,
    /// Where they come from, for whoever finds one wrong later.
    sources: Sources,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written(***)")
    }
}

/// A key whose value is another one now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// `section.key`.
    pub key: String,
    /// As TOML; none: it was not set. A secret is masked.
    pub before: Option<String>,
    /// The same of now.
    pub after: Option<String>,
}

impl Written {
    pub(super) fn new(file: &File, sources: Sources) -> Self {
        Self { values: Table::try_from(file).unwrap_or_default(), sources }
    }

    /// The file type again, and where its values come from. None is not to be expected: it was one.
    pub(super) fn file(&self) -> Option<(File, &Sources)> {
        Some((self.values.clone().try_into().ok()?, &self.sources))
    }

    /// The files that hold certificates and keys, by what names them: they are replaced while a gateway runs.
    pub(super) fn key_files(&self) -> Vec<&str> {
        [self.identity_files(), self.ticket_files(), self.token_key_files()].concat()
    }

    /// The certificate of encrypted listeners, and its key.
    pub(super) fn identity_files(&self) -> Vec<&str> {
        self.named(&["tls.cert", "tls.key"])
    }

    /// The keys of TLS tickets.
    pub(super) fn ticket_files(&self) -> Vec<&str> {
        self.named(&["tls.ticket_key_file"])
    }

    /// Whatever holds keys of tokens. The CA of those that are fetched is no such key.
    pub(super) fn token_key_files(&self) -> Vec<&str> {
        let mut files = Vec::new();
        for (key, value) in self.values.get("auth").and_then(Value::as_table).into_iter().flatten() {
            match value.as_str() {
                Some(path) if key.ends_with("_file") && key != "jwks_ca_file" => files.push(path),
                _ => collect_files(value, &mut files),
            }
        }
        files
    }

    fn named(&self, keys: &[&str]) -> Vec<&str> {
        keys.iter().filter_map(|key| self.get(key)?.as_str()).collect()
    }

    /// This file with the keys that need a restart as they are in `running`, and which of them those are. None: all of
    /// it may be used as it is.
    pub(super) fn with_fixed(&self, running: &Self) -> Option<(File, Vec<String>)> {
        let kept = self.kept_from(running);
        if kept.is_empty() {
            return None;
        }
        let mut merged = self.values.clone();
        for key in &kept {
            set(&mut merged, key, running.get(key).cloned());
        }
        Some((merged.try_into().ok()?, kept))
    }

    /// The keys that need a restart and say something else here, and those that stay with them.
    fn kept_from(&self, running: &Self) -> Vec<String> {
        let differs = |key: &&&str| self.get(key) != running.get(key);
        let mut kept: Vec<_> = FIXED.iter().filter(differs).copied().collect();
        for (fixed, with) in KEPT_WITH {
            for key in with.iter().filter(differs) {
                if kept.contains(fixed) && !kept.contains(key) {
                    kept.push(*key);
                }
            }
        }
        kept.into_iter().map(str::to_owned).collect()
    }

    /// The keys whose values differ, in the order of their names. A list is one value.
    pub fn changes_from(&self, before: &Self) -> Vec<KeyChange> {
        let [mut keys, more] = [before, self].map(Self::keys);
        keys.extend(more);
        keys.sort_unstable();
        keys.dedup();
        let changed = keys.into_iter().filter(|key| before.get(key) != self.get(key));
        let shown = |written: &Self, key: &str| {
            // A list of tables may hold secrets, and is too long to be shown.
            let is_tables =
                |value: &&Value| value.as_array().is_some_and(|list| list.iter().any(Value::is_table));
            let value = written.get(key)?;
            Some(if is_tables(&value) { "[…]".to_owned() } else { effective::shown(key, value) })
        };
        changed
            .map(|key| {
                let (before, after) = (shown(before, &key), shown(self, &key));
                KeyChange { key, before, after }
            })
            .collect()
    }

    /// `section.key`, and `section.table.key`.
    fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        collect("", &self.values, &mut keys);
        keys
    }

    fn get(&self, key: &str) -> Option<&Value> {
        let (path, last) = key.rsplit_once('.')?;
        let table = path.split('.').try_fold(&self.values, |table, name| table.get(name)?.as_table())?;
        table.get(last)
    }
}

fn collect(path: &str, table: &Table, keys: &mut Vec<String>) {
    for (name, value) in table {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            Value::Table(inner) => collect(&key, inner, keys),
            _ => keys.push(key),
        }
    }
}

/// What stands under keys that end in `_file`, at any depth.
fn collect_files<'a>(value: &'a Value, files: &mut Vec<&'a str>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                match value.as_str() {
                    Some(path) if key.ends_with("_file") => files.push(path),
                    _ => collect_files(value, files),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect_files(value, files)),
        _ => {}
    }
}

/// Puts a value there, or takes out what is there.
fn set(tree: &mut Table, key: &str, value: Option<Value>) {
    let Some((path, last)) = key.rsplit_once('.') else { return };
    let mut table = tree;
    for name in path.split('.') {
        let inner = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
        let Some(inner) = inner.as_table_mut() else { return };
        table = inner;
    }
    match value {
        Some(value) => drop(table.insert(last.to_owned(), value)),
        None => drop(table.remove(last)),
    }
}
