//! Has `install` make a client program.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where stacks are installed and built: `STACKS_DIR`, else `stacks` in cargo's directory for what tests make.
fn scratch() -> PathBuf {
    std::env::var_os("STACKS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("stacks"), PathBuf::from)
}

/// Makes the client of this stack; returns its program.
///
/// # Errors
/// The last lines of what was printed, where it cannot be had on this machine.
pub(crate) fn install(name: &str) -> Result<PathBuf, String> {
    let directory = scratch();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stacks/install");
    let output = Command::new(&script).arg(name).arg(&directory).output();
    let output = output.map_err(|error| format!("{}: {error}", script.display()))?;
    if output.status.success() {
        return Ok(directory.join(name).join("client"));
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(lines[lines.len().saturating_sub(3)..].join("\n"))
}
