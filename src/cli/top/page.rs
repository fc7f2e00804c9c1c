//! What `gateway top` shows: 24 lines of 80 columns at most, of one answer and the one before.

use std::time::Instant;

use serde_json::Value;

use crate::cli::ctl::tables::{self, cell};

/// Of the smallest terminal.
const LINES: usize = 24;

/// See [`LINES`].
const COLUMNS: usize = 80;

/// Workers that are shown.
const WORKERS: usize = 4;

/// Links that are shown, those that do not serve first.
const LINKS: usize = 6;

/// What the gateway answered, and when.
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) status: Value,
    /// Null where there was no answer.
    pub(super) links: Value,
}

/// The page of a moment, with what came and went since the one before; `problem` says why it is not of now.
pub(super) fn page(now: &Moment, before: Option<&Moment>, problem: Option<&str>) -> String {
    let mut lines = head(&now.status);
    lines.extend(figures(now, before));
    lines.push(String::new());
    lines.extend(workers(&now.status));
    lines.push(String::new());
    lines.extend(links(&now.links));
    lines.truncate(LINES - 1);
    lines.push(match problem {
        Some(problem) => format!("NOT OF NOW: {problem}"),
        None => "q leaves".to_owned(),
    });
    lines.iter().map(|line| format!("{}\n", cut(line))).collect()
}

/// What no terminal of this width would break.
fn cut(line: &str) -> String {
    let text: String =
        line.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    text.chars().take(COLUMNS).collect()
}

/// Who it is, and whether it is well.
fn head(status: &Value) -> Vec<String> {
    let of = |key: &str| cell(key, &status[key]);
    let ready =
        if status["ready"] == true { "ready".to_owned() } else { format!("NOT READY: {}", of("reasons")) };
    let mut lines =
        vec![format!("{} {}, up {}: {ready}", of("gateway"), of("version"), of("uptime_seconds"))];
    lines.extend(tables::operator_drain(&status["operator_drain"]).lines().map(str::to_owned));
    if status["conditions"].as_object().is_some_and(|conditions| !conditions.is_empty()) {
        lines.push(format!("conditions   {}", of("conditions")));
    }
    lines
}

/// Numbers, and how they grow.
fn figures(now: &Moment, before: Option<&Moment>) -> Vec<String> {
    let status = &now.status;
    let of = |key: &str| cell(key, &status[key]);
    let rate = |read: &dyn Fn(&Value) -> f64| match before {
        None => "-".to_owned(),
        Some(before) => {
            let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
            // A gateway that was started anew counts from nothing.
            format!("{:.1}", (read(status) - read(&before.status)).max(0.0) / seconds)
        }
    };
    let number = |key: &'static str| move |status: &Value| status[key].as_f64().unwrap_or_default();
    let sum = |key: &'static str| {
        move |status: &Value| -> f64 {
            status[key].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_f64()).sum()
        }
    };
    vec![
        format!("connections  {} of {} ({})", of("connections"), of("max_connections"), of("by_transport")),
        format!("logins       {}/s, closes {}/s", rate(&sum("logins")), rate(&sum("closes"))),
        format!(
            "requests     {}/s, {} pending, mean {}",
            rate(&number("requests_received")),
            of("requests_pending"),
            of("mean_latency_seconds")
        ),
        format!("pushes       {}/s", rate(&number("pushes_received"))),
        format!("queued       {} messages, {} bytes", of("queued_messages"), of("queued_bytes")),
        format!("overload     level {}", of("overload_level")),
    ]
}

fn workers(status: &Value) -> Vec<String> {
    let all = tables::rows(status, "workers");
    let columns = [("WORKER", "worker"), ("CONNECTIONS", "connections"), ("LOOP LAG", "loop_lag_seconds")];
    // Those that hang first.
    let mut rows = all.to_vec();
    let lag = |row: &Value| row["loop_lag_seconds"].as_f64().unwrap_or_default();
    rows.sort_by(|one, other| lag(other).total_cmp(&lag(one)));
    shown(&columns, rows, WORKERS, "workers")
}

fn links(answer: &Value) -> Vec<String> {
    if answer.is_null() {
        return vec!["links        a worker did not say".to_owned()];
    }
    let columns = [
        ("SERVICE", "service"),
        ("INSTANCE", "instance"),
        ("ZONE", "zone"),
        ("WORKER", "worker"),
        ("STATE", "state"),
        ("WHY", "why"),
        ("PENDING", "pending"),
        ("QUEUED", "queued_bytes"),
    ];
    let mut rows = tables::rows(answer, "links").to_vec();
    rows.sort_by_key(|row| row["serves"] == true);
    shown(&columns, rows, LINKS, "links")
}

fn shown(columns: &[tables::Column], mut rows: Vec<Value>, most: usize, what: &str) -> Vec<String> {
    let all = rows.len();
    rows.truncate(most);
    let mut lines: Vec<_> = tables::table(columns, &rows).lines().map(str::to_owned).collect();
    if all > most {
        lines.push(format!("{} more {what}", all - most));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn moment(at: Instant, requests: u64, workers: usize, links: usize) -> Moment {
        let workers: Vec<_> = (0..workers)
            .map(|worker| json!({ "worker": worker, "connections": 7, "loop_lag_seconds": worker as f64 }))
            .collect();
        let links: Vec<_> = (0..links)
            .map(|n| {
                json!({
                    "service": "chat", "instance": format!("chat{n:02}"), "zone": "zone_a", "worker": 0,
                    "state": if n == 9 { "ejected" } else { "healthy" }, "why": "by an operator", "serves": n != 9,
                    "pending": 1, "queued_bytes": 0,
                })
            })
            .collect();
        let status = json!({
            "gateway": "gate01", "version": "0.1.0", "uptime_seconds": 3700, "ready": false,
            "reasons": ["drained by an operator: `ctl undrain` has it take clients again", "and a lot more\u{1b}[2J of text"],
            "connections": 12, "max_connections": 1000, "by_transport": { "quic": 5, "tcp": 7 },
            "logins": { "ok": 12, "refused": requests }, "closes": {}, "requests_received": requests,
            "requests_pending": 3, "mean_latency_seconds": 0.002, "pushes_received": 9, "queued_messages": 1,
            "queued_bytes": 100, "overload_level": 0, "conditions": { "drain": 1 }, "workers": workers,
            "operator_drain": { "since_seconds": 3.0, "window_seconds": 60.0, "to": "gate02:8000", "drained": false },
        });
        Moment { at, status, links: json!({ "links": links }) }
    }

    #[test]
    fn a_page_fits_the_smallest_terminal_whatever_there_is_and_shows_what_is_not_well_first() {
        let at = Instant::now();
        let page = page(&moment(at, 0, 64, 200), None, Some(&"x".repeat(200)));
        assert!(page.lines().count() <= 24, "{page}");
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
        assert!(
            !page.contains('\u{1b}') && page.contains("clients go within 1 min, to gate02:8000"),
            "{page}"
        );
        assert!(page.contains("60 more workers") && page.contains("chat09"), "{page}");
        assert!(page.lines().last().unwrap().starts_with("NOT OF NOW: xxx"), "{page}");
    }

    #[test]
    fn what_grows_is_told_by_the_second_and_nothing_is_at_first() {
        let at = Instant::now();
        let (first, second) = (moment(at, 10, 1, 1), moment(at + Duration::from_secs(2), 40, 1, 1));
        let once = page(&first, None, None);
        assert!(once.contains("requests     -/s, 3 pending, mean 2.0 ms"), "{once}");
        let twice = page(&second, Some(&first), None);
        assert!(
            twice.contains("requests     15.0/s") && twice.contains("logins       15.0/s, closes 0.0/s"),
            "{twice}"
        );
        let restarted = page(&first, Some(&second), None);
        assert!(restarted.contains("requests     0.0/s"), "{restarted}");
    }
}
