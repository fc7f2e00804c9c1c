//! What a gateway remembers from one life to the next, if it is told where: which channel ids are taken (row H19).
//!
//! The file is read and written once, before the first client is let in. The numbers that this life may give out are
//! written down beforehand, so nothing depends on how it ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;

use crate::clock::{self, ClockError};
use crate::files::{self, FileError};
use crate::handler::Numbers;

/// What stands before the number.
const KEY: &str = "channel_ids_below ";

/// No number that a gateway wrote is larger.
const LARGEST: u64 = 1 << 63;

/// The channel ids of this life could not be reserved.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Two lives could not be told apart, nor a token that has ended.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// The file cannot be read.
    #[error("gateway.state_file: {0}")]
    Unreadable(FileError),
    /// Somebody else's file, or a damaged one.
    #[error(
        "gateway.state_file: {} has no line `channel_ids_below NUMBER`; name another file, or remove it if it is this \
         gateway's: then channel ids may come again if the clock was set back",
        .0.display()
    )]
    Damaged(PathBuf),
    /// The file cannot be replaced.
    #[error(
        "gateway.state_file: {} cannot be written: {error}; allowed is a file in a directory that this process may \
         write to, or to leave it out",
        path.display()
    )]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The system has no random numbers to give.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// The numbers of this life, written down where there is a file for it.
///
/// # Errors
/// [`StateError`].
pub(super) fn reserve(file: Option<&Path>) -> Result<Numbers, StateError> {
    let millis = clock::millis_since_2020()?;
    let mut random = [0; 8];
    rand::fill(&mut random).map_err(|_| StateError::NoRandomness)?;
    let random = u64::from_be_bytes(random);
    let Some(path) = file else { return Ok(Numbers::new(millis, random, None)) };
    let failed = |error| StateError::Unwritable { path: path.to_owned(), error };
    let dir = directory(path).map_err(failed)?;
    let numbers = Numbers::new(millis, random, read(path)?);
    write(path, &dir, numbers.taken_below).map_err(failed)?;
    Ok(numbers)
}

/// The directory of a file, locked until it is dropped: two gateways that start at once with one file by mistake must not
/// read the same number.
fn directory(path: &Path) -> io::Result<File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = File::open(parent)?;
    dir.lock()?;
    Ok(dir)
}

/// What the last life wrote; none if there was none.
fn read(path: &Path) -> Result<Option<u64>, StateError> {
    let text = match files::text(path) {
        Ok(text) => text,
        Err(FileError::Missing(_)) => return Ok(None),
        Err(error) => return Err(StateError::Unreadable(error)),
    };
    let number = text.lines().find_map(|line| line.strip_prefix(KEY)?.trim().parse().ok());
    match number.filter(|number| *number <= LARGEST) {
        Some(number) => Ok(Some(number)),
        None => Err(StateError::Damaged(path.to_owned())),
    }
}

/// Whole or not at all, and on the disk before anybody gets one of the numbers.
fn write(path: &Path, dir: &File, taken_below: u64) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let text = format!("# What a gateway must not forget. Keep it over restarts.\n{KEY}{taken_below}\n");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    dir.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Removed at its end.
    struct Dir(PathBuf);

    impl Dir {
        fn new(test: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("gateway-state-{}-{test}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn h19_a_life_begins_where_the_numbers_of_the_last_one_end() {
        let dir = Dir::new("lives");
        let path = dir.0.join("state");
        let mut last = reserve(Some(&path)).unwrap();
        for _ in 0..3 {
            let next = reserve(Some(&path)).unwrap();
            assert!(next.first >= last.taken_below, "{last:?} {next:?}");
            last = next;
        }
        let ahead = 1 << 62;
        fs::write(&path, format!("channel_ids_below {ahead}\n")).unwrap();
        assert_eq!(reserve(Some(&path)).unwrap().first, ahead, "the clock was set back by 30 years");
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 1, "nothing is left beside it");
        assert_ne!(reserve(None).unwrap().first, reserve(None).unwrap().first);
    }

    #[test]
    fn h19_gateways_that_share_a_file_by_mistake_share_no_numbers() {
        let dir = Dir::new("shared");
        let path = dir.0.join("state");
        let mut lives: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| reserve(Some(&path)).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        lives.sort_by_key(|life| life.first);
        assert!(lives.windows(2).all(|pair| pair[1].first >= pair[0].taken_below), "{lives:?}");
    }

    #[test]
    fn h19_a_file_that_says_nothing_or_cannot_be_written_keeps_the_gateway_from_starting() {
        let dir = Dir::new("bad");
        let path = dir.0.join("state");
        for text in ["", "channel_ids_below", "channel_ids_below x", "channel_ids_below 18446744073709551615"]
        {
            fs::write(&path, text).unwrap();
            let message = reserve(Some(&path)).unwrap_err().to_string();
            assert!(message.starts_with("gateway.state_file: "), "{message}");
            assert!(message.contains("has no line `channel_ids_below NUMBER`"), "{message}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is somebody's file");
        }
        let message = reserve(Some(&dir.0.join("none/state"))).unwrap_err().to_string();
        assert!(message.contains("none/state cannot be written"), "{message}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(dir.0.join("state.new")).unwrap();
        assert!(matches!(reserve(Some(&path)), Err(StateError::Unwritable { .. })));
        assert!(!path.exists());
    }
}
