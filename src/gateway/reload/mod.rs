//! Reading the configuration again while the gateway runs: everything is checked first, then all that changed is put into
//! effect, or nothing.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use tracing::{info, warn};

use self::differences::differences;
use self::process::Prepared;
use crate::config::{Config, ConfigFile, KeysDigest, LoadedAgain, Written};
use crate::limits::RELOAD_TAKEN;
use crate::live::{Live, LiveSource};
use crate::monitor::events::event::{Event, Subject};
use crate::monitor::events::{FILES, PROCESS};

mod differences;
mod error;
mod files;
mod handle;
mod process;

pub use self::error::ReloadError;
pub(super) use self::files::FilesWatch;
pub use self::handle::ReloadHandle;
pub use self::process::LogLevel;
pub(super) use self::process::{ProcessParts, account_rate};

/// Where a configuration comes from and what it said at the start.
#[derive(Debug)]
pub struct Reloads {
    /// The file.
    pub file: ConfigFile,
    /// What it says now: [`Loaded::written`](crate::config::Loaded::written) of the configuration the gateway starts with.
    pub written: Written,
}

/// What a reload came to. Displayed it is one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// What is in effect now and was not before, each as a line for a person.
    pub changed: Vec<String>,
    /// Keys that say something else than what runs, and need a restart.
    pub needs_restart: Vec<String>,
    /// What is allowed but worth a word, as at the start.
    pub warnings: Vec<String>,
    /// A worker is too busy to have taken it yet; it will.
    pub is_pending: bool,
}

impl fmt::Display for ReloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.changed.clone();
        if parts.is_empty() {
            parts.push("nothing else is in effect than before".to_owned());
        }
        if !self.needs_restart.is_empty() {
            parts.push(format!("needs a restart: {}", self.needs_restart.join(", ")));
        }
        if self.is_pending {
            parts.push("a worker has not taken it yet".to_owned());
        }
        f.write_str(&parts.join("; "))
    }
}

/// What is in effect.
#[derive(Debug)]
struct Running {
    written: Written,
    /// What the files of certificates and keys held when they were last put into effect; none: they are read at the next look.
    keys: Option<KeysDigest>,
}

/// Reads the configuration again and puts it into effect.
#[derive(Debug)]
pub(super) struct Reloader {
    file: ConfigFile,
    /// Held over a whole reload: they follow one another.
    running: Mutex<Running>,
    live: LiveSource,
    process: ProcessParts,
}

impl Reloader {
    pub(super) fn new(reloads: Reloads, live: LiveSource, process: ProcessParts) -> Self {
        let Reloads { file, written } = reloads;
        Self { file, running: Mutex::new(Running { written, keys: None }), live, process }
    }

    /// See [`Gateway::reload`](super::Gateway::reload).
    pub(super) fn reload(&self) -> Result<ReloadReport, ReloadError> {
        let outcome = self.load_and_apply();
        match &outcome {
            Ok(report) => {
                report.warnings.iter().for_each(|warning| warn!(event = "config", "{warning}"));
                info!(event = "reloaded", "{report}");
                for source in [PROCESS, FILES] {
                    self.process.metrics.events().clear(source, &Subject::reload_failed());
                }
            }
            // Its line says what is wrong. While it holds it has no other, and each refusal has its own reason.
            Err(error) => {
                if !self.process.metrics.events().raise_and_tell(PROCESS, Event::reload_failed(error)) {
                    warn!(event = "reload_failed", detail = %error, "this one is refused as well");
                }
            }
        }
        outcome
    }

    /// What a reload would come to, of this file or of the gateway's own. Nothing changes.
    pub(super) fn compare(&self, path: Option<PathBuf>) -> Result<ReloadReport, ReloadError> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = self.file.clone();
        file.path = path.unwrap_or(file.path);
        self.check(&file, &running.written).map(|checked| checked.report)
    }

    /// Until a reload changes it. Returns `false` where something else rules it.
    pub(in crate::gateway) fn set_log_level(&self, level: tracing::Level) -> bool {
        self.process.set_log_level(level)
    }

    fn load_and_apply(&self) -> Result<ReloadReport, ReloadError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let CheckedReload { mut report, written, live, prepared } =
            self.check(&self.file, &running.written)?;
        // Nothing below can fail.
        self.process.apply_shared(&live.config);
        self.live.change(|last| live.with_fetched(Arc::clone(&last.fetched)));
        self.process.readiness.keyless(!self.live.current().has_token_keys());
        // They are read once more, in case they were replaced just now.
        *running = Running { written, keys: None };
        report.is_pending = !self.live.wait_taken(RELOAD_TAKEN);
        self.process.apply_threads(prepared);
        Ok(report)
    }

    /// Puts certificates and keys into effect that were replaced under their names since the last look.
    fn look_at_keys(&self) {
        let mut running = match self.running.try_lock() {
            Ok(running) => running,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A reload is under way, and reads them itself.
            Err(TryLockError::WouldBlock) => return,
        };
        // Before they are read: what comes in between is seen the next time.
        let keys = Some(self.file.digest_keys(&running.written));
        if running.keys == keys {
            return;
        }
        // What is refused is tried again, whether the files change or not: a certificate may become valid.
        running.keys = None;
        let events = self.process.metrics.events();
        match self.apply_keys(&running.written) {
            Ok(changed) => {
                running.keys = keys;
                if !changed.is_empty() {
                    info!(event = "reloaded", "{}", changed.join("; "));
                }
                events.clear(FILES, &Subject::reload_failed());
            }
            Err(error) => events.raise(FILES, Event::reload_failed(error)),
        }
    }

    fn apply_keys(&self, written: &Written) -> Result<Vec<String>, ReloadError> {
        let keys = self.file.load_keys_again(written)?;
        let before = self.live.current();
        let config = Arc::new(Config::clone(&before.config).with_keys(keys));
        let changed = differences(&before.config, &config, &[]);
        if !changed.is_empty() {
            let prepared = self.process.prepare(&config)?;
            let live = Live::new(config)?;
            self.process.follow_tickets(&live.config);
            self.live.change(|last| live.keeping(last));
            self.process.apply_threads(prepared);
        }
        Ok(changed)
    }

    fn check(&self, file: &ConfigFile, running: &Written) -> Result<CheckedReload, ReloadError> {
        let LoadedAgain { loaded, mut needs_restart } = file.load_again(running)?;
        let before = self.live.current();
        let mut config = loaded.config;
        keep_quic_keys(&mut config, &before.config, &mut needs_restart);
        keep_jwks_roots(&mut config, &before.config, &mut needs_restart);
        let config = Arc::new(config);
        let changed = differences(&before.config, &config, &loaded.written.changes_from(running));
        let report = ReloadReport { changed, needs_restart, warnings: loaded.warnings, is_pending: false };
        let prepared = self.process.prepare(&config)?;
        Ok(CheckedReload { report, written: loaded.written, live: Live::new(config)?, prepared })
    }
}

/// What may be put into effect, and what that comes to.
struct CheckedReload {
    report: ReloadReport,
    written: Written,
    live: Live,
    prepared: Prepared,
}

/// Connection ids are made of these, those of clients that are connected among them: other ones are for the next process.
fn keep_quic_keys(config: &mut Config, running: &Config, needs_restart: &mut Vec<String>) {
    let (Some(quic), Some(runs)) = (&mut config.quic, &running.quic) else { return };
    for (key, is_other) in [("quic.key_file", quic.keys != runs.keys), ("quic.lb", quic.lb != runs.lb)] {
        if is_other {
            push_once(key, needs_restart);
        }
    }
    (quic.keys, quic.lb) = (runs.keys.clone(), runs.lb.clone());
}

/// Whoever fetches keys took the CA at the start. Its key stays, so this can only be the content of its file.
fn keep_jwks_roots(config: &mut Config, running: &Config, needs_restart: &mut Vec<String>) {
    if config.jwks != running.jwks {
        push_once("auth.jwks_ca_file", needs_restart);
        config.jwks.clone_from(&running.jwks);
    }
}

fn push_once(key: &str, keys: &mut Vec<String>) {
    if !keys.iter().any(|known| known == key) {
        keys.push(key.to_owned());
    }
}
