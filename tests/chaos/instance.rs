//! [`Instance`]: a process of a scripted logic service, as the runner holds it.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::gateway_process::free_port;
use crate::ledger::{Judge, Ledger};
use crate::service::ServiceScript;

/// The service that signs users in.
pub(crate) const LOGIN: &str = "login";

/// The service of most requests.
pub(crate) const CHAT: &str = "chat";

/// A service that no fault touches: its requests must not suffer (G8).
pub(crate) const SIDE: &str = "side";

/// Name, service and zone of every instance.
const INSTANCES: [(&str, &str, &str); 7] = [
    ("login01", LOGIN, "zone_a"),
    ("login02", LOGIN, "zone_b"),
    ("chat01", CHAT, "zone_a"),
    ("chat02", CHAT, "zone_a"),
    ("chat03", CHAT, "zone_b"),
    ("chat04", CHAT, "zone_b"),
    ("side01", SIDE, "zone_a"),
];

/// See the module. Dropped, it is killed.
pub(crate) struct Instance {
    pub(crate) name: &'static str,
    pub(crate) service: &'static str,
    pub(crate) zone: &'static str,
    pub(crate) address: SocketAddr,
    child: Option<Child>,
}

impl Instance {
    /// All of them, none running yet.
    pub(crate) fn all() -> anyhow::Result<Vec<Self>> {
        let new =
            |(name, service, zone)| Ok(Self { name, service, zone, address: free_port()?, child: None });
        INSTANCES.into_iter().map(new).collect()
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start<J: Judge>(
        &mut self,
        ledger: &Ledger<J>,
        run: u64,
        pushes: u32,
    ) -> anyhow::Result<()> {
        let script = ServiceScript {
            instance: self.name.to_owned(),
            listen: self.address,
            ledger: ledger.address,
            run,
            pushes,
        };
        ledger.forget(self.name);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--service").args(script.words()).stdin(Stdio::null());
        self.child = Some(command.spawn().context("a logic service cannot be started")?);
        ledger.met(self.name).await;
        Ok(())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().with_context(|| format!("{} is not running", self.name))?;
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
    }

    /// `kill -9`, and it is gone when this returns.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().with_context(|| format!("{} is not running", self.name))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}
