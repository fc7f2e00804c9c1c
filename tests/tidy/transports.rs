//! A table of tests that runs over QUIC and over plain TCP runs over all transports.

use crate::source::Report;

const ALL: [&str; 6] = ["Tcp", "Tls", "Ws", "Wss", "QuicOne", "QuicMany"];

/// rstest reads a table before there are constants, so each names them one by one.
pub fn check(files: &[(String, String)]) -> Report {
    let mut report = Report::default();
    for (path, text) in files.iter().filter(|(path, _)| path.starts_with("tests/it/")) {
        for (number, line) in text.lines().enumerate() {
            let Some((_, table)) = line.split_once("#[values(") else { continue };
            let table = table.split(')').next().unwrap_or_default();
            let named: Vec<&str> =
                table.split(',').filter_map(|value| value.trim().rsplit("::").next()).collect();
            // Without plain TCP it may be about what has certificates, for example.
            if !named.contains(&"Tcp") || !named.iter().any(|kind| kind.starts_with("Quic")) {
                continue;
            }
            report.examined += 1;
            for missing in ALL.iter().filter(|kind| !named.contains(kind)) {
                report.violations.push(format!("{path}:{}: the table leaves out {missing}", number + 1));
            }
        }
    }
    report
}
