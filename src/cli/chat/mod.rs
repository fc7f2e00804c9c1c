//! `gateway chat`: a person, or a script, that talks through a gateway.

mod events;
mod groups;
mod inbox;
mod input;
mod instruction;
mod notice;
mod session;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use gateway::wire::close::CloseReason;
use gateway_client::{
    End, LoginError, Need, NoToken, Phase, ResilientClient, ResilientOptions, Server, Tokens, Transport,
};

use crate::cli::chat::notice::say;
use crate::cli::chat::session::{Session, SessionOutcome};
use crate::cli::connect::{ServerArgs, Wanted};
use crate::cli::sign::{Signer, SignerArgs};

/// The login was refused.
const EXIT_REFUSED: u8 = 2;
/// No connection came about.
const EXIT_NO_CONNECTION: u8 = 3;

/// How long the threads behind stdin and stdout may take to notice the end: a read of a terminal never does.
const RUNTIME_END: Duration = Duration::from_millis(100);

const EVENTS: &str = "\
Lines on standard input: `bob hello` sends \"hello\" to bob, `#GROUP hello` to a group. Commands begin with
a slash: /create NAME a,b, /join ID, /quit GROUP, /members GROUP, /detail GROUP, /groups, /help. A group goes
by its id, or by its name once it was shown. With --to, every line is a message; --to '#ID' sends to a group.

Lines on standard output, one per event, `text=` always last:
  online account=A channel=C transport=T server=S
  message from=A id=N time=T via=push|offline text=…      (group=G after from= for messages to a group)
  stored to=A id=N time=T text=…
  failed to=A status=N reason=… text=…                    (status=none when there was no answer)
    (stored and failed have group=G in place of to= for messages to a group)
  group id=G name=… owner=A members=A,B                   (made, or asked for; /groups: id and name only)
  members group=G count=N accounts=A,B
  joined group=G account=A, quit group=G account=A        (oneself, or another member)
  failed command=/… group=G status=N reason=…
  draining within=D                                       (the gateway goes away; the chat moves to another one)
  reconnecting reason=R attempt=N after=D server=S        (then online again)
  closed reason=R                                         (the session is over: it must not come back, or --once)
  done sent=N stored=N received=N
A value with blanks stands in quotes. Times are UTC. Backslashes, line ends, control and invisible
characters are written as escapes.

Exit codes: 0 everything sent was answered with status 0, what was missed could be fetched and
acknowledged, and --expect was met; 1 otherwise; 2 login refused; 3 no connection.";

/// Talk through a gateway.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EVENTS)]
pub(crate) struct ChatArgs {
    /// Who you are.
    #[arg(long)]
    pub(crate) account: String,
    /// The app of the account.
    #[arg(long, default_value = "x_im")]
    pub(crate) app: String,
    /// Whom every line goes to; without it a line begins with the name.
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// What carries the connection: auto, quic, tls, wss, ws or tcp. auto takes QUIC, else TLS, else WebSocket over TLS,
    /// else plain TCP where that is allowed.
    #[arg(long, default_value_t = Wanted::Auto)]
    pub(crate) transport: Wanted,
    /// With auto: the token may travel in clear to another machine, when nothing that is encrypted gets through.
    #[arg(long)]
    pub(crate) allow_plain: bool,
    #[command(flatten)]
    pub(crate) gateway: ServerArgs,
    /// Another gateway for the same accounts, where to go when the one at hand goes away; may be given several times.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) also: Vec<String>,
    /// End when the connection does, in place of coming back.
    #[arg(long)]
    pub(crate) once: bool,
    /// A token; without it one is signed with the secret file or the key.
    #[arg(long)]
    pub(crate) token: Option<String>,
    #[command(flatten)]
    pub(crate) signer: SignerArgs,
    /// After end of input, wait until this many messages came, counted from the login.
    #[arg(long)]
    pub(crate) expect: Option<u64>,
    /// How long --expect waits after end of input, seconds.
    #[arg(long, default_value_t = 10)]
    pub(crate) wait: u64,
}

/// Runs the chat and gives the exit code described in `--help`.
pub(crate) fn run(args: ChatArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let code = runtime.block_on(chat(args));
    runtime.shutdown_timeout(RUNTIME_END);
    code
}

async fn chat(args: ChatArgs) -> anyhow::Result<ExitCode> {
    let tokens = TokenCache::new(&args)?;
    let parts = match ResilientClient::connect(options(&args)?, tokens).await {
        Ok(parts) => parts,
        Err(end) => return Ok(not_begun(&end, &args.account)),
    };
    let client = parts.0.clone();
    if let Phase::Online(online) = &*client.phase().borrow() {
        greet(&args, online.transport, &online.server);
    }
    let wait = Duration::from_secs(args.wait);
    let mut session = Session::new(parts, args.account.clone(), args.to.clone());
    let outcome = session.run(args.expect, wait).await;
    client.close().await;
    Ok(match outcome {
        Ok(SessionOutcome::Complete) => ExitCode::SUCCESS,
        Ok(SessionOutcome::Incomplete) => ExitCode::FAILURE,
        Ok(SessionOutcome::Over(end)) => {
            match &*end {
                End::Closed(reason) => say(&explain(*reason, &args.account)),
                end => say(&format!("gateway chat: {end}")),
            }
            ExitCode::FAILURE
        }
        Err(error) => return Err(error).context("cannot write to standard output"),
    })
}

/// Where the tokens of a chat come from: the one that was given, or a new one for every login.
struct TokenCache {
    given: Option<String>,
    signer: Option<Signer>,
    account: String,
    app: String,
}

impl TokenCache {
    fn new(args: &ChatArgs) -> anyhow::Result<Self> {
        let signer = if args.token.is_none() { Some(args.signer.signer()?) } else { None };
        let (account, app) = (args.account.clone(), args.app.clone());
        Ok(Self { given: args.token.clone(), signer, account, app })
    }
}

impl Tokens for TokenCache {
    async fn token(&self, need: Need) -> Result<String, NoToken> {
        match (&self.given, &self.signer) {
            (Some(given), _) => given.token(need).await,
            (None, Some(signer)) => Ok(signer.sign(&self.account, &self.app)),
            (None, None) => Err(NoToken::Never("nothing to sign one with".to_owned())),
        }
    }
}

/// Connects as the arguments say, and keeps to that.
///
/// # Errors
/// Those of the CA file.
fn options(args: &ChatArgs) -> anyhow::Result<ResilientOptions> {
    // What gets through to one gateway does so to its neighbours: each remembers for itself, under its name.
    let server = |at: &ServerArgs| -> anyhow::Result<Server> {
        Ok(match args.transport {
            Wanted::Auto => at.auto(args.allow_plain)?.into(),
            Wanted::Only(transport) => at.options(transport)?.into(),
        })
    };
    let mut options = ResilientOptions::new(server(&args.gateway)?);
    for other in &args.also {
        options = options.or(server(&args.gateway.at(other))?);
    }
    options.once = args.once;
    Ok(options)
}

/// Says why the chat did not begin. The library gives tokens, connections and logins that failed.
fn not_begun(end: &End, account: &str) -> ExitCode {
    let code = match end {
        End::Login(LoginError::Refused { .. }) | End::Token(_) => EXIT_REFUSED,
        End::Login(LoginError::Closed(reason)) | End::Closed(reason) if !reason.may_retry() => EXIT_REFUSED,
        _ => EXIT_NO_CONNECTION,
    };
    say(&format!("gateway chat: {end}"));
    match end {
        End::Login(LoginError::Refused { status: 105, .. }) => say(
            "Was the token made with this gateway's secret (--secret-file) or key (--key), and has it not run out?",
        ),
        End::Login(LoginError::Closed(reason)) | End::Closed(reason) => say(&explain(*reason, account)),
        _ => {}
    }
    ExitCode::from(code)
}

fn greet(args: &ChatArgs, transport: Transport, server: &str) {
    if !std::io::stdin().is_terminal() {
        return;
    }
    let how = match &args.to {
        Some(to) => format!("Every line goes to {to}."),
        None => "Write `NAME text`, for example `bob hello`; /help shows more.".to_owned(),
    };
    let account = &args.account;
    say(&format!("You are {account}, on {server} over {transport}. {how} Ctrl-D leaves."));
}

/// Why a session ended, and what to do.
fn explain(reason: CloseReason, account: &str) -> String {
    let words = match reason {
        CloseReason::Bye => "The gateway ended the session in order.",
        CloseReason::Draining => "The gateway is shutting down. Start again in a moment.",
        CloseReason::HeartbeatTimeout => "The gateway heard nothing from here for too long. Start again.",
        CloseReason::SlowConsumer => {
            "Messages came faster than they were read here. Start again and read on."
        }
        CloseReason::Overloaded => "The gateway has too much to do. Try again later.",
        CloseReason::LoginUnavailable => "The login service is not there. Try again later.",
        CloseReason::SessionLost => "The gateway no longer knows this session. Start again.",
        CloseReason::InternalError => "The gateway failed. Start again; its log says more.",
        CloseReason::LoginTimeout => "The login took too long. Start again.",
        CloseReason::ReadTimeout => {
            "What was sent from here stopped halfway. Check the network and start again."
        }
        CloseReason::Unauthenticated => "The login was refused. Get a new token.",
        CloseReason::Kicked => {
            return format!(
                "{account} signed in somewhere else, or an operator ended this session. \
                 An account has one session at a time; start again to take it back."
            );
        }
        CloseReason::ProtocolError | CloseReason::NotLoggedIn => {
            "The gateway and this program do not understand each other. Do they have the same version?"
        }
        CloseReason::FrameTooBig => "A message was longer than the gateway takes. Send shorter ones.",
        CloseReason::Abuse => "The gateway ended the session because of repeated violations.",
        CloseReason::TokenExpired => "The token has run out. Start again with a new one.",
        CloseReason::PeerClosed => "The connection was cut by the other side. Is the gateway still running?",
        CloseReason::PeerLost => {
            "The gateway is no longer heard. Check the network, and whether it is running."
        }
    };
    words.to_owned()
}
