//! Answers of a gateway as text for a person.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// Of the busiest accounts, how many fit a terminal; `--json` has all.
const BUSIEST_SHOWN: usize = 20;

/// A column: its head, and the key of its values. One whose values are all absent is left out.
pub(crate) type Column = (&'static str, &'static str);

/// Rows under heads, as wide as what stands in them.
pub(crate) fn table(columns: &[Column], rows: &[Value]) -> String {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|(_, key)| cell(key, &row[key])).collect()).collect();
    let width = |column: usize| {
        let longest = cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        longest.max(columns[column].0.len())
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    let heads = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    for row in std::iter::once(heads).chain(cells) {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A value, by what its key says of its unit.
pub(crate) fn cell(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Number(number) if key.ends_with("_seconds") => seconds(number.as_f64().unwrap_or_default()),
        Value::Number(number) if key.ends_with("_per_second") => {
            format!("{:.1}", number.as_f64().unwrap_or_default())
        }
        Value::String(text) => printable(text),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| format!("{name} {}", cell(name, value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        Value::Array(values) => values.iter().map(|value| cell(key, value)).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A user's string on a terminal: nothing in it moves the cursor or turns the line around.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

fn is_hidden(c: char) -> bool {
    c.escape_debug().len() > 1 && !matches!(c, '"' | '\'' | '\\')
}

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.1} ms", s * 1000.0),
        s if s < 60.0 => format!("{s:.0} s"),
        s => {
            let minutes = (s / 60.0) as u64;
            match minutes {
                0..60 => format!("{minutes} min"),
                60..1440 => format!("{} h {} min", minutes / 60, minutes % 60),
                _ => format!("{} d {} h", minutes / 1440, minutes / 60 % 24),
            }
        }
    }
}

/// An unfamiliar answer has no rows.
pub(crate) fn rows<'a>(answer: &'a Value, key: &str) -> &'a [Value] {
    answer[key].as_array().map_or(&[], Vec::as_slice)
}

/// Every field of an object on a line of its own.
pub(super) fn fields(answer: &Value) -> String {
    let Some(fields) = answer.as_object() else { return format!("{answer}\n") };
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (key, value) in fields {
        let name = key.strip_suffix("_seconds").unwrap_or(key).replace('_', " ");
        let _a_string_takes_all = writeln!(text, "{name:width$}  {}", cell(key, value));
    }
    text
}

pub(super) fn status(answer: &Value) -> String {
    let of = |key: &str| cell(key, &answer[key]);
    let ready = match answer["ready"].as_bool() {
        Some(true) => "ready".to_owned(),
        _ => format!("NOT READY: {}", of("reasons")),
    };
    let mut text = format!("{} {}, up {}: {ready}\n", of("gateway"), of("version"), of("uptime_seconds"));
    text.push_str(&operator_drain(&answer["operator_drain"]));
    for (name, value) in [
        (
            "connections",
            format!("{} of {} ({})", of("connections"), of("max_connections"), of("by_transport")),
        ),
        ("logins", of("logins")),
        ("closes", of("closes")),
        (
            "requests",
            format!(
                "{} received, {} forwarded, {} pending, mean {}",
                of("requests_received"),
                of("requests_forwarded"),
                of("requests_pending"),
                of("mean_latency_seconds")
            ),
        ),
        ("pushes", of("pushes_received")),
        ("queued", format!("{} messages, {} bytes", of("queued_messages"), of("queued_bytes"))),
        ("overload", format!("level {}", of("overload_level"))),
        ("conditions", of("conditions")),
    ] {
        let value = if value.is_empty() { "none".to_owned() } else { value };
        let _a_string_takes_all = writeln!(text, "{name:12} {value}");
    }
    let columns = [("worker", "worker"), ("connections", "connections"), ("loop lag", "loop_lag_seconds")];
    text + &table(&columns, rows(answer, "workers"))
}

pub(super) fn connections(answer: &Value) -> String {
    let shown = rows(answer, "connections");
    let mut text = table(
        &[
            ("CONNECTION", "connection"),
            ("APP", "app"),
            ("ACCOUNT", "account"),
            ("ADDRESS", "address"),
            ("TRANSPORT", "transport"),
            ("STATE", "state"),
            ("AGE", "age_seconds"),
            ("QUEUED", "queued_bytes"),
            ("PENDING", "pending"),
            ("CHANNEL", "channel"),
        ],
        shown,
    );
    let matched = answer["matched"].as_u64().unwrap_or_default();
    let _a_string_takes_all = match answer["cursor"].as_str() {
        Some(cursor) => writeln!(text, "{} of {matched}; the next: --cursor {cursor}", shown.len()),
        None => writeln!(text, "{} in all", shown.len()),
    };
    text
}

pub(super) fn links(answer: &Value) -> String {
    let columns = [
        ("SERVICE", "service"),
        ("INSTANCE", "instance"),
        ("ZONE", "zone"),
        ("WORKER", "worker"),
        ("STATE", "state"),
        ("SINCE", "since_seconds"),
        ("WHY", "why"),
        ("PENDING", "pending"),
        ("QUEUED", "queued_bytes"),
        ("ADDRESS", "address"),
        ("LAST TROUBLE", "last_trouble"),
    ];
    table(&columns, rows(answer, "links"))
}

pub(super) fn explained(answer: &Value) -> String {
    let of = |key: &str| cell(key, &answer[key]);
    let mut text =
        format!("account {}, app {}: zone {} ({})\n", of("account"), of("app"), of("zone"), of("why"));
    let columns = [
        ("SERVICE", "service"),
        ("INSTANCE", "instance"),
        ("POSITION", "position"),
        ("FALLBACK", "fallback"),
        ("CANDIDATES", "candidates"),
    ];
    let services = rows(answer, "services");
    text.push_str(&table(&columns, services));
    for service in services.iter().filter(|service| !rows(service, "ejected_by_operator").is_empty()) {
        let (ids, of) =
            (cell("ejected", &service["ejected_by_operator"]), cell("service", &service["service"]));
        let _a_string_takes_all = writeln!(text, "ejected by an operator: {ids} of {of}");
    }
    text
}

pub(super) fn events(answer: &Value) -> String {
    let columns = [
        ("TIME", "time"),
        ("SEVERITY", "severity"),
        ("EVENT", "event"),
        ("STATE", "state"),
        ("SERVICE", "service"),
        ("INSTANCE", "instance"),
        ("ZONE", "zone"),
        ("DETAIL", "detail"),
    ];
    let newest_last: Vec<Value> = rows(answer, "events").iter().rev().cloned().collect();
    table(&columns, &newest_last)
}

pub(super) fn closes(answer: &Value) -> String {
    let columns = [
        ("AGO", "ago_seconds"),
        ("REASON", "reason"),
        ("APP", "app"),
        ("ACCOUNT", "account"),
        ("ADDRESS", "address"),
        ("TRANSPORT", "transport"),
        ("CHANNEL", "channel"),
    ];
    let newest_last: Vec<Value> = rows(answer, "closes").iter().rev().cloned().collect();
    table(&columns, &newest_last)
}

pub(super) fn bans(answer: &Value) -> String {
    let columns = [
        ("APP", "app"),
        ("ACCOUNT", "account"),
        ("ADDRESS", "address"),
        ("LEFT", "left_seconds"),
        ("REASON", "reason"),
    ];
    let shown = rows(answer, "bans");
    let all = answer["all"].as_u64().unwrap_or_default();
    format!("{}{} of {all}\n", table(&columns, shown), shown.len())
}

/// Active accounts of all apps and of each, and who sent most.
pub(super) fn activity(answer: &Value) -> String {
    let row = |app: &Value, active: &Value| {
        let of = |key: &str| active[key].clone();
        let [this_hour, last_hour] = ["this_hour", "last_hour"].map(of);
        let [today, yesterday] = ["today", "yesterday"].map(of);
        json!({
            "app": app, "this_hour": this_hour, "last_hour": last_hour, "today": today, "yesterday": yesterday,
        })
    };
    let all = row(&json!("all apps"), &answer["active"]);
    let by_app = rows(answer, "apps").iter().map(|app| row(&app["app"], &app["active"]));
    let active: Vec<Value> = std::iter::once(all).chain(by_app).collect();
    let columns = [
        ("ACTIVE ACCOUNTS", "app"),
        ("THIS HOUR", "this_hour"),
        ("LAST HOUR", "last_hour"),
        ("TODAY", "today"),
        ("YESTERDAY", "yesterday"),
    ];
    let mut text = table(&columns, &active);
    if answer["apps_left_out"] == true {
        text.push_str("there are more apps; they count in the first row only\n");
    }
    let busiest = rows(answer, "busiest");
    let shown = &busiest[..busiest.len().min(BUSIEST_SHOWN)];
    let columns =
        [("BUSIEST", "account"), ("APP", "app"), ("REQUESTS", "messages"), ("AT LEAST", "at_least")];
    text.push('\n');
    text.push_str(&table(&columns, shown));
    let window = cell("window_seconds", &answer["window_seconds"]);
    let count = busiest.len();
    let _a_string_takes_all = writeln!(text, "{} of {count}, within the last {window}", shown.len());
    text
}

/// Nothing while no operator has it drain.
pub(crate) fn operator_drain(answer: &Value) -> String {
    if answer.is_null() {
        return String::new();
    }
    let of = |key: &str| cell(key, &answer[key]);
    let to = if answer["to"].is_null() { String::new() } else { format!(", to {}", of("to")) };
    let state = match answer["drained"].as_bool() {
        Some(true) => "drained, waiting for undrain or stop".to_owned(),
        _ => format!("clients go within {}{to}", of("window_seconds")),
    };
    format!("drain        by an operator, {} ago: {state}\n", of("since_seconds"))
}

pub(super) fn draining(answer: &Value) -> String {
    let of = |key: &str| cell(key, &answer[key]);
    let to = if answer["to"].is_null() { String::new() } else { format!(", to {}", of("to")) };
    format!(
        "{} connections go within {}{to}; `ctl undrain` ends it\n",
        of("connections"),
        of("window_seconds")
    )
}

pub(super) fn shifted(answer: &Value) -> String {
    let Some(change) = answer["change"].as_str() else {
        return "the zone has that share already\n".to_owned();
    };
    let change = printable(change);
    match (answer["applied"].as_bool(), answer["pending"].as_bool()) {
        (Some(true), Some(true)) => format!("{change}\na worker is busy and takes it a little later\n"),
        (Some(true), _) => format!("{change}\ndone, until the next reload\n"),
        _ => format!("{change}\nnothing is changed; --apply does it\n"),
    }
}

pub(super) fn ejected(answer: &Value) -> String {
    let of = |key: &str| cell(key, &answer[key]);
    let (instance, service, moved) = (of("instance"), of("service"), of("requests_moved"));
    format!("{instance} of {service} is ejected until it is returned; requests moved: {moved}\n")
}

pub(super) fn done(_answer: &Value) -> String {
    "done\n".to_owned()
}

pub(crate) fn reload(answer: &Value) -> String {
    let mut lines: Vec<String> = strings(answer, "changed").map(str::to_owned).collect();
    lines.extend(strings(answer, "needs_restart").map(|key| format!("{key}: needs a restart")));
    if lines.is_empty() {
        lines.push("nothing differs from what runs".to_owned());
    }
    if answer.get("pending").and_then(Value::as_bool) == Some(true) {
        lines.push("a worker is busy and takes it a little later".to_owned());
    }
    format!("{}\n", lines.join("\n"))
}

/// The texts of a list.
pub(super) fn strings<'a>(answer: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    answer.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them_and_units_are_said() {
        let rows = [
            json!({ "name": "alice", "age_seconds": 61, "lag_seconds": 0.0123, "rate_per_second": 0.25 }),
            json!({ "name": "bob\u{202e}\u{1b}[2J", "age_seconds": 90_000, "lag_seconds": 2, "more": [1, 2] }),
        ];
        let columns = [
            ("NAME", "name"),
            ("AGE", "age_seconds"),
            ("LAG", "lag_seconds"),
            ("RATE", "rate_per_second"),
            ("MORE", "more"),
        ];
        assert_eq!(
            table(&columns, &rows),
            "NAME      AGE      LAG      RATE  MORE\n\
             alice     1 min    12.3 ms  0.2   -\n\
             bob\u{fffd}\u{fffd}[2J  1 d 1 h  2 s      -     1, 2\n"
        );
    }

    #[test]
    fn activity_has_all_apps_first_and_the_busiest_behind() {
        let counts = |today| json!({ "this_hour": 1, "last_hour": 2, "today": today, "yesterday": 0 });
        let busy = |account| json!({ "app": "x_im", "account": account, "messages": 7, "at_least": 5 });
        let answer = json!({
            "active": counts(9),
            "apps": [{ "app": "kim", "active": counts(3) }],
            "apps_left_out": true,
            "busiest": vec![busy("alice"); 30],
            "window_seconds": 3600,
        });
        let text = activity(&answer);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "all apps         1          2          9      0");
        assert_eq!(lines[2], "kim              1          2          3      0");
        assert!(lines[3].starts_with("there are more apps"), "{text}");
        assert_eq!(lines[6], "alice    x_im  7         5");
        assert_eq!((lines.len(), lines[26]), (27, "20 of 30, within the last 1 h 0 min"));
    }
}
