//! Records the commit for `gateway --version`.

use std::path::Path;
use std::process::Command;

fn main() {
    // Only files that exist: cargo takes a missing one as changed, and would build everything anew each time.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    // A container image is built without the history and is told the commit. Without either there is none, which is no
    // error.
    println!("cargo:rerun-if-env-changed=GATEWAY_COMMIT");
    let told = std::env::var("GATEWAY_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit =
        told.or_else(|| git(&["rev-parse", "--short=12", "HEAD"])).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=GATEWAY_COMMIT={commit}");
}

/// What a git command prints in this checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
