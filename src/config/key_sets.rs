//! `auth.jwks_file`: keys that stand in a JSON Web Key Set, beside those of `[auth]` or instead of them.

use super::checker::Checker;
use super::error::ConfigError;
use super::jwks::{KeyDocument, KeyOrigin};
use super::token_keys::{TokenKey, VerifyingKey};
use crate::files;

impl Checker<'_> {
    /// The keys of the file, if one is named. None of them has an id of `before`.
    pub(super) fn jwks_file(&mut self, before: &[TokenKey]) -> Result<Vec<TokenKey>, ConfigError> {
        const KEY: &str = "auth.jwks_file";
        let Some(path) = &self.file.auth.jwks_file else { return Ok(Vec::new()) };
        let path = self.options.base.join(path);
        let allowed = "allowed is a file with a JSON Web Key Set";
        let json =
            files::unmarked(&path).map_err(|problem| self.error(KEY, format!("{problem}; {allowed}")))?;
        let document = KeyDocument::parse(&json, KeyOrigin::File, self.options.dev)
            .map_err(|problem| self.error(KEY, format!("{} {problem}", path.display())))?;
        let of_before = |id: &String| before.iter().position(|key| key.id.as_ref() == Some(id));
        if let Some(other) = document.keys.iter().filter_map(|key| key.id.as_ref()).find_map(of_before) {
            let problem = format!("{} has a key with the id of auth.keys[{other}]", path.display());
            return Err(self.error(KEY, format!("{problem}; allowed is each id once")));
        }
        for (position, problem) in document.skipped {
            self.warnings.push(format!("{KEY}: key {position} is left out: it {problem}"));
        }
        if document.keys.iter().any(|key| matches!(key.key, VerifyingKey::Hs256(_))) {
            self.warn_of_open(KEY, &path);
        }
        Ok(document.keys)
    }
}
