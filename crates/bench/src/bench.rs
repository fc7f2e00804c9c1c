//! What every scenario of a run shares.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cores::Cores;
use crate::error::{BenchError, Trying as _};
use crate::process::{Process, RoleProcess};

/// How long a process may take to start: thousands of clients sign in meanwhile.
const START: Duration = Duration::from_secs(120);

/// What a run is told.
#[derive(Debug, Clone)]
pub struct BenchSettings {
    /// This program, which is started as gateway, load, services and floors.
    pub program: PathBuf,
    /// Where files of the run may be made.
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
    scratch: Scratch,
}

impl<'a> BenchRun<'a> {
    pub(crate) fn new(settings: &'a BenchSettings, progress: Told<'a>) -> Result<Self, BenchError> {
        let scratch = Scratch::new(&settings.scratch)?;
        Ok(Self { settings, cores: Cores::of_this_process(), progress, scratch })
    }

    /// Says what is done next.
    pub(crate) fn tell(&self, text: &str) {
        (self.progress)(text);
    }

    /// The directory of its files.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch.0
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
}

/// A directory that goes with its handle.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new(below: &Path) -> Result<Self, BenchError> {
        let path = below.join(format!("gateway-bench-{}", std::process::id()));
        fs::create_dir_all(&path).doing(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
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
