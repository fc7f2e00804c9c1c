//! [`MemoryGroup`]: a control group of Linux whose processes may have so much memory together and no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where Linux mounts the memory controller of version 1, and groups of version 2.
const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// How long the kernel may take to let go of a group whose last process has ended.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);

/// See the module. It is removed at the end of its test; its processes must have ended by then.
pub(super) struct MemoryGroup {
    path: PathBuf,
    /// Holds the line `oom_kill N`.
    events: &'static str,
}

impl MemoryGroup {
    /// A group of this many bytes; what stands in its way where that is not possible.
    pub(super) fn of(bytes: u64) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let is_v1 = Path::new(V1).join("memory.limit_in_bytes").exists();
        let (root, limit, events) = if is_v1 {
            (V1, "memory.limit_in_bytes", "memory.oom_control")
        } else {
            (V2, "memory.max", "memory.events")
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(root).join(format!("gateway-it-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let group = Self { path, events };
        // Without swap, or what is too much goes there. Not every kernel knows of it.
        let _unknown = fs::write(group.path.join("memory.swap.max"), "0");
        let file = group.path.join(limit);
        fs::write(&file, bytes.to_string()).map_err(|error| format!("{}: {error}", file.display()))?;
        // To be a member is what must be permitted as well.
        let file = group.path.join("cgroup.procs");
        fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(group)
    }

    /// The same command as a member of the group from before its first instruction.
    pub(super) fn confine(&self, command: &Command) -> Command {
        let mut confined = Command::new("sh");
        confined.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
        confined.arg(self.path.join("cgroup.procs")).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => confined.env(name, value),
                None => confined.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            confined.current_dir(directory);
        }
        confined
    }

    /// How many of its processes were killed because there was no more memory.
    pub(super) fn oom_kills(&self) -> u64 {
        let text = fs::read_to_string(self.path.join(self.events)).unwrap();
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("no oom_kill in {text}"))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let begun = Instant::now();
        while fs::remove_dir(&self.path).is_err() && begun.elapsed() < REMOVED_WITHIN {
            std::thread::yield_now();
        }
    }
}
