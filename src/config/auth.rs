//! `[auth]` beside its keys: what tokens must say, how far clocks may differ, and what becomes of sessions whose tokens run out.

use std::time::Duration;

use super::checker::Checker;
use super::error::ConfigError;
use crate::limits::{MAX_EXPIRY_GRACE, MAX_TOKEN_LEEWAY};

/// Claims a token must have when they are set here; what is not set is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpectedClaims {
    /// `iss` must be this string.
    pub issuer: Option<String>,
    /// `aud` must be this string, or a list of strings that has it.
    pub audience: Option<String>,
}

/// What becomes of a session whose token runs out (row B19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExpiry {
    /// It lives on.
    Keep,
    /// It ends with 3507 *token_expired* so long after the token's `exp`: whole seconds, 0 to
    /// [`MAX_EXPIRY_GRACE`].
    Close(Duration),
}

impl Checker<'_> {
    /// What tokens must say beside their bearer.
    pub(super) fn expected_claims(&self) -> Result<ExpectedClaims, ConfigError> {
        let auth = &self.file.auth;
        for (key, value) in [("auth.issuer", &auth.issuer), ("auth.audience", &auth.audience)] {
            if value.as_ref().is_some_and(String::is_empty) {
                let problem = "is empty; allowed is a text, or to leave it out: then it is not looked at";
                return Err(self.error(key, problem));
            }
        }
        Ok(ExpectedClaims { issuer: auth.issuer.clone(), audience: auth.audience.clone() })
    }

    /// What clocks may differ by.
    pub(super) fn leeway(&self) -> Result<Duration, ConfigError> {
        self.whole_seconds("auth.leeway", self.file.auth.leeway, MAX_TOKEN_LEEWAY)
    }

    /// What becomes of sessions whose tokens run out.
    pub(super) fn on_expiry(&self) -> Result<OnExpiry, ConfigError> {
        let auth = &self.file.auth;
        let grace = self.whole_seconds("auth.expiry_grace", auth.expiry_grace, MAX_EXPIRY_GRACE)?;
        match auth.on_expiry.as_str() {
            "keep" => Ok(OnExpiry::Keep),
            "close" => Ok(OnExpiry::Close(grace)),
            other => {
                let problem = format!("is {other:?}; allowed are \"keep\" and \"close\"");
                Err(self.error("auth.on_expiry", problem))
            }
        }
    }

    fn whole_seconds(&self, key: &str, value: Duration, longest: Duration) -> Result<Duration, ConfigError> {
        if value > longest || value.subsec_nanos() != 0 {
            let [shown, longest] = [value, longest].map(humantime::format_duration);
            let problem = format!("is {shown}; allowed are whole seconds from 0s to {longest}");
            return Err(self.error(key, problem));
        }
        Ok(value)
    }
}
