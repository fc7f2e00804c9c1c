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
    use std::os::unix::fs::MetadataExt as _;

    use nix::unistd::{getegid, geteuid};

    let is_given = |metadata: &fs::Metadata| {
        metadata.uid() != geteuid().as_raw() && metadata.gid() == getegid().as_raw()
    };
    fs::metadata(path).is_ok_and(|metadata| {
        metadata.is_file() && is_readable_by_others(metadata.mode(), is_given(&metadata))
    })
}

/// Reading by the group is no fault where somebody else owns the file and gave it to our group: so systems of packages and
/// Kubernetes hand a secret to a service that is not root.
#[cfg(unix)]
const fn is_readable_by_others(mode: u32, is_given_to_our_group: bool) -> bool {
    const GROUP_READS: u32 = 0o040;
    const EVERYBODY_READS: u32 = 0o004;
    mode & EVERYBODY_READS != 0 || (mode & GROUP_READS != 0 && !is_given_to_our_group)
}

#[cfg(not(unix))]
pub(super) fn is_open_to_others(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    #[test]
    fn a_secret_of_another_owner_may_be_read_by_our_group_and_by_nobody_else() {
        for (mode, is_given, is_open) in [
            (0o600, false, false),
            (0o640, false, true),
            (0o640, true, false),
            (0o440, true, false),
            (0o644, true, true),
            (0o604, false, true),
        ] {
            assert_eq!(super::is_readable_by_others(mode, is_given), is_open, "{mode:o} {is_given}");
        }
    }
}
