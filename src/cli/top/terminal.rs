//! The terminal while `gateway top` has it: another screen, no echo, keys as they are pressed. Whatever ends it, it is as before.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use nix::unistd::read;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::output;

/// Another screen, and no cursor on it.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";

/// The cursor, and the screen of before.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// To the first place; what is written there replaces what was.
const HOME: &str = "\x1b[H";

/// Nothing behind on this line.
const CLEAR_LINE: &str = "\x1b[K";

/// Nothing below.
const CLEAR_BELOW: &str = "\x1b[J";

/// `q`, `Q`, Ctrl-C, Ctrl-D: signals are keys here, so that leaving always restores the terminal.
const LEAVING: [u8; 4] = [b'q', b'Q', 3, 4];

/// A signal comes to another thread, so it is looked for this often.
const SIGNAL_LOOK: Duration = Duration::from_millis(200);

/// Its drop gives the terminal back.
pub(super) struct Terminal {
    before: Termios,
    told_to_end: Arc<AtomicBool>,
}

impl Terminal {
    /// None if nobody sits there.
    pub(super) fn open() -> anyhow::Result<Option<Self>> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        let told_to_end = watch_signals()?;
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        let terminal = Self { before, told_to_end };
        output::print(ENTER)?;
        Ok(Some(terminal))
    }

    /// Shows these lines in place of the last ones.
    pub(super) fn show(&self, page: &str) -> anyhow::Result<()> {
        let lines: Vec<_> = page.lines().map(|line| format!("{line}{CLEAR_LINE}")).collect();
        // No line feed behind the last one: on a terminal with as many lines it would scroll.
        output::print(&format!("{HOME}{}{CLEAR_BELOW}", lines.join("\r\n")))?;
        Ok(())
    }

    /// Waits for so long, whatever other keys come; returns `true` as soon as somebody wants to leave.
    pub(super) fn is_left(&self, within: Duration) -> anyhow::Result<bool> {
        let until = Instant::now() + within;
        let stdin = io::stdin();
        loop {
            if self.told_to_end.load(Ordering::Relaxed) {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now()).min(SIGNAL_LOOK);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, timeout) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) if is_leaving_key()? => return Ok(true),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            // Keys that come without end hold up no look.
            if Instant::now() >= until {
                return Ok(false);
            }
        }
    }
}

/// Reads the keys that are there. Nothing is there to read where the terminal is gone.
fn is_leaving_key() -> anyhow::Result<bool> {
    let mut keys = [0; 64];
    let count = read(io::stdin().as_fd(), &mut keys)?;
    Ok(count == 0 || keys[..count].iter().any(|key| LEAVING.contains(key)))
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _gone = output::print(LEAVE);
        let _gone = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

/// SIGTERM and SIGHUP end it as a key does.
fn watch_signals() -> io::Result<Arc<AtomicBool>> {
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut hang_up) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        tell.store(true, Ordering::Relaxed);
    })?;
    Ok(told)
}
