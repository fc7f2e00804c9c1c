//! `[tracing]`: the collector, and what is recorded.

use super::*;

fn tracing(home: &Home, lines: &str) -> Result<Loaded, ConfigError> {
    home.parse(&minimal(&format!("[tracing]\n{lines}\n")), &[])
}

#[cfg(feature = "trace-export")]
#[test]
fn a_collector_is_asked_for_only_where_one_is_set() {
    let home = Home::new("tracing");
    let read = tracing(&home, "ratio = 1\naccounts = [\"alice\"]\nendpoint = \"\"").unwrap().config.tracing;
    assert!(read.collector.is_none() && read.accounts.contains("alice") && !read.trust_clients);
    for (endpoint, path) in [("http://127.0.0.1:4318", "/v1/traces"), ("http://127.0.0.1:4318/x", "/x")] {
        let read = tracing(&home, &format!("endpoint = \"{endpoint}\"")).unwrap().config.tracing;
        assert_eq!(read.collector, Some((HttpTarget::plain("127.0.0.1", 4318), path.to_owned())));
    }
    let warnings = tracing(&home, "endpoint = \"http://h.example\"").unwrap().warnings.join("\n");
    assert!(warnings.contains("tracing.endpoint: spans travel in clear to h.example"), "{warnings}");
    let refused = tracing(&home, "endpoint = \"127.0.0.1:4318\"").unwrap_err().to_string();
    assert!(refused.contains("tracing.endpoint: is no URL of a collector; allowed is http://"), "{refused}");
}

#[test]
fn the_environment_sets_all_of_it() {
    let home = Home::new("tracing-environment");
    let environment = [
        ("GATEWAY__TRACING__RATIO", "1"),
        ("GATEWAY__TRACING__ACCOUNTS", "alice, bob"),
        ("GATEWAY__TRACING__TRUST_CLIENTS", "true"),
    ];
    let read = home.parse(&minimal(""), &environment).unwrap().config.tracing;
    assert_eq!((read.ratio, read.accounts.len(), read.trust_clients), (1.0, 2, true));
    let half = home.parse(&minimal(""), &[("GATEWAY__TRACING__RATIO", "0.5")]).unwrap();
    assert_eq!(half.config.tracing.ratio, 0.5);
}

#[rstest]
#[case("ratio = 1.5", "tracing.ratio: is 1.5; allowed is 0 to 1")]
#[case("ratio = nan", "tracing.ratio: is NaN; allowed is 0 to 1")]
#[case("ca_file = \"x\"", "tracing.ca_file: is set without tracing.endpoint; allowed is both or neither")]
fn what_cannot_be_meant_is_refused(#[case] lines: &str, #[case] expected: &str) {
    let home = Home::new(&format!("tracing-{:x}", crc32fast::hash(lines.as_bytes())));
    let message = tracing(&home, lines).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}
