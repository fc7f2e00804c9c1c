//! `[admin]`: where the administrator is served, and what he has ordered for longer than a process lives.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::check::is_in_a_directory;
use super::checked::Admin;
use super::checker::Checker;
use super::error::ConfigError;
use super::secret::{Secret, SecretKeys};

/// Shortest token, bytes: no guessing reaches it.
const MIN_TOKEN: usize = 32;

const TOKEN: SecretKeys<'static> = SecretKeys {
    inline: "admin.token",
    file: "admin.token_file",
    allowed: "allowed is a file with the token that opens admin.listen",
};

/// Longest path of a socket, bytes: what the system has room for, less the end of the name under which it is made.
const MAX_SOCKET_PATH: usize = 100;

impl Checker<'_> {
    /// `encrypted` are the listeners that show clients a certificate.
    pub(super) fn admin(&mut self, encrypted: &[&[SocketAddr]]) -> Result<Admin, ConfigError> {
        let listen = self.admin_listen()?;
        if let Some((address, _)) = &listen
            && !address.ip().is_loopback()
            && encrypted.iter().all(|listeners| listeners.is_empty())
        {
            // A token must not travel in clear.
            let problem = format!(
                "is {address}, and there is no certificate; allowed is an address of this machine, or any beside a \
                 listener on QUIC, TLS or wss"
            );
            return Err(self.error("admin.listen", problem));
        }
        Ok(Admin { socket: self.admin_socket()?, listen, bans_file: self.bans_file()? })
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

    /// With nothing in it, it is switched off.
    fn admin_listen(&mut self) -> Result<Option<(SocketAddr, Secret)>, ConfigError> {
        let file = self.file;
        let Some(listen) = file.admin.listen.as_deref().filter(|listen| !listen.is_empty()) else {
            return Ok(None);
        };
        let address = self.address("admin.listen", listen)?;
        let Some((key, token)) = self.secret_of(&TOKEN, None, file.admin.token_file.as_ref())? else {
            let problem = format!("is missing; {}", TOKEN.allowed);
            return Err(self.error("admin.token_file", problem));
        };
        if token.0.len() < MIN_TOKEN {
            let problem = format!(
                "holds {} bytes; allowed are {MIN_TOKEN} and more, such as `openssl rand -hex 32` makes",
                token.0.len()
            );
            return Err(self.error(key, problem));
        }
        Ok(Some((address, token)))
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
