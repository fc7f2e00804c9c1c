//! `[admin]`: where the administrator is served, and what he has ordered for longer than a process lives.

use std::path::{Path, PathBuf};

use super::check::is_in_a_directory;
use super::checked::Admin;
use super::checker::Checker;
use super::error::ConfigError;

/// Longest path of a socket, bytes: what the system has room for, less the end of the name under which it is made.
const MAX_SOCKET_PATH: usize = 100;

impl Checker<'_> {
    pub(super) fn admin(&self) -> Result<Admin, ConfigError> {
        Ok(Admin { socket: self.admin_socket()?, bans_file: self.bans_file()? })
    }

    /// Its directory must be there; the socket itself is made.
    pub(super) fn admin_socket(&self) -> Result<Option<PathBuf>, ConfigError> {
        let Some(path) = self.in_a_directory("admin.socket", self.file.admin.socket.as_deref())? else {
            return Ok(None);
        };
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            let problem = format!("has {} bytes; allowed are {MAX_SOCKET_PATH}", path.as_os_str().len());
            return Err(self.error("admin.socket", problem));
        }
        Ok(Some(path))
    }

    /// The same: it is made with the first ban.
    fn bans_file(&self) -> Result<Option<PathBuf>, ConfigError> {
        self.in_a_directory("admin.bans_file", self.file.admin.bans_file.as_deref())
    }

    fn in_a_directory(&self, key: &str, path: Option<&Path>) -> Result<Option<PathBuf>, ConfigError> {
        let Some(path) = path else { return Ok(None) };
        let path = self.options.base.join(path);
        if is_in_a_directory(&path) {
            return Ok(Some(path));
        }
        let problem = format!("is {}; allowed is a path in a directory that is there", path.display());
        Err(self.error(key, problem))
    }
}
