//! How a file is read that somebody hands over: configuration, route, certificates, keys, secrets (row H17).
//!
//! One rule for all of them. Text is UTF-8. A byte order mark in front of it is skipped, because editors put it there
//! unasked; UTF-16 is refused by name. A secret is the exception: there a mark would be part of it for one reader and not
//! for another, so it is read with [`bytes`] and judged by the configuration.
//!
//! A pipe is read as well, so that a secret need not lie on a disk (`<(command)` of a shell), but nothing waits for
//! ever for somebody to write to it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::limits::{MAX_FILE, PIPE_WAIT};

/// What some editors put in front of UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// So many bytes say whether a text without a mark is UTF-16; in pairs.
const UTF_16_LOOK: usize = 16;

/// Why a file is not taken. Each text begins with its path.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is none.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// A directory, a device or a socket.
    #[error("{} is no file", .0.display())]
    NoFile(PathBuf),
    /// Larger than anything that makes sense.
    #[error("{} has more than {MAX_FILE} bytes", .0.display())]
    TooLarge(PathBuf),
    /// Nobody wrote to the pipe, or nobody finished.
    #[error(
        "{} is a pipe, and nobody wrote to it and closed it within {}",
        .0.display(),
        humantime::format_duration(PIPE_WAIT)
    )]
    Silent(PathBuf),
    /// The system refused.
    #[error("{} cannot be read: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Text of another kind.
    #[error("{} is UTF-16 text; save it as UTF-8", .0.display())]
    Utf16(PathBuf),
    /// No text.
    #[error("{} is not UTF-8", .0.display())]
    NotUtf8(PathBuf),
}

/// The bytes of a file as they are, at most [`MAX_FILE`](crate::limits::MAX_FILE). Blocks for as long as the disk takes,
/// for a pipe at most [`PIPE_WAIT`](crate::limits::PIPE_WAIT).
///
/// # Errors
/// [`FileError`].
pub fn bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    // What is no pipe takes no notice of this; a pipe without a writer would hold the call up.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .map_err(|error| failed(path, error))?;
    let metadata = file.metadata().map_err(|error| failed(path, error))?;
    let read = if metadata.is_file() {
        let mut bytes = Vec::new();
        // One more than is allowed tells that there is more; a length would be out of date.
        file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    } else if metadata.file_type().is_fifo() {
        read_pipe(&mut file, Instant::now() + PIPE_WAIT)
    } else {
        return Err(FileError::NoFile(path.to_owned()));
    };
    let bytes = read.map_err(|error| failed(path, error))?;
    if bytes.len() > MAX_FILE {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// The bytes of a text file, without a mark. For PEM, around whose sections anything may stand.
///
/// # Errors
/// [`FileError`].
pub fn unmarked(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = bytes(path)?;
    if is_utf_16(&bytes) {
        return Err(FileError::Utf16(path.to_owned()));
    }
    bytes.drain(..mark_len(&bytes));
    Ok(bytes)
}

/// The text of a file, without a mark.
///
/// # Errors
/// [`FileError`].
pub fn text(path: &Path) -> Result<String, FileError> {
    String::from_utf8(unmarked(path)?).map_err(|_| FileError::NotUtf8(path.to_owned()))
}

/// The length of the mark that text begins with, bytes; 0 if there is none.
pub fn mark_len(text: &[u8]) -> usize {
    if text.starts_with(MARK) { MARK.len() } else { 0 }
}

/// Returns `true` if it begins like UTF-16: with one of its marks, or with characters of ASCII, each with a zero beside
/// it.
pub fn is_utf_16(text: &[u8]) -> bool {
    let (pairs, _) = text[..text.len().min(UTF_16_LOOK)].as_chunks::<2>();
    let little = |pair: &[u8; 2]| pair[0] != 0 && pair[1] == 0;
    let big = |pair: &[u8; 2]| pair[0] == 0 && pair[1] != 0;
    text.starts_with(b"\xFF\xFE")
        || text.starts_with(b"\xFE\xFF")
        || (pairs.len() > 1 && (pairs.iter().all(little) || pairs.iter().all(big)))
}

fn failed(path: &Path, error: io::Error) -> FileError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path),
        io::ErrorKind::TimedOut => FileError::Silent(path),
        io::ErrorKind::IsADirectory => FileError::NoFile(path),
        _ => FileError::Io { path, error },
    }
}

/// Reads until all writers have closed the pipe.
fn read_pipe(pipe: &mut File, until: Instant) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let mut hung_up = false;
    while bytes.len() <= MAX_FILE {
        match pipe.read(&mut piece) {
            // Without a byte so far the writer may be yet to come.
            Ok(0) if hung_up || !bytes.is_empty() => break,
            Ok(0) => hung_up = wait(pipe, until)?,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => hung_up = wait(pipe, until)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Waits until there is something to read or all writers are gone, and says whether they are.
fn wait(pipe: &File, until: Instant) -> io::Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up: the last wait would otherwise be of 0 ms, over and over.
    let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    let mut watched = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    match poll(&mut watched, left) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) => Ok(watched[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLHUP))),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    /// Removed at its end.
    struct FileDir(PathBuf);

    impl FileDir {
        fn new(test: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("gateway-files-{}-{test}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn put(&self, bytes: &[u8]) -> PathBuf {
            let path = self.0.join("file");
            fs::write(&path, bytes).unwrap();
            path
        }

        fn pipe(&self) -> PathBuf {
            let path = self.0.join("pipe");
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        }
    }

    impl Drop for FileDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn utf_16(text: &str, big: bool) -> Vec<u8> {
        let unit = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn h17_a_byte_order_mark_is_skipped_and_utf_16_is_refused_by_name() {
        let dir = FileDir::new("marks");
        assert_eq!(text(&dir.put("\u{feff}a = 1\n".as_bytes())).unwrap(), "a = 1\n");
        assert_eq!(
            text(&dir.put("a\u{feff}".as_bytes())).unwrap(),
            "a\u{feff}",
            "elsewhere it is a character"
        );
        assert_eq!(text(&dir.put(b"")).unwrap(), "");
        assert_eq!(unmarked(&dir.put(b"\xEF\xBB\xBF\xE9")).unwrap(), b"\xE9");
        for written in [
            utf_16("\u{feff}a", false),
            utf_16("\u{feff}a", true),
            utf_16("[gateway]\nid = \"g\"", false),
            utf_16("[gateway]\nid = \"g\"", true),
        ] {
            let message = text(&dir.put(&written)).unwrap_err().to_string();
            assert!(message.ends_with("file is UTF-16 text; save it as UTF-8"), "{message}");
            assert_eq!(bytes(&dir.put(&written)).unwrap(), written, "as it is");
        }
        assert!(matches!(text(&dir.put(b"\xE9")), Err(FileError::NotUtf8(_))));
        for plain in [&b"ab"[..], b"\0\0\0\0", b"a\0bc", "\u{7528}\u{6237}".as_bytes()] {
            assert!(!is_utf_16(plain), "{plain:?}");
        }
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused() {
        let dir = FileDir::new("kinds");
        let socket = dir.0.join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(matches!(bytes(&dir.0), Err(FileError::NoFile(_))));
        assert!(matches!(bytes(Path::new("/dev/zero")), Err(FileError::NoFile(_))));
        assert!(bytes(&socket).is_err());
        assert!(matches!(bytes(&dir.0.join("none")), Err(FileError::Missing(_))));
        let sparse = dir.put(b"");
        File::options().write(true).open(&sparse).unwrap().set_len(MAX_FILE as u64 + 1).unwrap();
        assert!(matches!(bytes(&sparse), Err(FileError::TooLarge(_))));
    }

    #[test]
    fn h17_a_pipe_is_read_to_its_end_and_never_waited_for_for_ever() {
        let dir = FileDir::new("pipes");
        let pipe = dir.pipe();
        let long = "x".repeat(200_000);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = OpenOptions::new().write(true).open(&pipe).unwrap();
                writer.write_all(long.as_bytes()).unwrap();
            });
            assert_eq!(text(&pipe).unwrap(), long);
        });
        std::thread::scope(|scope| {
            scope.spawn(|| drop(OpenOptions::new().write(true).open(&pipe).unwrap()));
            assert_eq!(text(&pipe).unwrap(), "", "a writer that says nothing");
        });

        let begun = Instant::now();
        let message = text(&pipe).unwrap_err().to_string();
        assert!(
            message.contains("pipe is a pipe, and nobody wrote to it and closed it within 5s"),
            "{message}"
        );
        let _open = File::options().read(true).write(true).open(&pipe).unwrap();
        assert!(matches!(text(&pipe), Err(FileError::Silent(_))), "a writer that never ends");
        assert!(begun.elapsed() < 4 * PIPE_WAIT, "{:?}", begun.elapsed());
    }
}
