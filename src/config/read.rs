//! What to say of the files a configuration names, beside what is wrong with them.

use std::fs;
use std::path::Path;

use crate::certs::name;

/// What `gateway certs` makes unless it is told where.
const USUAL_DIR: &str = "certs/dev";

/// What to do about a missing file: `gateway certs` makes it, if that is a file it makes; else what is `allowed`.
pub(super) fn or_make(path: &Path, allowed: &str) -> String {
    match certs_of(path) {
        Some(command) if !path.exists() => format!("; `{command}` makes it"),
        _ => format!("; {allowed}"),
    }
}

/// What to do about a bad file: to make everything anew, if `gateway certs` has made it. A file from elsewhere is
/// left alone.
pub(super) fn or_remake(path: &Path) -> String {
    match certs_of(path) {
        Some(command) if has_authority(path) => format!("; `{command} --force` makes everything anew"),
        _ => String::new(),
    }
}

/// The command that makes the file, if one does.
fn certs_of(path: &Path) -> Option<String> {
    let option = match path.file_name()?.to_str()? {
        name::SERVER | name::SERVER_KEY | name::JWT_SECRET | name::QUIC_KEYS => "",
        name::TICKET_KEYS => " --rotate-tickets",
        _ => return None,
    };
    let dir = path.parent()?;
    Some(match dir.ends_with(USUAL_DIR) {
        true => format!("gateway certs{option}"),
        false => format!("gateway certs{option} --dir {}", dir.display()),
    })
}

/// Beside what it makes, `gateway certs` leaves the key of its CA. Nobody else would.
fn has_authority(path: &Path) -> bool {
    path.parent().is_some_and(|dir| dir.join(name::CA_KEY).exists())
}

#[cfg(unix)]
pub(super) fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;

    /// Read permission of the group and of everybody.
    const OTHERS_READ: u32 = 0o044;
    let is_open = |metadata: fs::Metadata| metadata.permissions().mode() & OTHERS_READ != 0;
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && is_open(metadata))
}

#[cfg(not(unix))]
pub(super) fn is_open_to_others(_path: &Path) -> bool {
    false
}
