//! A push to clients, as arguments.

use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_net::files;
use serde_json::json;

use super::args::CtlArgs;
use super::client::CtlRequest;
use super::orders::WhomArgs;

/// Arguments of `gateway ctl notice`.
#[derive(Debug, clap::Args)]
pub(crate) struct NoticeArgs {
    /// The body
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    text: Option<String>,
    /// A file whose content is the body, as it is
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// The command of the push; clients must know what it means
    #[arg(long, value_name = "SERVICE.COMMAND", default_value = "chat.notice")]
    command: String,
    /// To everybody
    #[arg(long)]
    all: bool,
    /// To one channel, by its id
    #[arg(long, value_name = "ID")]
    channel: Option<String>,
    #[command(flatten)]
    whom: WhomArgs,
    #[command(flatten)]
    pub(super) of: CtlArgs,
}

impl NoticeArgs {
    /// # Errors
    /// The file cannot be read.
    pub(super) fn order(&self) -> anyhow::Result<CtlRequest> {
        let Self { text, file, command, all, channel, whom, .. } = self;
        let read =
            |path: &PathBuf| files::bytes(path).with_context(|| format!("cannot read {}", path.display()));
        let base64 = file.as_ref().map(read).transpose()?.map(|body| STANDARD.encode(body));
        let whom = whom.to_json();
        let order = json!({
            "channel": channel, "whom": whom, "all": all, "command": command, "text": text, "base64": base64,
        });
        Ok(CtlRequest::post("notice", order))
    }
}
