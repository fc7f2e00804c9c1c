//! A network of the run's own: a namespace in which nothing can be hurt, and nftables rules in it.

use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};

/// How the namespaces can be had, best first: as an ordinary user, or as root where users may not make them. With the
/// process namespace nothing outlives the run, however it ends.
const UNSHARE: [&[&str]; 2] = [
    &["--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"],
    &["--net", "--pid", "--fork", "--kill-child"],
];

/// Starts this program again inside new namespaces; none where they are not permitted.
pub(crate) fn enter(arguments: &[String]) -> anyhow::Result<Option<ExitCode>> {
    let probe = |flags: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(flags).arg("true").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let Some(flags) = UNSHARE.into_iter().find(|flags| probe(flags)) else { return Ok(None) };
    let this = std::env::current_exe()?;
    let status = Command::new("unshare").args(flags).arg(this).arg("--inside").args(arguments).status()?;
    Ok(Some(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))))
}

/// Which way of a connection to an instance is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    ToService,
    FromService,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Network {
    /// Why no rules can be made here.
    pub(crate) obstacle: Option<String>,
}

impl Network {
    /// Brings the loopback of a new namespace up, and tries the rules.
    pub(crate) fn new(is_inside: bool) -> anyhow::Result<Self> {
        if !is_inside {
            return Ok(Self { obstacle: Some("network namespaces are not permitted here".into()) });
        }
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().context("ip cannot be run")?;
        if !up.success() {
            bail!("the loopback of the namespace cannot be brought up: {up}");
        }
        let table =
            "add table inet chaos\nadd chain inet chaos input { type filter hook input priority 0 ; }";
        let obstacle = nft(table).err().map(|error| format!("{error:#}"));
        Ok(Self { obstacle })
    }

    /// Drops what goes one way between the gateway and an instance.
    pub(crate) async fn cut(&self, port: u16, cut: Cut) -> anyhow::Result<()> {
        let side = if cut == Cut::ToService { "dport" } else { "sport" };
        apply(format!("add rule inet chaos input tcp {side} {port} drop")).await
    }

    /// Everything passes again.
    pub(crate) async fn heal(&self) -> anyhow::Result<()> {
        apply("flush chain inet chaos input".into()).await
    }
}

async fn apply(rules: String) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || nft(&rules)).await?
}

fn nft(rules: &str) -> anyhow::Result<()> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("nft cannot be run")?;
    child.stdin.take().context("a pipe was asked for")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("nft refuses: {}", said.lines().next().unwrap_or_default());
    }
    Ok(())
}
