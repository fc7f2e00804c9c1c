//! `gateway ctl trace`: the packets of one account as they pass, a line each.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::CtlArgs;
use super::client::{CtlRequest, listen};
use super::socket::socket_of;
use super::tables::cell;
use crate::cli::output;

/// Arguments of `gateway ctl trace`.
#[derive(Debug, clap::Args)]
pub(crate) struct TraceArgs {
    /// The account
    account: String,
    /// Its app; any without it
    #[arg(long)]
    app: Option<String>,
    /// For so long, at most 60
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    #[command(flatten)]
    pub(super) of: CtlArgs,
}

/// Head, key of the value and width of each column but the last.
const COLUMNS: &[(&str, &str, usize)] = &[
    ("TIME", "at", 15),
    ("", "direction", 3),
    ("WHAT", "kind", 9),
    ("COMMAND", "command", 18),
    ("SEQ", "sequence", 6),
    ("BYTES", "bytes", 6),
    ("BODY", "body_bytes", 6),
    ("INSTANCE", "instance", 10),
    ("QUEUED", "queue_seconds", 8),
    ("SERVED", "service_seconds", 8),
    ("STATUS", "status", 6),
];

/// Shows packets until the gateway ends the trace. A reader that leaves, by ^C for example, ends it at the gateway.
///
/// # Errors
/// Nobody answers, or not as a gateway does.
pub(super) fn run(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let socket = match socket_of(&args.of) {
        Ok(socket) => socket,
        Err(refused) => return Ok(refused),
    };
    let TraceArgs { account, app, seconds, of } = args;
    let asked = CtlRequest::post("trace", json!({ "account": account, "app": app, "seconds": seconds }));
    if !of.json {
        output::print(&head())?;
    }
    let time = Duration::from_secs(*seconds).saturating_add(of.timeout);
    listen(&socket, &asked, time, of.json, |line| {
        if of.json { Ok(output::print(&format!("{line}\n"))?) } else { show(line) }
    })
}

fn head() -> String {
    let heads = COLUMNS.iter().map(|(head, _, width)| format!("{head:width$}"));
    format!("{}  WHAT BECAME OF IT\n", heads.collect::<Vec<_>>().join("  "))
}

fn show(line: &Value) -> anyhow::Result<()> {
    if line["kind"].is_null() {
        // A sign of life, or the end.
        if let Some(why) = line["ended"].as_str() {
            output::complain(format_args!("{why}; {} lines found no place", line["dropped"]));
        }
        return Ok(());
    }
    Ok(output::print(&row(line))?)
}

fn row(line: &Value) -> String {
    let cells = COLUMNS.iter().map(|(_, key, width)| {
        let text = match &line[key] {
            Value::Null => String::new(),
            at if *key == "at" => time_of_day(at.as_str().unwrap_or_default()).to_owned(),
            value => cell(key, value),
        };
        format!("{text:width$}")
    });
    let mut what = vec![cell("outcome", &line["outcome"])];
    what.extend(["transport", "address", "channel"].iter().filter_map(|key| {
        let shown = matches!(line["kind"].as_str(), Some("connected" | "login")) && !line[key].is_null();
        shown.then(|| cell(key, &line[key]))
    }));
    format!("{}  {}\n", cells.collect::<Vec<_>>().join("  "), what.join(", "))
}

/// Of a time as RFC 3339 writes it.
fn time_of_day(time: &str) -> &str {
    time.split('T').nth(1).map_or(time, |rest| rest.trim_end_matches('Z'))
}
