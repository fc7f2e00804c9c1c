//! `gateway ctl`: asks a running gateway for something, over its admin socket.

pub(crate) mod args;
pub(crate) mod client;
pub(crate) mod configured_socket;
mod drain;
mod filter;
mod instances;
mod notice;
mod orders;
pub(crate) mod socket;
pub(crate) mod tables;
mod trace;
mod weight;

use std::process::ExitCode;

use serde_json::Value;

use self::args::CtlArgs;
use self::client::{CtlRequest, ask, show};
use self::drain::DrainArgs;
use self::filter::ConnectionsArgs;
use self::instances::{EjectArgs, ReturnArgs};
use self::notice::NoticeArgs;
use self::orders::{BanArgs, BansArgs, KickArgs, LogLevelArgs, UnbanArgs};
use self::socket::socket_of;
use self::trace::TraceArgs;
use self::weight::WeightArgs;

/// What a running gateway can be asked for.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CtlCommand {
    /// The gateway at a glance
    Status(CtlArgs),
    /// Who is connected: filtered, sorted, in pages
    Connections(Box<ConnectionsArgs>),
    /// One connection, looked at closely
    Connection(ConnectionArgs),
    /// The links to logic services, and why each is in its state
    Links(CtlArgs),
    /// Where an account goes and why, among the instances that serve now
    Explain(ExplainAccountArgs),
    /// The limits in effect
    Limits(CtlArgs),
    /// What happened: the last thousand, the last one at the end
    Events(CtlArgs),
    /// The last thousand channels that ended, and why, the last one at the end
    Closes(CtlArgs),
    /// How many accounts are active, and which send most
    Activity(CtlArgs),
    /// Show each packet of an account as it passes, without its body, for a minute at most
    Trace(TraceArgs),
    /// End connections with code 3501, so that their clients do not come back by themselves
    Kick(KickArgs),
    /// Bar an app, an account of an app, an address or a network
    Ban(BanArgs),
    /// End a ban
    Unban(UnbanArgs),
    /// The bans that hold, in pages
    Bans(BansArgs),
    /// Push something to clients: everybody, an app, an account, a channel
    Notice(Box<NoticeArgs>),
    /// Have clients go, to another gateway if one is named, and let nobody in; the process stays
    Drain(DrainArgs),
    /// End that: let clients in again; who is still connected stays
    Undrain(CtlArgs),
    /// Give a zone another share of the accounts; says how many move, and does it with --apply
    Weight(WeightArgs),
    /// Give an instance of a logic service no new requests until it is returned
    Eject(EjectArgs),
    /// Give it requests again
    Return(ReturnArgs),
    /// Set the level of the log: error, warn, info, debug or trace
    LogLevel(LogLevelArgs),
    /// Read configuration, route, certificates, keys and secrets again: all that changed is put into effect, or nothing
    Reload(CtlArgs),
}

/// Arguments of `gateway ctl connection`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectionArgs {
    /// A channel id, or a connection as `ctl connections` names it
    id: String,
    #[command(flatten)]
    of: CtlArgs,
}

/// Arguments of `gateway ctl explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainAccountArgs {
    /// Its app
    #[arg(long)]
    app: String,
    /// The account
    #[arg(long)]
    account: String,
    #[command(flatten)]
    of: CtlArgs,
}

/// Prints what the gateway answers. Exit codes: 0 if it did what was asked, 64 if its configuration is refused, or if this
/// one names no socket, 1 for anything else.
///
/// # Errors
/// Nobody answers, or not as a gateway does.
pub(crate) fn run(command: &CtlCommand) -> anyhow::Result<ExitCode> {
    let (args, asked, text): (_, _, fn(&Value) -> String) = match command {
        CtlCommand::Status(args) => (args, CtlRequest::get("status", &[]), tables::status),
        CtlCommand::Connections(args) => (&args.of, args.question(), tables::connections),
        CtlCommand::Connection(ConnectionArgs { id, of }) => {
            (of, CtlRequest::get("connection", &[("id", id.as_str())]), tables::fields)
        }
        CtlCommand::Links(args) => (args, CtlRequest::get("links", &[]), tables::links),
        CtlCommand::Explain(ExplainAccountArgs { app, account, of }) => (
            of,
            CtlRequest::get("explain", &[("app", app.as_str()), ("account", account.as_str())]),
            tables::explained,
        ),
        CtlCommand::Limits(args) => (args, CtlRequest::get("limits", &[]), tables::fields),
        CtlCommand::Events(args) => (args, CtlRequest::get("events", &[]), tables::events),
        CtlCommand::Closes(args) => (args, CtlRequest::get("closes", &[]), tables::closes),
        CtlCommand::Activity(args) => (args, CtlRequest::get("activity", &[]), tables::activity),
        CtlCommand::Trace(args) => return trace::run(args),
        CtlCommand::Kick(args) => (&args.of, args.order(), tables::fields),
        CtlCommand::Ban(args) => (&args.of, args.order(), tables::fields),
        CtlCommand::Unban(args) => (&args.of, args.order(), tables::done),
        CtlCommand::Bans(args) => (&args.of, args.question(), tables::bans),
        CtlCommand::Notice(args) => (&args.of, args.order()?, tables::fields),
        CtlCommand::Drain(args) => (&args.of, args.order(), tables::draining),
        CtlCommand::Undrain(args) => (args, CtlRequest::post("undrain", Value::Null), tables::fields),
        CtlCommand::Weight(args) => (&args.of, args.order(), tables::shifted),
        CtlCommand::Eject(args) => (&args.of, args.order(), tables::ejected),
        CtlCommand::Return(args) => (&args.of, args.order(), tables::fields),
        CtlCommand::LogLevel(args) => (&args.of, args.order(), tables::fields),
        CtlCommand::Reload(args) => (args, CtlRequest::post("reload", Value::Null), tables::reload),
    };
    let socket = match socket_of(args) {
        Ok(socket) => socket,
        Err(refused) => return Ok(refused),
    };
    let (status, answer) = ask(&socket, &asked, args.timeout)?;
    show(status, &answer, args.json, text)
}
