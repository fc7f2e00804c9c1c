//! The file of the bans: one JSON object a line, written anew with each change.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::ban::{Ban, BanSubject, subject};
use crate::limits::MAX_BANS;

/// It names accounts: read and write for the gateway's user.
const MODE: u32 = 0o600;

/// Why the file of the bans is of no use.
#[derive(Debug, thiserror::Error)]
pub enum BansFileError {
    /// It cannot be read.
    #[error("admin.bans_file: cannot read {path}: {error}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// It cannot be written.
    #[error(
        "admin.bans_file: cannot write {path}: {error}; nothing changed, because it would not outlive a restart"
    )]
    Write {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// More stand there than may.
    #[error(
        "admin.bans_file: {path}: holds more than {MAX_BANS} bans, and no more may hold at once; remove some"
    )]
    TooMany {
        /// Which file.
        path: String,
    },
    /// A line is none of ours.
    #[error(
        "admin.bans_file: {path}, line {line}: {problem}; each line is {{\"app\": …, \"account\": …}}, {{\"app\": …}} or \
         {{\"address\": …}}, with \"until\" in seconds since 1970 and \"reason\" where there are any"
    )]
    Line {
        /// Which file.
        path: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BanLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<network_text::NetworkText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// What holds of the file at this moment; none if it is not there yet.
pub(super) fn read(path: &Path, now: Instant) -> Result<Vec<Ban>, BansFileError> {
    let shown = || path.display().to_string();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BansFileError::Read { path: shown(), error }),
    };
    let wall = since_1970();
    let mut bans = Vec::new();
    for (index, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let wrong = |problem| BansFileError::Line { path: shown(), line: index + 1, problem };
        let line: BanLine = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let subject =
            subject(line.app, line.account, line.address.map(|address| address.0)).map_err(wrong)?;
        let left = line.until.map(|until| Duration::from_secs(until).saturating_sub(wall));
        if left != Some(Duration::ZERO) {
            let until = left.and_then(|left| now.checked_add(left));
            bans.push(Ban { subject, until, reason: line.reason });
        }
    }
    if bans.len() > MAX_BANS {
        return Err(BansFileError::TooMany { path: shown() });
    }
    Ok(bans)
}

/// All of them, in place of what stands there: a crash leaves the old file or the new one.
pub(super) fn write(path: &Path, bans: &[Ban], now: Instant) -> Result<(), BansFileError> {
    let failed = |error| BansFileError::Write { path: path.display().to_string(), error };
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || {
        // Opened first: what could fail behind the rename is the disk alone.
        let directory = File::open(parent)?;
        write_new(new, bans, now)?;
        fs::rename(new, path)?;
        directory.sync_all()
    };
    written().map_err(failed)
}

fn write_new(path: &Path, bans: &[Ban], now: Instant) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(path)?;
    // One that was left there has the mode it had.
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    let mut out = BufWriter::new(file);
    let wall = since_1970();
    for ban in bans {
        let (app, account, address) = match &ban.subject {
            BanSubject::App(app) => (Some(app.clone()), None, None),
            BanSubject::Account { app, account } => (Some(app.clone()), Some(account.clone()), None),
            BanSubject::Network(network) => (None, None, Some(network_text::NetworkText(*network))),
        };
        // Rounded up: none ends sooner for having been written down.
        let until = ban.left(now).map(|left| (wall + left).as_secs() + 1);
        let line = BanLine { app, account, address, until, reason: ban.reason.clone() };
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A network as text.
mod network_text {
    use ipnet::IpNet;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::bans::network;

    pub(super) struct NetworkText(pub(super) IpNet);

    impl Serialize for NetworkText {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(&self.0)
        }
    }

    impl<'de> Deserialize<'de> for NetworkText {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            let problem = || D::Error::custom(format_args!("{text:?} is neither an address nor a network"));
            network(&text).map(Self).ok_or_else(problem)
        }
    }
}
