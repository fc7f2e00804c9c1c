//! A gateway that can open no connection to a logic service, for want of files or of local ports (row F14). What is used
//! up here would be missing in every other test, so these run themselves once more in a process of their own; where that
//! takes what is not permitted they say so and pass.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gateway::config::Config;
use gateway::discovery::Snapshot;
use gateway::gateway::{Gateway, Parts};
use gateway::wire::dialect::Dialect;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rstest::rstest;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::support::fake_logic::FakeLogic;
use crate::support::{PATIENCE, harness, soon};

/// Set in the process of its own.
const WITHIN: &str = "GATEWAY_TEST_WITHIN";

/// How long nothing can be opened. At the default back-off a link is dialled five times at most meanwhile.
const OUTAGE: Duration = Duration::from_secs(2);

/// The local ports a connection may have.
const PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    Files,
    Ports,
}

impl Lack {
    /// In a network of its own if it takes one.
    fn command(self, arguments: &[&str]) -> Command {
        let mut command = match self {
            Self::Files => Command::new(arguments[0]),
            Self::Ports => Command::new("unshare"),
        };
        match self {
            Self::Files => command.args(&arguments[1..]),
            Self::Ports => {
                let prepare = format!("ip link set lo up && test -w {PORTS} && exec \"$@\"");
                command
                    .args(["--user", "--map-root-user", "--net", "sh", "-c", &prepare, "sh"])
                    .args(arguments)
            }
        };
        command.stdin(Stdio::null());
        command
    }

    /// Nothing can be opened until the returned function is called.
    fn begin(self) -> Box<dyn FnOnce()> {
        match self {
            Self::Files => {
                let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
                let is_free = |n: &u64| !Path::new(&format!("/proc/self/fd/{n}")).exists();
                let free = (0..soft).find(is_free).unwrap();
                setrlimit(Resource::RLIMIT_NOFILE, free, hard).unwrap();
                Box::new(move || setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap())
            }
            Self::Ports => {
                let usual = fs::read_to_string(PORTS).unwrap();
                fs::write(PORTS, "50000 50000").unwrap();
                Box::new(move || fs::write(PORTS, usual).unwrap())
            }
        }
    }
}

/// True within the process of its own. Outside it runs the test there and checks its outcome.
async fn is_within(lack: Lack, test: &str) -> bool {
    if std::env::var_os(WITHIN).is_some() {
        return true;
    }
    let permitted = run(lack.command(&["true"])).await;
    if !permitted.is_ok_and(|output| output.status.success()) {
        println!("skipped: no network namespaces here");
        return false;
    }
    let program = std::env::current_exe().unwrap();
    let mut command = lack.command(&[program.to_str().unwrap(), test, "--exact", "--nocapture"]);
    command.env(WITHIN, "1");
    let output = run(command).await.unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// Runs a program to its end without holding up the test's runtime.
async fn run(mut command: Command) -> std::io::Result<Output> {
    soon("the end of a program", tokio::task::spawn_blocking(move || command.output())).await.unwrap()
}

/// The value of a series.
fn value(gateway: &Gateway, series: &str) -> f64 {
    let text = gateway.metrics().render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

const FAILED: &str = r#"gateway_link_transitions_total{to="broken"}"#;

/// Two workers dial one login and one chat service: with one local port, one of them gets each.
#[rstest]
#[case::files(Lack::Files, 4.0)]
#[case::ports(Lack::Ports, 2.0)]
#[tokio::test]
async fn f14_failed_dials_are_counted_and_paced_and_links_come_up_when_there_is_room_again(
    #[case] lack: Lack,
    #[case] failing: f64,
) {
    let number = if lack == Lack::Files { "1_files" } else { "2_ports" };
    let name = "f14_failed_dials_are_counted_and_paced_and_links_come_up_when_there_is_room_again";
    if !is_within(lack, &format!("exhaustion::{name}::case_{number}")).await {
        return;
    }
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    let source = watch::Sender::new(Arc::new(Snapshot::default()));
    let mut config = Config { workers: 2, ..harness::config() };
    let instances = vec![
        harness::instance("chat", "chat01", chat.address, Dialect::XIm),
        harness::instance("login", "login01", login.address, Dialect::XIm),
    ];
    config.instances = instances.clone();
    let parts = Parts { feed: Some(source.subscribe()), ..Parts::default() };
    let gateway = Gateway::start_with(config, parts).unwrap();
    soon("both workers", async {
        while gateway.readiness().verdict(std::time::Instant::now()).reasons().len() != 2 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    let end = lack.begin();
    let began = Instant::now();
    source.send_replace(Arc::new(Snapshot { instances }));
    while began.elapsed() < OUTAGE {
        sleep(Duration::from_millis(20)).await;
    }
    let failed = value(&gateway, FAILED);
    assert!(failed >= failing * 2.0, "each of them was tried again: {failed}");
    assert!(failed <= failing * 6.0, "{failed} dials in {:?}: a storm", began.elapsed());
    assert!(!gateway.readiness().verdict(std::time::Instant::now()).is_ready());
    end();
    soon("the links", async {
        while !gateway.readiness().verdict(std::time::Instant::now()).is_ready() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(began.elapsed() < OUTAGE + PATIENCE / 2, "within the longest pause");
    println!("{failed} dials failed");
}
