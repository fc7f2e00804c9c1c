//! What a reload changes, said for a person: the content of files first, then keys.

use crate::config::{Auth, Config, KeyChange, TlsIdentity};
use crate::route::RouteChange;

/// A line for each change. What stands in files is compared by content, whatever the keys that name them say.
pub(super) fn differences(before: &Config, after: &Config, keys: &[KeyChange]) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(RouteChange::between(&before.route, &after.route).map(|change| format!("route: {change}")));
    lines.extend(certificate_line(before.certificate(), after.certificate()));
    if before.auth != after.auth {
        lines.push(format!("auth: another key ({})", algorithm(&after.auth)));
    }
    lines.extend(keys.iter().filter(|change| !is_said_by_content(&change.key)).map(key_line));
    lines
}

fn certificate_line(before: Option<&TlsIdentity>, after: Option<&TlsIdentity>) -> Option<String> {
    let after = after.filter(|after| before != Some(after))?;
    let end = after.not_after().and_then(|end| u64::try_from(end).ok()).map(|seconds| {
        let end = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let text = humantime::format_rfc3339_seconds(end).to_string();
        text.split('T').next().unwrap_or_default().to_owned()
    });
    Some(format!("certificate: ends {}", end.as_deref().unwrap_or("nobody knows when")))
}

const fn algorithm(auth: &Auth) -> &'static str {
    match auth {
        Auth::Hs256(_) => "HS256",
        Auth::Rs256(_) => "RS256",
        Auth::Es256(_) => "ES256",
        Auth::EdDsa(_) => "EdDSA",
    }
}

/// A secret, whose value is not shown: what it is used for is said where it is compared.
fn is_said_by_content(key: &str) -> bool {
    key == "auth.secret"
}

fn key_line(change: &KeyChange) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
    format!("{}: {} → {}", change.key, shown(&change.before), shown(&change.after))
}
