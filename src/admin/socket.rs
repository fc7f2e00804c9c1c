//! The file of the socket: nobody else may open it, one that a dead process left is replaced, and it goes with its owner.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::error::AdminStartError;

/// Read and write for its owner.
const MODE: u32 = 0o600;

/// A socket that is listened on. Its drop removes the file, unless another one stands in its place by now.
#[derive(Debug)]
pub(super) struct BoundSocket {
    path: PathBuf,
    inode: u64,
}

impl BoundSocket {
    pub(super) fn bind(path: &Path) -> Result<(Self, UnixListener), AdminStartError> {
        let shown = || path.display().to_string();
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => return Err(AdminStartError::Taken(shown())),
            // Refused: whoever made it is dead.
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(AdminStartError::InUse(shown())),
            Ok(_) | Err(_) => {}
        }
        bind_quietly(path).map_err(|error| AdminStartError::Bind { path: shown(), error })
    }
}

/// Made under another name and moved when its mode is right: nobody may open it in between.
fn bind_quietly(path: &Path) -> io::Result<(BoundSocket, UnixListener)> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let made = PathBuf::from(name);
    if let Err(error) = fs::remove_file(&made)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(&made)?;
    let moved = fs::set_permissions(&made, fs::Permissions::from_mode(MODE))
        .and_then(|()| listener.set_nonblocking(true))
        .and_then(|()| fs::rename(&made, path))
        .and_then(|()| fs::symlink_metadata(path));
    match moved {
        Ok(there) => Ok((BoundSocket { path: path.to_owned(), inode: there.ino() }, listener)),
        Err(error) => {
            let _best_effort = fs::remove_file(&made);
            Err(error)
        }
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _best_effort = fs::remove_file(&self.path);
        }
    }
}
