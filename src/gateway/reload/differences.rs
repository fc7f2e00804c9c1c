//! What a reload changes, said for a person: the content of files first, then keys.

use crate::config::{Config, Instance, KeyChange, TlsIdentity, TokenKey};
use crate::route::RouteChange;

/// A line for each change. What stands in files is compared by content, whatever the keys that name them say.
pub(super) fn differences(before: &Config, after: &Config, keys: &[KeyChange]) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(RouteChange::between(&before.route, &after.route).map(|change| format!("route: {change}")));
    lines.extend(certificate_line(before.certificate(), after.certificate()));
    if before.ticket_keys != after.ticket_keys {
        lines.push("TLS tickets: other keys".to_owned());
    }
    lines.extend(token_keys_line(&before.token_keys, &after.token_keys));
    // What a key names may be replaced without any key.
    let [old, new] = [before, after].map(|config| {
        let agent = config.consul.as_ref().map(|consul| &consul.agent);
        (agent, config.webhook.as_ref().map(|webhook| &webhook.target))
    });
    let others = [("discovery.consul", old.0 != new.0), ("events.webhook", old.1 != new.1)];
    for (key, is_other) in others {
        if is_other && !keys.iter().any(|change| change.key.starts_with(key)) {
            lines.push(format!("{key}: another token or CA"));
        }
    }
    lines.extend(instances_line(&before.instances, &after.instances));
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

/// How many keys came and went; ids are no secrets.
fn token_keys_line(before: &[TokenKey], after: &[TokenKey]) -> Option<String> {
    let named = |keys: &[TokenKey], others: &[TokenKey]| -> Vec<String> {
        let changed = keys.iter().filter(|key| !others.contains(key));
        changed.map(|key| key.id.clone().unwrap_or_else(|| "one without an id".to_owned())).collect()
    };
    let (come, gone) = (named(after, before), named(before, after));
    let part =
        |what: &str, keys: Vec<String>| (!keys.is_empty()).then(|| format!("{what} {}", keys.join(", ")));
    let parts: Vec<_> = [part("new", come), part("gone", gone)].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("auth: keys: {}", parts.join("; ")))
}

/// Secrets, whose values are not shown, and what is too long to be: they are said where they are compared.
fn is_said_by_content(key: &str) -> bool {
    matches!(key, "auth.secret" | "auth.keys" | "discovery.instances")
}

fn instances_line(before: &[Instance], after: &[Instance]) -> Option<String> {
    let is_same = |one: &Instance, other: &Instance| (&one.service, &one.id) == (&other.service, &other.id);
    let named = |instance: &Instance, what| format!("{} of {} {what}", instance.id, instance.service);
    let mut parts = Vec::new();
    for instance in after {
        match before.iter().find(|known| is_same(known, instance)) {
            None => parts.push(named(instance, "added")),
            Some(known) if known != instance => parts.push(named(instance, "changed")),
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|known| !after.iter().any(|instance| is_same(known, instance)));
    parts.extend(gone.map(|instance| named(instance, "removed")));
    (!parts.is_empty()).then(|| format!("discovery.instances: {}", parts.join(", ")))
}

fn key_line(change: &KeyChange) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
    format!("{}: {} → {}", change.key, shown(&change.before), shown(&change.after))
}
