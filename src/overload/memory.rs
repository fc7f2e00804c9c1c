//! How much memory there is for the process, and how much it has. Both are Linux's to say; elsewhere the budget is
//! assumed and resident memory is not watched.

use std::fmt;
use std::fs;

use super::level::Budget;
use crate::limits::{KIB, Limits};

/// Share of the cgroup's limit or of the machine's memory that is used, percent.
const MEMORY_SHARE: u64 = 80;

/// Share of the budget that may wait to be written to clients, percent.
const QUEUED_SHARE: u64 = 25;

/// Share of the budget that those who have not signed in may use, percent.
const BEFORE_LOGIN_SHARE: u64 = 10;

/// Taken where nobody says how much memory there is, bytes.
const ASSUMED: u64 = 1 << 30;

/// More than the allocator keeps for itself when it is freed, bytes.
const PURGING: usize = 64 * 1024 * KIB;

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Reads a small file; none if that is not possible.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where the memory budget comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BudgetSource {
    Configured,
    Cgroup,
    Machine,
    Assumed,
}

/// What may be used, and why so much. Displayed it is a line for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// What may be used.
    pub budget: Budget,
    /// What those who have not signed in may use of it, bytes.
    pub before_login: u64,
    source: BudgetSource,
    queued_is_configured: bool,
    before_login_is_configured: bool,
}

impl MemoryBudget {
    /// The budget of `limits.memory`, `limits.queued_bytes` and `limits.before_login_bytes`; what is 0 there follows from this machine as it is now.
    pub fn of(limits: &Limits) -> Self {
        Self::from(limits, &|path| fs::read_to_string(path).ok())
    }

    fn from(limits: &Limits, read: Read<'_>) -> Self {
        let (memory, source) = match limits.memory {
            0 => available(read),
            configured => (configured as u64, BudgetSource::Configured),
        };
        let queued_is_configured = limits.queued_bytes != 0;
        let queued =
            if queued_is_configured { limits.queued_bytes as u64 } else { percent(memory, QUEUED_SHARE) };
        let before_login_is_configured = limits.before_login_bytes != 0;
        let before_login = match limits.before_login_bytes {
            0 => percent(memory, BEFORE_LOGIN_SHARE),
            configured => configured as u64,
        };
        let budget = Budget { memory, queued };
        Self { budget, before_login, source, queued_is_configured, before_login_is_configured }
    }
}

impl fmt::Display for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { memory, queued } = self.budget;
        let source = match self.source {
            BudgetSource::Configured => "as configured".to_owned(),
            BudgetSource::Cgroup => format!("{MEMORY_SHARE} % of the cgroup's limit"),
            BudgetSource::Machine => format!("{MEMORY_SHARE} % of the machine's memory"),
            BudgetSource::Assumed => "assumed, the system does not say how much there is".to_owned(),
        };
        let share = |is_configured, share| match is_configured {
            true => "as configured".to_owned(),
            false => format!("{share} % of it"),
        };
        let of_queues = share(self.queued_is_configured, QUEUED_SHARE);
        let of_newcomers = share(self.before_login_is_configured, BEFORE_LOGIN_SHARE);
        let before_login = self.before_login;
        write!(
            f,
            "limits.memory is {memory} ({source}), limits.queued_bytes is {queued} ({of_queues}), \
             limits.before_login_bytes is {before_login} ({of_newcomers})"
        )
    }
}

/// Bytes the process has in memory now; none where the system does not tell.
pub(super) fn resident() -> Option<u64> {
    kib_field(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Has the allocator give back what was freed a while ago. It does so only when a large part of it is freed, and for all
/// threads: a worker with little to do would keep what it had in its worst moment. The part is never touched, so it costs
/// no memory.
pub(super) fn purge() {
    let mut part = Vec::<u8>::new();
    // Where there is no room for it there is nothing to be done.
    let _refused = part.try_reserve_exact(PURGING);
    drop(std::hint::black_box(part));
}

fn available(read: Read<'_>) -> (u64, BudgetSource) {
    let machine = read("/proc/meminfo").and_then(|text| kib_field(&text, "MemTotal:"));
    let cgroup = read("/proc/self/cgroup").and_then(|text| cgroup_limit(&text, read));
    match (cgroup, machine) {
        // A cgroup without a limit says a number beyond all memory, or nothing.
        (Some(limit), Some(machine)) if limit < machine => {
            (percent(limit, MEMORY_SHARE), BudgetSource::Cgroup)
        }
        (_, Some(machine)) => (percent(machine, MEMORY_SHARE), BudgetSource::Machine),
        (Some(limit), None) => (percent(limit, MEMORY_SHARE), BudgetSource::Cgroup),
        (None, None) => (ASSUMED, BudgetSource::Assumed),
    }
}

/// The least limit of the process's cgroup and of those above it. Within a container they are mounted so that only the
/// topmost may be there.
fn cgroup_limit(memberships: &str, read: Read<'_>) -> Option<u64> {
    let limits = memberships.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next().unwrap_or_default();
        let group = fields.next().unwrap_or_default().trim_end_matches('/');
        let (root, file) = match controllers {
            "" => (CGROUPS.to_owned(), "memory.max"),
            v1 if v1.split(',').any(|name| name == "memory") => {
                (format!("{CGROUPS}/memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let ends = group.match_indices('/').map(|(at, _)| at).chain([group.len()]);
        let limit = |end: usize| read(&format!("{root}{}/{file}", &group[..end]))?.trim().parse().ok();
        ends.filter_map(limit).collect::<Vec<u64>>()
    });
    limits.min()
}

/// The value of a line such as `MemTotal:  16384 kB`, bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(KIB as u64)
}

const fn percent(of: u64, percent: u64) -> u64 {
    of / 100 * percent + of % 100 * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:        1000 kB\nMemFree:          500 kB\n";

    fn budget(limits: &Limits, files: &[(&str, &str)]) -> MemoryBudget {
        let read =
            |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
        MemoryBudget::from(limits, &read)
    }

    fn found(files: &[(&str, &str)]) -> (u64, BudgetSource) {
        let found = budget(&Limits::default(), files);
        assert_eq!(found.budget.queued, found.budget.memory / 4);
        (found.budget.memory, found.source)
    }

    #[test]
    fn f11_the_cgroup_limit_counts_before_the_memory_of_the_machine() {
        let proc = |cgroup| [("/proc/meminfo", MEMINFO), ("/proc/self/cgroup", cgroup)];
        let with = |cgroup, path, text| found(&[&proc(cgroup)[..], &[(path, text)]].concat());
        let machine = (819_200, BudgetSource::Machine);
        assert_eq!(found(&[("/proc/meminfo", MEMINFO)]), machine);
        assert_eq!(found(&proc("0::/\n")), machine);
        for (cgroup, path, text, expected) in [
            ("0::/\n", "/sys/fs/cgroup/memory.max", "max\n", machine),
            ("0::/\n", "/sys/fs/cgroup/memory.max", "1000\n", (800, BudgetSource::Cgroup)),
            ("0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max", "1000\n", (800, BudgetSource::Cgroup)),
            ("0::/a/b\n", "/sys/fs/cgroup/a/memory.max", "1000\n", (800, BudgetSource::Cgroup)),
            ("0::/a/b\n", "/sys/fs/cgroup/memory.max", "1000\n", (800, BudgetSource::Cgroup)),
            ("0::/a\n", "/sys/fs/cgroup/b/memory.max", "1000\n", machine),
            (
                "4:memory:/x\n0::/\n",
                "/sys/fs/cgroup/memory/x/memory.limit_in_bytes",
                "2000\n",
                (1_600, BudgetSource::Cgroup),
            ),
            (
                "4:cpu,memory:/x\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "2000\n",
                (1_600, BudgetSource::Cgroup),
            ),
            ("4:memory:/\n", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n", machine),
            ("4:cpu:/x\n", "/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "2000\n", machine),
        ] {
            assert_eq!(with(cgroup, path, text), expected, "{cgroup:?} {path}");
        }
    }

    #[test]
    fn f11_the_least_of_nested_limits_counts() {
        let files = [
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/memory.max", "500\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "1000\n"),
        ];
        assert_eq!(found(&files), (400, BudgetSource::Cgroup));
        assert_eq!(found(&files[1..]), (400, BudgetSource::Cgroup), "without the machine's word");
    }

    /// On a tree of files, as a machine with cgroup v2 alone has it: the topmost cgroup has no limit of its own, a
    /// container sees another part of the tree than its name says, and a cgroup may leave memory to the one above.
    #[test]
    fn f11_h11_the_tree_of_cgroup_v2_is_read_as_it_is() {
        let tree = std::env::temp_dir().join(format!("gateway-cgroups-{}", std::process::id()));
        let machine = (819_200, BudgetSource::Machine);
        let cgroup = |limit: u64| (limit * 8 / 10, BudgetSource::Cgroup);
        for (group, limits, expected) in [
            ("/", &[][..], machine),
            ("/", &[("", "5000\n")], cgroup(5_000)),
            ("/a/b/c", &[("a/b/c", "5000\n")], cgroup(5_000)),
            ("/a/b/c", &[("a", "7000\n"), ("a/b", "5000\n"), ("a/b/c", "6000\n")], cgroup(5_000)),
            ("/a/b/c", &[("a", "max\n"), ("a/b", "5000\n"), ("a/b/c", "max\n")], cgroup(5_000)),
            ("/a/b/c", &[("a", "5000\n"), ("a/b/c", "6000\n")], cgroup(5_000)),
            ("/a/b/c", &[("a", "max\n"), ("a/b", "max\n"), ("a/b/c", "max\n")], machine),
            ("/a/b/c", &[("a/other", "5000\n"), ("a/b/c/d", "5000\n")], machine),
            ("/a/b/c", &[("a", "\n"), ("a/b", "lots\n"), ("a/b/c", "-1\n")], machine),
            ("/a/b/c", &[("a", "2048000\n")], machine),
            ("/../other/pod", &[("", "5000\n")], cgroup(5_000)),
            ("/a:b", &[("a:b", "5000")], cgroup(5_000)),
            ("/a (deleted)", &[("", "5000\n")], cgroup(5_000)),
        ] {
            let put = |path: &str, text: &str| {
                let path = tree.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            };
            put("proc/meminfo", MEMINFO);
            put("proc/self/cgroup", &format!("0::{group}\n"));
            for (cgroup, limit) in limits {
                put(&format!("sys/fs/cgroup/{cgroup}/memory.max"), limit);
            }
            let read = |path: &str| fs::read_to_string(tree.join(path.strip_prefix('/')?)).ok();
            let found = MemoryBudget::from(&Limits::default(), &read);
            fs::remove_dir_all(&tree).unwrap();
            assert_eq!((found.budget.memory, found.source), expected, "{group} {limits:?}");
        }
    }

    #[test]
    fn without_anybodys_word_something_is_assumed_and_said() {
        let assumed = budget(&Limits::default(), &[]);
        assert_eq!(assumed.budget, Budget { memory: ASSUMED, queued: ASSUMED / 4 });
        assert_eq!(
            assumed.to_string(),
            "limits.memory is 1073741824 (assumed, the system does not say how much there is), limits.queued_bytes is \
             268435456 (25 % of it), limits.before_login_bytes is 107374182 (10 % of it)"
        );
        assert_eq!(found(&[("/proc/meminfo", "MemTotal: lots\n")]).1, BudgetSource::Assumed);
    }

    #[test]
    fn what_is_configured_stands() {
        let limits = Limits { memory: 1_000, queued_bytes: 10, before_login_bytes: 20, ..Limits::default() };
        let configured = budget(&limits, &[("/proc/meminfo", MEMINFO)]);
        assert_eq!(configured.budget, Budget { memory: 1_000, queued: 10 });
        assert_eq!(
            configured.to_string(),
            "limits.memory is 1000 (as configured), limits.queued_bytes is 10 (as configured), \
             limits.before_login_bytes is 20 (as configured)"
        );
        let limits = Limits { memory: 1_000, ..Limits::default() };
        let shares = budget(&limits, &[]);
        assert_eq!((shares.budget.queued, shares.before_login), (250, 100));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_says_how_much_there_is_and_how_much_this_test_has() {
        let budget = MemoryBudget::of(&Limits::default());
        assert_ne!(budget.source, BudgetSource::Assumed);
        let resident = resident().unwrap();
        assert!(resident > 1 << 20 && resident < budget.budget.memory, "{resident} of {budget}");
    }
}
