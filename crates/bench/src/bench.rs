//! What every scenario of a run shares.

use std::fs::{self, DirBuilder};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cores::Cores;
use crate::error::{BenchError, Trying as _};
use crate::process::{Process, RoleProcess};
use crate::role::exec;

/// How long a process may take to start: thousands of clients sign in meanwhile.
const START: Duration = Duration::from_secs(120);

/// What a run is told.
#[derive(Debug, Clone)]
pub struct BenchSettings {
    /// This program, which is started as gateway, load, services and floors.
    pub program: PathBuf,
    /// The [directory](Scratch) of the run's files.
    pub scratch: PathBuf,
    /// How often everything is measured, each time after everything it is compared with.
    pub rounds: usize,
    /// How long one measurement counts.
    pub window: Duration,
}

/// Told what is done next; shown to whoever waits.
pub type Told<'a> = &'a (dyn Fn(&str) + Sync);

/// A run: its settings, its cores, its files.
pub(crate) struct BenchRun<'a> {
    pub(crate) settings: &'a BenchSettings,
    pub(crate) cores: Option<Cores>,
    progress: Told<'a>,
}

impl<'a> BenchRun<'a> {
    pub(crate) fn new(settings: &'a BenchSettings, progress: Told<'a>) -> Self {
        Self { settings, cores: Cores::of_this_process(), progress }
    }

    /// Says what is done next.
    pub(crate) fn tell(&self, text: &str) {
        (self.progress)(text);
    }

    /// The directory of its files.
    pub(crate) fn scratch(&self) -> &Path {
        &self.settings.scratch
    }

    /// The core of what is measured.
    pub(crate) fn server_core(&self) -> Option<usize> {
        self.cores.map(|cores| cores.server)
    }

    /// The core of load and services.
    pub(crate) fn load_core(&self) -> Option<usize> {
        self.cores.map(|cores| cores.load)
    }

    /// Starts this program in a role.
    pub(crate) fn role<A: Serialize, R: DeserializeOwned>(
        &self,
        role: &str,
        argument: &A,
        core: Option<usize>,
    ) -> Result<(RoleProcess, R), BenchError> {
        RoleProcess::start(&self.settings.program, role, argument, core, self.scratch(), START)
    }

    /// Starts another program, or this one as the gateway. It ends with the run, however that ends.
    pub(crate) fn program(
        &self,
        name: &str,
        command: &Command,
        core: Option<usize>,
    ) -> Result<Process, BenchError> {
        Process::start(name, exec::with_the_run(&self.settings.program, command)?, core, self.scratch())
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// It failed, or took too long.
    pub(crate) fn finish(&self, name: &str, command: &Command, patience: Duration) -> Result<(), BenchError> {
        self.program(name, command, None)?.finish(patience)
    }
}

/// The directory of a run's files, which goes with its handle.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one below a directory in which others may write: nobody guesses its name, and nobody else may enter.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(below: &Path) -> Result<Self, BenchError> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random)
            .map_err(|_| BenchError::failed("the system gives no random numbers"))?;
        let path = below.join(format!("gateway-bench-{:016x}", u64::from_be_bytes(random)));
        DirBuilder::new().mode(0o700).create(&path).doing(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays there is for the system to clear away.
        let _stays = fs::remove_dir_all(&self.0);
    }
}

/// What belongs together with a contender and ends with it.
#[derive(Debug)]
pub(crate) enum ContenderPart {
    /// Of another program, or a gateway.
    Program {
        #[expect(dead_code, reason = "kept for its drop")]
        process: Process,
    },
    /// Of this one.
    Role {
        #[expect(dead_code, reason = "kept for its drop")]
        process: RoleProcess,
    },
}

/// An address of this machine that is free for TCP and UDP.
pub(crate) fn free_address() -> Result<SocketAddr, BenchError> {
    for _ in 0..16 {
        let tcp = TcpListener::bind(ANY).doing(|| "no port is free".to_owned())?;
        let address = tcp.local_addr().doing(|| "no port is free".to_owned())?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(BenchError::failed("no port is free for TCP and UDP"))
}

/// Any port of this machine.
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_directory_of_a_run_is_its_own_and_goes_with_it() {
        let below = std::env::temp_dir();
        let (one, other) = (Scratch::new(&below).unwrap(), Scratch::new(&below).unwrap());
        assert_ne!(one.path(), other.path());
        let path = one.path().to_owned();
        fs::write(path.join("file"), "text").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(one);
        assert!(!path.exists());
    }
}
