//! A table of tests that runs over QUIC and over another transport runs over all of them.

use crate::source::Report;

const QUIC: [&str; 2] = ["QuicOne", "QuicMany"];
const OTHERS: [&str; 4] = ["Tcp", "Tls", "Ws", "Wss"];

/// rstest reads a table before there are constants, so each names them one by one.
pub fn check(files: &[(String, String)]) -> Report {
    let mut report = Report::default();
    for (path, text) in files.iter().filter(|(path, _)| path.starts_with("tests/it/")) {
        for (number, line) in text.lines().enumerate() {
            let Some((_, table)) = line.split_once("#[values(") else { continue };
            let table = table.split(')').next().unwrap_or_default();
            let named: Vec<&str> =
                table.split(',').filter_map(|value| value.trim().rsplit("::").next()).collect();
            let is_named = |kind: &&str| named.contains(kind);
            if !QUIC.iter().any(is_named) || !OTHERS.iter().any(is_named) {
                continue;
            }
            report.examined += 1;
            for missing in QUIC.iter().chain(&OTHERS).filter(|kind| !is_named(kind)) {
                report.violations.push(format!("{path}:{}: the table leaves out {missing}", number + 1));
            }
        }
    }
    report
}
