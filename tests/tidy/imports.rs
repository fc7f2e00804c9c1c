//! What may import what: the layers of ARCHITECTURE.md as a table. Between crates the compiler holds it.

use super::paths::paths;
use super::source::{Report, Source, root};

/// Each crate below `crates/`, and what it is.
const CRATES: &[(&str, &str)] = &[
    ("wire", "frames, packets, headers, dialects, close reasons, messages: bytes in, values out"),
    (
        "net",
        "what both ends of a connection need: names to connections, the socket under QUIC, files, pauses",
    ),
    ("client", "the client library"),
    ("service", "the library for logic services"),
    ("messenger", "the login and chat services of `gateway dev` and `gateway logic`"),
    ("bench", "`gateway bench`: scenarios, their floors and peers, the load, the report"),
];

/// What the gateway's modules name as `crate::…` and is a part of a crate.
const OF_CRATES: &[&str] = &["congestion", "files", "resolve", "udp", "wire"];

/// Each module of `src/`, and the modules it may name besides itself.
const ALLOWED: &[(&str, &[&str])] = &[
    // `limits` names the header limits, which wire declares and enforces.
    ("limits", &["wire"]),
    ("clock", &[]),
    ("route", &["limits", "wire"]),
    ("keys", &[]),
    ("certs", &["clock", "files", "keys", "limits"]),
    ("config", &["certs", "files", "keys", "limits", "route", "wire"]),
    ("auth", &["config", "keys", "limits", "wire"]),
    ("bans", &["limits"]),
    ("owned_thread", &[]),
    ("statistics", &[]),
    ("console", &[]),
    ("monitor", &["console", "http_client", "limits", "owned_thread", "resolve", "statistics", "wire"]),
    ("jwks", &["config", "http_client", "limits", "monitor", "owned_thread", "resolve"]),
    ("live", &["auth", "config", "limits"]),
    ("packet_trace", &["limits"]),
    ("admin", &["bans", "console", "limits", "monitor", "owned_thread", "packet_trace"]),
    ("overload", &["limits", "monitor", "wire"]),
    ("timer", &[]),
    ("http_client", &["limits", "resolve"]),
    ("faults", &[]),
    ("rate_limit", &["limits"]),
    ("spans", &["http_client", "limits", "monitor", "owned_thread"]),
    ("session", &["limits", "monitor", "packet_trace", "spans", "wire"]),
    ("discovery", &["config", "http_client", "limits", "monitor", "owned_thread", "resolve", "wire"]),
    (
        "dispatch",
        &[
            "config",
            "discovery",
            "limits",
            "monitor",
            "overload",
            "packet_trace",
            "resolve",
            "route",
            "session",
            "spans",
            "timer",
            "wire",
        ],
    ),
    (
        "handler",
        &[
            "auth",
            "bans",
            "clock",
            "config",
            "dispatch",
            "jwks",
            "limits",
            "monitor",
            "overload",
            "packet_trace",
            "rate_limit",
            "route",
            "session",
            "spans",
            "wire",
        ],
    ),
    (
        "server",
        &[
            "bans",
            "config",
            "congestion",
            "dispatch",
            "faults",
            "handler",
            "limits",
            "monitor",
            "overload",
            "packet_trace",
            "rate_limit",
            "session",
            "timer",
            "udp",
            "wire",
        ],
    ),
    // What fuzzing and measurements reach; nobody names it.
    (
        "internals",
        &[
            "auth",
            "config",
            "discovery",
            "dispatch",
            "limits",
            "monitor",
            "overload",
            "route",
            "server",
            "session",
            "wire",
        ],
    ),
    // Only these name concrete types of every layer.
    ("worker", GATEWAY),
    ("gateway", GATEWAY),
    ("cli", EVERYTHING),
    ("main", EVERYTHING),
    ("lib", EVERYTHING),
];

/// What each module is, in one line: the second column of the table in ARCHITECTURE.md.
const WHAT: &[(&str, &str)] = &[
    ("limits", "bounds, with unit and reason"),
    ("clock", "whether the wall clock can be believed"),
    ("route", "the route file, checked"),
    ("keys", "files of keys: PEM, and the keys of QUIC"),
    ("certs", "development certificates, secrets, keys; what clients would say of a chain"),
    ("config", "the file a person writes, and the checked type the gateway runs with"),
    ("auth", "a token becomes claims, or is refused"),
    ("bans", "who may not come: accounts, apps, addresses"),
    ("owned_thread", "a thread with an owner, for what load on the workers must not starve"),
    ("statistics", "who is active and how much, in bounded memory"),
    ("console", "the page that shows a gateway: its files, and what a browser may load with it"),
    ("monitor", "counters, readiness, HTTP, events"),
    (
        "admin",
        "the administrator's API: HTTP on a Unix socket and over TCP, its types, and what workers are asked",
    ),
    ("jwks", "keys of tokens that are fetched"),
    ("live", "what may change while a gateway runs, and how workers learn of it"),
    ("overload", "how overloaded the process is, and what the workers are told of it"),
    ("timer", "one timer for all deadlines of a connection or a link"),
    ("http_client", "one HTTP request"),
    ("faults", "faults on demand, for tests"),
    ("packet_trace", "what the administrator watches of one account"),
    ("spans", "what is recorded for a collector: spans, and the thread that takes them there"),
    ("rate_limit", "how often somebody may come"),
    ("session", "channels, outgoing queues, pending requests, sign-outs"),
    ("discovery", "where instances come from"),
    ("dispatch", "selector, services, dialer, links"),
    ("handler", "what a packet means"),
    ("server", "listeners, the driver, transports"),
    ("internals", "what fuzzing and measurements reach, with a feature of its own"),
    ("worker", "one core's gateway"),
    ("gateway", "the whole of it"),
    ("cli", "arguments, environment, output"),
    ("main", "exit codes"),
    ("lib", "the list of modules"),
];

/// The table of crates in ARCHITECTURE.md.
pub fn crate_table() -> String {
    let mut table = "| crate | what it is | depends on |\n|---|---|---|\n".to_owned();
    for (name, what) in CRATES {
        let manifest = root().join("crates").join(name).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).expect("each crate has a manifest");
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        let own: Vec<_> = dependencies
            .lines()
            .filter_map(|line| line.strip_prefix("gateway-")?.split(['.', ' ']).next())
            .collect();
        let own = if own.is_empty() { "–".to_owned() } else { own.join(", ") };
        table += &format!("| `crates/{name}` | {what} | {own} |\n");
    }
    table
}

/// The table of modules in ARCHITECTURE.md.
pub fn table() -> String {
    let mut table = "| module | what it is | may use |\n|---|---|---|\n".to_owned();
    for (module, allowed) in ALLOWED {
        let what =
            WHAT.iter().find(|(name, _)| name == module).map_or("not said in tests/tidy", |(_, what)| what);
        let uses = match *allowed {
            [] => "–".to_owned(),
            all if all == EVERYTHING => "everything".to_owned(),
            all if all == GATEWAY => "all of the gateway".to_owned(),
            some => some.join(", "),
        };
        table += &format!("| `{module}` | {what} | {uses} |\n");
    }
    table
}

const GATEWAY: &[&str] = &[
    "admin",
    "auth",
    "bans",
    "clock",
    "config",
    "discovery",
    "dispatch",
    "faults",
    "files",
    "handler",
    "http_client",
    "jwks",
    "keys",
    "limits",
    "live",
    "monitor",
    "overload",
    "packet_trace",
    "rate_limit",
    "resolve",
    "route",
    "server",
    "session",
    "spans",
    "statistics",
    "wire",
    "worker",
];

const EVERYTHING: &[&str] = &[
    "admin",
    "auth",
    "bans",
    "certs",
    "cli",
    "clock",
    "config",
    "discovery",
    "dispatch",
    "faults",
    "files",
    "gateway",
    "handler",
    "http_client",
    "keys",
    "limits",
    "live",
    "monitor",
    "overload",
    "packet_trace",
    "rate_limit",
    "resolve",
    "route",
    "server",
    "session",
    "spans",
    "wire",
    "worker",
];

/// Paths that a part of the tree must not name, whatever crate they belong to.
const FORBIDDEN: &[(&[&str], &[&str], &str)] = &[
    (
        &["wire", "limits"],
        &["tokio", "quinn", "quinn_proto", "tracing", "std::net", "std::io", "std::fs", "std::thread"],
        "bytes in, values out: no I/O and no log",
    ),
    (
        &[
            "wire",
            "limits",
            "auth",
            "handler",
            "dispatch::health",
            "dispatch::selector",
            "monitor::loop_lag",
            "overload::level",
            "rate_limit",
            "net::resolve::names",
            "session::pending",
        ],
        &["Instant::now", "tokio::spawn", "tokio::task", "tokio::time"],
        "a pure core: time is passed in, nothing is started",
    ),
    (
        // Not auth: it also makes tokens for tools, which begin now.
        &["wire", "limits", "handler", "dispatch::health", "dispatch::selector", "session::pending"],
        &["SystemTime::now"],
        "a pure core: time is passed in",
    ),
    (
        &[
            "dispatch",
            "gateway",
            "server::admission",
            "server::access_log",
            "server::connection::ending",
            "server::connection::reading",
            "server::connection::timing",
            "server::connection::writing",
            "server::quic",
            "server::quic_transport",
            "server::rate",
            "server::tcp",
            "server::tcp_transport",
            "server::tls_handshake",
            "server::websocket",
            "session",
            "timer",
            "worker::drain",
        ],
        &["std::time::SystemTime", "SystemTime::now"],
        "F7: nothing but a token's time and the first channel id may depend on a clock that can be set",
    ),
    (&["session"], &["quinn", "quinn_proto", "tokio::net"], "channels know no sockets"),
    (
        &["dispatch::selector"],
        &["tokio", "crate::session", "crate::dispatch", "crate::monitor"],
        "the selector sees only ids, zones and keys",
    ),
    (&["handler"], &["quinn", "quinn_proto", "tokio::net", "tokio::io", "std::io"], "decisions, not I/O"),
    (
        &["server::quic"],
        &["crate::server::tcp", "crate::auth", "crate::dispatch"],
        "transports know neither each other nor identity nor dispatch",
    ),
    (
        &["server::tcp", "server::websocket"],
        &["crate::server::quic", "crate::auth", "crate::dispatch", "quinn", "quinn_proto"],
        "transports know neither each other nor identity nor dispatch",
    ),
];

/// A place in bytes that are in memory is no I/O, whatever module it stands in.
const NO_IO: &str = "std::io::Cursor";

/// What only `main` and `cli` may name.
const ONLY_CLI: &[(&str, &str)] = &[
    ("anyhow", "typed errors beside the code that fails"),
    ("clap", "arguments are read in cli"),
    ("std::env", "the environment is read by cli, or by config through its provider"),
    ("std::process::exit", "only main ends the process"),
    ("process::exit", "only main ends the process"),
];

/// Checks every path of every source against the tables above.
pub fn check(sources: &[Source]) -> Report {
    let mut report = Report::default();
    for source in sources {
        let module = source.module();
        let name = if source.path == "src/lib.rs" { "lib" } else { module.first().copied().unwrap_or("lib") };
        if let Some(name) = source.in_crate() {
            if !CRATES.iter().any(|(known, _)| *known == name) {
                let problem = format!("{}: crate {name} is not in the table of tests/tidy", source.path);
                report.violations.push(problem);
            }
            for path in paths(source) {
                report.examined += 1;
                forbidden(source, &module, name, &path, &mut report);
            }
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            report
                .violations
                .push(format!("{}: module {name} is not in the table of tests/tidy", source.path));
            continue;
        };
        for path in paths(source) {
            report.examined += 1;
            let target = path.strip_prefix("crate::").and_then(|rest| rest.split("::").next());
            if let Some(target) = target.filter(|target| is_module(target) && *target != name)
                && !allowed.contains(&target)
            {
                report.violations.push(format!("{}: {name} must not import {target} ({path})", source.path));
            }
            forbidden(source, &module, name, &path, &mut report);
        }
    }
    report.violations.sort();
    report.violations.dedup();
    report
}

fn is_module(name: &str) -> bool {
    OF_CRATES.contains(&name) || ALLOWED.iter().any(|(known, _)| *known == name)
}

fn forbidden(source: &Source, module: &[&str], name: &str, path: &str, report: &mut Report) {
    let module = module.join("::");
    for (parts, banned, why) in FORBIDDEN {
        if path != NO_IO
            && parts.iter().any(|part| begins(&module, part))
            && banned.iter().any(|banned| names(path, banned))
        {
            report.violations.push(format!("{}: {path} ({why})", source.path));
        }
    }
    if !matches!(name, "cli" | "main")
        && let Some((_, why)) = ONLY_CLI.iter().find(|(banned, _)| begins(path, banned))
    {
        report.violations.push(format!("{}: {path} ({why})", source.path));
    }
}

/// Returns `true` if the path begins with these whole segments.
fn begins(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Returns `true` if it begins with them, or ends with them (`std::time::Instant::now` and `Instant::now` alike).
fn names(path: &str, banned: &str) -> bool {
    begins(path, banned)
        || (banned.ends_with("::now")
            && path.strip_suffix(banned).is_some_and(|head| head.is_empty() || head.ends_with("::")))
}
