//! Where the gateway of a configuration has its socket.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use gateway::config::{self, Options};

use crate::cli::{DEFAULT_CONFIG, DEV_SOCKET};

/// The socket that a configuration names; where it is the default one and names none, that of the `gateway dev` that runs in this
/// directory.
///
/// # Errors
/// What is wrong with the configuration, or what to name.
pub(crate) fn configured(config: &Path) -> Result<PathBuf, String> {
    let options = Options::with_environment(std::env::vars_os());
    let is_default = config == Path::new(DEFAULT_CONFIG);
    let absent = is_default && !config.exists();
    let path = (!absent).then_some(config);
    let socket = config::load_admin_socket(path, &options).map_err(|error| error.to_string())?;
    if let Some(socket) = socket {
        return Ok(socket);
    }
    let of_config =
        format!("{}: {}", config.display(), if absent { "is not here" } else { "admin.socket is not set" });
    if !is_default {
        return Err(format!(
            "{of_config}, so there is nobody to ask; set it, or name a socket with --socket"
        ));
    }
    one_of(of_dev(Path::new(DEV_SOCKET)), &of_config)
}

/// The sockets of every `gateway dev` that answers, beside the one of those whose ports are not moved.
fn of_dev(unmoved: &Path) -> Vec<PathBuf> {
    let is_named = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| {
            name == "admin.sock" || (name.starts_with("admin-") && name.ends_with(".sock"))
        })
    };
    let Some(entries) = unmoved.parent().and_then(|directory| fs::read_dir(directory).ok()) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    // What a process that was killed has left is no gateway.
    let mut sockets: Vec<_> =
        paths.filter(|path| is_named(path) && UnixStream::connect(path).is_ok()).collect();
    sockets.sort();
    sockets
}

fn one_of(mut sockets: Vec<PathBuf>, of_config: &str) -> Result<PathBuf, String> {
    match (sockets.pop(), sockets.as_slice()) {
        (Some(socket), []) => Ok(socket),
        (Some(last), others) => {
            let shown =
                others.iter().chain([&last]).map(|path| path.display().to_string()).collect::<Vec<_>>();
            Err(format!(
                "several gateways of `gateway dev` run here; name one of their sockets: --socket {}",
                shown.join(" or ")
            ))
        }
        (None, _) => Err(format!(
            "{of_config}, and no `gateway dev` runs in this directory, so there is nobody to ask; name the gateway's \
             configuration with --config FILE, or its socket with --socket PATH"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_gateway_of_dev_is_found_on_whatever_port_and_one_of_several_is_to_be_named() {
        let place = std::env::temp_dir().join(format!("gateway-ctl-socket-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let unmoved = place.join("admin.sock");
        let found = || one_of(of_dev(&unmoved), "config/gateway.toml: is not here");
        let told = found().unwrap_err();
        assert!(told.contains("no `gateway dev` runs") && told.contains("--socket PATH"), "{told}");
        // Dead: its process was killed. Another one is not of ours.
        drop(UnixListener::bind(&unmoved).unwrap());
        let _other = UnixListener::bind(place.join("other.sock")).unwrap();
        assert!(found().is_err());
        let moved = place.join("admin-9000.sock");
        let _dev = UnixListener::bind(&moved).unwrap();
        assert_eq!(found().unwrap(), moved);
        let second = place.join("admin-9100.sock");
        let _second = UnixListener::bind(&second).unwrap();
        let told = found().unwrap_err();
        assert!(told.ends_with(&format!("--socket {} or {}", moved.display(), second.display())), "{told}");
        fs::remove_dir_all(&place).unwrap();
    }
}
