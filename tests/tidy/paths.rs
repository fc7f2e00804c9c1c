//! The paths that a source names.

use super::source::Source;

/// One branch of a `use` declaration.
pub struct Import {
    /// The name it has in this file.
    pub name: String,
    /// What it stands for, from `crate` on where it is of this crate.
    pub path: String,
    /// Whether others may name it through this file.
    pub is_public: bool,
}

/// Every path a source names, with `use` groups expanded and `self` and `super` resolved.
pub fn paths(source: &Source) -> Vec<String> {
    let (imports, mut found) = named(source);
    found.extend(imports.into_iter().map(|import| import.path));
    found
}

/// What the `use` declarations of a source import, and the paths in its code.
pub fn named(source: &Source) -> (Vec<Import>, Vec<String>) {
    let tokens = product(&tokens(&source.code));
    let (mut imports, mut inline) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        // `use<'a>` in a return type is no import.
        if tokens[at] == "use" && tokens.get(at + 1) != Some(&"<") {
            let is_public = at > 0 && matches!(tokens[at - 1], "pub" | ")");
            let mut found = Vec::new();
            at += 1;
            tree(&tokens, &mut at, "", &mut found);
            imports.extend(found.into_iter().map(|(path, name)| Import { name, path, is_public }));
        } else if is_word(tokens[at]) {
            let mut path = tokens[at].to_owned();
            while tokens.get(at + 1) == Some(&"::") && tokens.get(at + 2).is_some_and(|next| is_word(next)) {
                path = format!("{path}::{}", tokens[at + 2]);
                at += 2;
            }
            if path.contains("::") {
                inline.push(path);
            }
            at += 1;
        } else {
            at += 1;
        }
    }
    let module = source.module_in_crate();
    for import in &mut imports {
        import.path = resolve(&module, &import.path);
    }
    (imports, inline.iter().map(|path| resolve(&module, path)).collect())
}

/// Returns how often a word stands in a source, imports included.
pub fn count(source: &Source, word: &str) -> usize {
    product(&tokens(&source.code)).iter().filter(|token| **token == word).count()
}

/// Returns `true` if a source declares something of this name.
pub fn declares(source: &Source, name: &str) -> bool {
    const KINDS: [&str; 9] = ["struct", "enum", "fn", "const", "static", "trait", "type", "mod", "!"];
    product(&tokens(&source.code)).windows(2).any(|pair| KINDS.contains(&pair[0]) && pair[1] == name)
}

/// One branch of a `use` declaration, as path and name; stops behind it.
fn tree(tokens: &[&str], at: &mut usize, prefix: &str, found: &mut Vec<(String, String)>) {
    let mut path = prefix.to_owned();
    let mut name = None;
    while let Some(token) = tokens.get(*at) {
        *at += 1;
        match *token {
            "::" => {}
            "{" => {
                loop {
                    tree(tokens, at, &path, found);
                    match tokens.get(*at - 1) {
                        Some(&",") => {}
                        _ => break,
                    }
                }
                // What follows the group ends this branch as well.
                *at += 1;
                return;
            }
            "as" => {
                name = tokens.get(*at).map(|name| (*name).to_owned());
                *at += 1;
            }
            "," | "}" | ";" => break,
            "self" if !path.is_empty() => name = path.rsplit("::").next().map(str::to_owned),
            word => path = if path.is_empty() { word.to_owned() } else { format!("{path}::{word}") },
        }
    }
    if path != prefix || name.is_some() {
        let name = name.unwrap_or_else(|| path.rsplit("::").next().unwrap_or_default().to_owned());
        found.push((path, name));
    }
}

/// `self::x` and `super::x` as `crate::…`.
fn resolve(module: &[&str], path: &str) -> String {
    let mut rest: Vec<&str> = path.split("::").collect();
    let mut base = module.to_vec();
    let mut relative = false;
    while let Some(first @ (&"self" | &"super")) = rest.first() {
        if *first == "super" {
            base.pop();
        }
        relative = true;
        rest.remove(0);
    }
    if !relative {
        return path.to_owned();
    }
    ["crate"].into_iter().chain(base).chain(rest).collect::<Vec<_>>().join("::")
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The tokens without the items under `#[cfg(test)]`.
fn product<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].starts_with(&TEST) {
            at += TEST.len();
            let mut depth = 0;
            // To the end of the item: a semicolon, or the brace that closes its body.
            while let Some(token) = tokens.get(at) {
                at += 1;
                match *token {
                    "{" => depth += 1,
                    "}" if depth == 1 && tokens.get(at) != Some(&";") => break,
                    "}" => depth -= 1,
                    ";" if depth == 0 => break,
                    _ => {}
                }
            }
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

/// Words, `::`, and single other characters.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}
