//! How far a change of each key reaches while a gateway runs: it applies, or it needs a restart.

/// Keys whose change needs a restart: who the gateway is to others, what it listens on, and what every channel or log line
/// was made with. Everything else applies; a test holds that each key stands in one of the two lists.
pub(super) const FIXED: &[&str] = &[
    "gateway.id",
    "gateway.workers",
    "gateway.dialect",
    "gateway.state_file",
    "quic.listen",
    "quic.key_file",
    "quic.lb",
    "tcp.listen",
    "tcp.tls_listen",
    "tcp.proxy_protocol",
    "tcp.trusted",
    "websocket.listen",
    "websocket.tls_listen",
    "websocket.proxy_protocol",
    "websocket.trusted",
    "auth.jwks_url",
    "auth.jwks_ca_file",
    "login.service",
    "discovery.kind",
    "monitor.listen",
    "admin.socket",
    "admin.bans_file",
    "admin.listen",
    "admin.token_file",
    "log.format",
    "tracing.endpoint",
    "tracing.ca_file",
];

/// Keys that stay as they are while another one does that needs a restart: they say what it works with. A new list without
/// the kind that it was written for would take every instance away, and a new key would stand beside the set in whose
/// place it comes.
pub(super) const KEPT_WITH: &[(&str, &[&str])] = &[
    (
        "discovery.kind",
        &[
            "discovery.instances",
            "discovery.services",
            "discovery.consul",
            "discovery.register",
            "gateway.advertise",
        ],
    ),
    ("login.service", &["discovery.instances", "discovery.services"]),
    (
        "auth.jwks_url",
        &[
            "auth.jwks_file",
            "auth.keys",
            "auth.algorithm",
            "auth.secret",
            "auth.secret_file",
            "auth.public_key_file",
        ],
    ),
];

/// Keys that apply at once. What each means for those who are connected stands in docs/operations.md.
#[cfg(test)]
pub(super) const LIVE: &[(&str, &[&str])] = &[
    ("gateway", &["advertise"]),
    ("quic", &["migration"]),
    ("tls", &["cert", "key", "ticket_key_file"]),
    (
        "auth",
        &[
            "algorithm",
            "secret",
            "secret_file",
            "public_key_file",
            "issuer",
            "audience",
            "leeway",
            "on_expiry",
            "expiry_grace",
            "jwks_file",
            "keys",
        ],
    ),
    ("websocket", &["paths", "allowed_origins", "max_head", "head_deadline"]),
    ("login", &["signout_after_kick"]),
    ("route", &["file", "bounded_load"]),
    ("discovery", &["services", "instances"]),
    (
        "discovery.consul",
        &["address", "token", "token_file", "ca_file", "wait", "answer", "shrink_hold", "last_resort"],
    ),
    ("discovery.register", &["enabled", "name", "tags", "domain", "check_url"]),
    ("monitor", &["ready_when_full"]),
    ("events", &["webhook", "webhook_token", "webhook_token_file", "webhook_ca_file", "timeout"]),
    ("tracing", &["ratio", "accounts", "trust_clients"]),
    ("drain", &["window", "hard_stop"]),
    ("log", &["level"]),
    (
        "limits",
        &[
            "max_frame",
            "max_frame_before_login",
            "max_header",
            "max_metas",
            "max_string",
            "max_channel_id",
            "max_token",
            "max_account",
            "login_deadline",
            "login_answer",
            "max_logins_waiting",
            "handshake_deadline",
            "handshake_deadline_crowded",
            "frame_deadline",
            "read_idle",
            "request_deadline",
            "write_stall",
            "tcp_user_timeout",
            "max_connections",
            "max_handshakes",
            "retry_from",
            "retry_from_rate",
            "frames_per_second",
            "bytes_per_second",
            "max_pending",
            "max_queued_messages",
            "max_queued_bytes",
            "max_queued_time",
            "max_queued_messages_hard",
            "max_queued_bytes_hard",
            "max_push",
            "memory",
            "queued_bytes",
            "before_login_bytes",
            "connections_per_second",
            "address_connections_per_second",
            "address_connection_burst",
            "address_connections_share",
            "address_handshakes_share",
            "account_logins_per_second",
            "account_login_burst",
            "quic_idle",
            "quic_streams",
            "quic_streams_per_minute",
            "quic_stream_window",
            "quic_connection_window",
            "quic_send_window",
            "backend_max_frame",
            "backend_max_channels",
            "backend_ping",
            "backend_misses",
            "backend_frame_deadline",
            "backend_queued_bytes",
            "backend_queued_packets",
            "backend_dial",
            "backend_warming",
            "backend_returned_within",
            "backend_timeouts",
            "backend_ejected",
            "backend_ejected_max",
            "backoff_first",
            "backoff_max",
            "signout_retry",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{Options, parse};

    /// The names the file type knows in a table, as it says to whoever writes another one.
    fn known(table: &str) -> BTreeSet<String> {
        let head = if table == "gateway" { String::new() } else { "[gateway]\nid = \"a\"\n".to_owned() };
        let text = match table {
            "" => format!("{head}[no_such_key]\n"),
            _ => format!("{head}[{table}]\nid = \"a\"\nno_such_key = 1\n"),
        };
        let text = if table == "gateway" { text } else { text.replace("]\nid = \"a\"\nno", "]\nno") };
        let told = parse(&text, "test", &Options::default()).unwrap_err().to_string();
        let allowed = told.split("allowed are ").nth(1).unwrap_or_else(|| panic!("{table}: {told}"));
        let allowed = allowed.split(" (").next().unwrap();
        allowed.split(", ").map(str::to_owned).collect()
    }

    #[test]
    fn f17_what_is_kept_with_a_key_applies_without_it() {
        for (fixed, with) in KEPT_WITH {
            assert!(FIXED.contains(fixed), "{fixed}");
            for key in *with {
                let (table, name) = key.rsplit_once('.').unwrap();
                let is_live =
                    LIVE.iter().any(|(live, keys)| live == key || live == &table && keys.contains(&name));
                assert!(is_live, "{key}");
            }
        }
    }

    /// A new key is put into one of the two lists by whoever adds it, and into what applies it.
    #[test]
    fn f17_every_key_of_the_file_applies_or_is_named_as_needing_a_restart() {
        let sections = known("");
        let nested = ["discovery.consul", "discovery.register"];
        assert!(sections.len() > 12, "{sections:?}");
        let tables = sections.iter().map(String::as_str).chain(nested);
        let mut all = BTreeSet::new();
        for table in tables {
            all.extend(known(table).into_iter().map(|key| format!("{table}.{key}")));
        }
        all.retain(|key| !nested.contains(&key.as_str()));
        let live = LIVE.iter().flat_map(|(table, keys)| keys.iter().map(move |key| format!("{table}.{key}")));
        let live: BTreeSet<_> = live.collect();
        let fixed: BTreeSet<_> = FIXED.iter().map(|key| (*key).to_owned()).collect();
        let both: Vec<_> = live.intersection(&fixed).collect();
        assert!(both.is_empty(), "in both lists: {both:?}");
        let listed: BTreeSet<_> = live.union(&fixed).cloned().collect();
        assert_eq!(all.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "in no list");
        assert_eq!(
            listed.difference(&all).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "not a key of the file"
        );
    }
}
