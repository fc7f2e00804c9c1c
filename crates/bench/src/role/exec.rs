//! Becomes another program, one that ends when the run ends: whoever started this one, however that comes to its end.
//! The kernel sees to it, so nothing stands between the run and what it measures.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Trying as _};
use crate::role::control;

/// Its name among the roles.
pub(crate) const NAME: &str = "exec";

/// What it is started with.
#[derive(Debug, Serialize, Deserialize)]
struct Exec {
    /// The process with which it ends.
    run: u32,
    program: OsString,
    arguments: Vec<OsString>,
}

/// The same command, which ends with the thread that starts it. It reads nothing, and what it prints is lost.
pub(crate) fn with_the_run(this_program: &Path, command: &Command) -> Result<Command, BenchError> {
    let exec = Exec {
        run: std::process::id(),
        program: command.get_program().to_owned(),
        arguments: command.get_args().map(ToOwned::to_owned).collect(),
    };
    let argument = serde_json::to_string(&exec).doing(|| "cannot write an argument".to_owned())?;
    let mut wrapped = Command::new(this_program);
    wrapped.args(["bench", "role", NAME, &argument]).stdin(Stdio::null()).stdout(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    Ok(wrapped)
}

/// Returns only with an error.
pub(crate) fn run(argument: &str) -> Result<(), BenchError> {
    let Exec { run, program, arguments } = control::parse(argument)?;
    set_pdeathsig(Signal::SIGKILL).doing(|| "cannot end with the run".to_owned())?;
    // It may have ended before the kernel was told.
    if getppid().as_raw().cast_unsigned() != run {
        return Err(BenchError::failed("the run has ended"));
    }
    let error: io::Error = Command::new(&program).args(arguments).exec();
    Err(error).doing(|| format!("cannot start {}", program.display()))
}
