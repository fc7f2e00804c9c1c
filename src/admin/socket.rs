//! The file of the socket: nobody else may open it, one that a dead process left is replaced, and it goes with its owner.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::error::AdminStartError;

/// Read and write for its owner.
const MODE: u32 = 0o600;

/// The same for a directory.
const DIRECTORY_MODE: u32 = 0o700;

/// A socket that is listened on. Its drop removes the file, unless another one stands in its place by now.
#[derive(Debug)]
pub(super) struct BoundSocket {
    path: PathBuf,
    inode: u64,
}

impl BoundSocket {
    pub(super) fn bind(path: &Path) -> Result<(Self, UnixListener), AdminStartError> {
        let shown = || path.display().to_string();
        let failed = |error| AdminStartError::Bind { path: shown(), error };
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => return Err(AdminStartError::Taken(shown())),
            Ok(_) if is_answered(path).map_err(failed)? => return Err(AdminStartError::InUse(shown())),
            Ok(_) | Err(_) => {}
        }
        let directory = PrivateDirectory::make(path)?;
        directory.bind(path).map_err(failed)
    }
}

/// Whether whoever made the socket lives. Anything but a refusal does not say, and is an error.
fn is_answered(path: &Path) -> io::Result<bool> {
    match UnixStream::connect(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Where a socket is made, beside its place: nobody else can open it there before its mode is right. Removed at the end.
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    /// What is there already may be somebody else's, and is left alone.
    fn make(path: &Path) -> Result<Self, AdminStartError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let made = PathBuf::from(name);
        match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(&made) {
            Ok(()) => Ok(Self(made)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(AdminStartError::InTheWay(made.display().to_string()))
            }
            Err(error) => Err(AdminStartError::Bind { path: made.display().to_string(), error }),
        }
    }

    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }

    fn bind(&self, path: &Path) -> io::Result<(BoundSocket, UnixListener)> {
        let made = self.socket();
        let listener = UnixListener::bind(&made)?;
        fs::set_permissions(&made, fs::Permissions::from_mode(MODE))?;
        listener.set_nonblocking(true)?;
        let inode = fs::symlink_metadata(&made)?.ino();
        fs::rename(&made, path)?;
        Ok((BoundSocket { path: path.to_owned(), inode }, listener))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // Gone, where it was moved.
        let _best_effort = fs::remove_file(self.socket());
        let _best_effort = fs::remove_dir(&self.0);
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _best_effort = fs::remove_file(&self.path);
        }
    }
}
