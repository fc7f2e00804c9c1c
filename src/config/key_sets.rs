//! `auth.jwks_file` and `auth.jwks_url`: keys that stand in a JSON Web Key Set, beside those of `[auth]` or instead of them.

use super::checker::Checker;
use super::error::ConfigError;
use super::events::parse as parse_url;
use super::http_target::{HttpTarget, TargetParts};
use super::jwks::{KeyDocument, KeyOrigin};
use super::token_keys::{TokenKey, VerifyingKey};
use crate::files;

/// Where a set is fetched while the gateway runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl {
    /// The server of the URL. Without TLS it is on this machine.
    pub target: HttpTarget,
    /// The rest of the URL with the query; begins with a slash.
    pub path: String,
}

impl Checker<'_> {
    /// Returns `true` if there may be keys without any in `[auth]` itself.
    pub(super) fn has_key_set(&self) -> bool {
        self.file.auth.jwks_file.is_some() || self.jwks_url_text().is_some()
    }

    /// The keys of the file, if one is named. None of them has an id of `before`.
    pub(super) fn jwks_file(&mut self, before: &[TokenKey]) -> Result<Vec<TokenKey>, ConfigError> {
        const KEY: &str = "auth.jwks_file";
        let Some(path) = &self.file.auth.jwks_file else { return Ok(Vec::new()) };
        if self.jwks_url_text().is_some() {
            return Err(self.error(KEY, "stands beside auth.jwks_url; allowed is one of them"));
        }
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

    /// Where keys are fetched; none: nowhere.
    pub(super) fn jwks_url(&mut self) -> Result<Option<JwksUrl>, ConfigError> {
        const KEY: &str = "auth.jwks_url";
        let auth = &self.file.auth;
        let Some(text) = self.jwks_url_text() else {
            if auth.jwks_ca_file.is_some() {
                let problem = "is set without auth.jwks_url; allowed is both or neither";
                return Err(self.error("auth.jwks_ca_file", problem));
            }
            return Ok(None);
        };
        // Whoever changes the answer on its way lets in whom he likes.
        let Some((target, path)) = parse_url(text).filter(|(target, _)| target.tls || target.is_local())
        else {
            let problem = "is no URL keys can be fetched from; allowed is https:// with a host, without a user or password, \
                           such as \"https://id.example.org/.well-known/jwks.json\", and http:// on this machine";
            return Err(self.error(KEY, problem));
        };
        let parts = TargetParts {
            address_key: KEY,
            token_keys: None,
            token: None,
            token_file: None,
            ca_file_key: "auth.jwks_ca_file",
            ca_file: auth.jwks_ca_file.as_ref(),
            trusts_system: true,
            no_roots: "is missing, and this system has no list of its own; allowed is a PEM file with certificates",
        };
        let target = self.complete(target, &parts)?;
        Ok(Some(JwksUrl { target, path }))
    }

    /// An empty text switches it off, as that of a webhook does.
    fn jwks_url_text(&self) -> Option<&str> {
        self.file.auth.jwks_url.as_deref().map(str::trim).filter(|text| !text.is_empty())
    }
}
