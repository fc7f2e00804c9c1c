//! `gateway top`: a running gateway at a glance, again every second.

mod page;
mod terminal;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use hyper::StatusCode;
use serde_json::Value;

use self::page::{Moment, page};
use self::terminal::Terminal;
use crate::cli::ctl::args::CtlArgs;
use crate::cli::ctl::client::{CtlRequest, ask};
use crate::cli::ctl::socket::socket_of;
use crate::cli::output;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// For each of the two answers of a look while it is watched: meanwhile no key is looked at.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// Shows the gateway until `q` or Ctrl-C. Where nobody sits at a terminal, and with `--json`, it is shown once.
///
/// # Errors
/// Nobody answers at the first look, or the terminal cannot be used.
pub(crate) fn run(args: &CtlArgs) -> anyhow::Result<ExitCode> {
    let socket = match socket_of(args) {
        Ok(socket) => socket,
        Err(code) => return Ok(code),
    };
    let first = look(&socket, args.timeout)?;
    if args.json {
        output::print(&format!("{}\n", first.status))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(terminal) = Terminal::open()? else {
        output::print(&page(&first, None, None))?;
        return Ok(ExitCode::SUCCESS);
    };
    let shown = watch(&terminal, &socket, first, args.timeout);
    drop(terminal);
    shown.map(|()| ExitCode::SUCCESS)
}

fn watch(terminal: &Terminal, socket: &Path, first: Moment, patience: Duration) -> anyhow::Result<()> {
    terminal.show(&page(&first, None, None))?;
    let mut last = first;
    while !terminal.is_left(LOOK)? {
        match look(socket, patience.min(LOOK_PATIENCE)) {
            Ok(now) => {
                terminal.show(&page(&now, Some(&last), None))?;
                last = now;
            }
            // It may be back: it is restarted, perhaps.
            Err(error) => terminal.show(&page(&last, None, Some(&format!("{error:#}"))))?,
        }
    }
    Ok(())
}

fn look(socket: &Path, patience: Duration) -> anyhow::Result<Moment> {
    let status = answer(socket, "status", patience)?;
    // A busy worker may keep its links to itself; the rest is worth a look all the more.
    let links = answer(socket, "links", patience).unwrap_or_default();
    Ok(Moment { at: Instant::now(), status, links })
}

fn answer(socket: &Path, path: &str, patience: Duration) -> anyhow::Result<Value> {
    match ask(socket, &CtlRequest::get(path, &[]), patience)? {
        (StatusCode::OK, answer) => Ok(answer),
        (status, answer) => bail!("{status}: {}", answer["error"].as_str().unwrap_or("it did not say why")),
    }
}
