//! The program as a person or a script meets it: output, exit codes, signals.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use gateway::wire::dialect::Dialect;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::fake_logic::FakeLogic;
use crate::support::identity;
use crate::support::raw::{Kind, Raw, Target};

mod acts;
mod admin;
mod admin_door;
mod auto;
mod bench;
mod browser;
mod chat;
#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
mod console;
mod costs;
#[cfg(target_os = "linux")]
mod floods;
#[cfg(target_os = "linux")]
mod full_disk;
mod groups;
mod health;
mod logic;
mod memory_group;
mod pressure;
mod readme;
mod reload;
#[cfg(target_os = "linux")]
mod reload_storm;
mod renewal;
mod resets;
mod restart;
mod resumption;
mod service_manager;
mod signals;
mod slow_link;
mod storms;
mod strangers;
mod trace;
mod unread;
mod web_clients;

/// Longest wait for anything a program of ours does.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is tested: the program of this build, unless `GATEWAY_PROGRAM` names another one.
fn program() -> std::ffi::OsString {
    std::env::var_os("GATEWAY_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_gateway").into())
}

/// A directory of its own for one test, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gateway-program-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn gateway(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(&self.0).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("RUST_LOG");
        command
    }

    /// `gateway chat` over one transport, whose listener is here.
    fn chat(&self, account: &str, transport: &str, server: &str) -> Command {
        let port = server.rsplit(':').next().unwrap();
        let mut chat = self.gateway(&["chat", "--account", account, "--transport", transport]);
        chat.args(["--server", server, "--tls-port", port, "--ws-port", port, "--wss-port", port]);
        chat
    }

    /// Runs to the end with this on its standard input.
    fn run(&self, arguments: &[&str], input: &str) -> (i32, String, String) {
        run(self.gateway(arguments), input)
    }
}

/// Runs to the end with this on its standard input.
fn run(mut command: Command, input: &str) -> (i32, String, String) {
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = finish(child);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

impl Drop for Place {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

/// Waits for the end of a program, not for ever.
fn finish(child: Child) -> Output {
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    wait.recv_timeout(PATIENCE)
        .unwrap_or_else(|_| {
            let _gone = kill(id, Signal::SIGKILL);
            panic!("the program did not end within {PATIENCE:?}");
        })
        .unwrap()
}

/// A running `gateway dev`.
struct Dev {
    child: Option<Child>,
    _stdout: BufReader<ChildStdout>,
    page: String,
}

impl Dev {
    fn start(place: &Place) -> Self {
        let mut command = place.gateway(&["dev", "--port", "0"]);
        // A log that nobody reads must not stop it.
        command.stderr(Stdio::null());
        Self::run(command)
    }

    /// The same by a command that ends in `gateway dev`.
    fn run(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut page = String::new();
        while !page.lines().any(|line| line.starts_with("ready")) {
            assert_ne!(stdout.read_line(&mut page).unwrap(), 0, "it ended before it was ready:\n{page}");
        }
        Self { child: Some(child), _stdout: stdout, page }
    }

    fn address(&self, what: &str) -> String {
        let start = format!("listening {what} ");
        let line = self.page.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {what} in:\n{}", self.page)).to_owned()
    }

    fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.as_ref().unwrap().id()).unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(self.id(), signal).unwrap();
    }

    fn end(mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        finish(self.child.take().unwrap()).status.code().expect("an exit code, not a signal")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

#[test]
fn alice_over_quic_and_bob_over_tcp_talk_and_sigterm_ends_it_with_0() {
    let place = Place::new();
    let dev = Dev::start(&place);
    assert!(dev.page.contains("alice lands in zone_b on chat02"), "{}", dev.page);
    assert!(dev.page.contains("bob   lands in zone_a on chat01"), "{}", dev.page);
    let (quic, tcp) = (dev.address("quic"), dev.address("tcp"));

    let bob =
        ["chat", "--account", "bob", "--transport", "tcp", "--server", &tcp, "--expect", "1", "--wait", "25"];
    let alice = ["chat", "--account", "alice", "--server", &quic, "--expect", "1", "--wait", "25"];
    let (bob, alice) = std::thread::scope(|scope| {
        let bob = scope.spawn(|| place.run(&bob, "alice hello from bob\n"));
        let alice = scope.spawn(|| place.run(&alice, "bob hello from alice\n"));
        (bob.join().unwrap(), alice.join().unwrap())
    });
    assert_eq!((bob.0, alice.0), (0, 0), "{bob:?} {alice:?}");
    assert!(bob.1.contains("message from=alice") && bob.1.contains("text=hello from alice"), "{}", bob.1);
    assert!(alice.1.contains("message from=bob") && alice.1.contains("text=hello from bob"), "{}", alice.1);
    assert!(alice.1.contains("stored to=bob id="), "{}", alice.1);

    // Carol is there over each of the others.
    for transport in ["tls", "ws", "wss"] {
        let server = dev.address(transport);
        let mut carol = place.chat("carol", transport, &server);
        carol.args(["--to", "carol", "--expect", "1"]);
        let carol = run(carol, "a note to myself\n");
        assert_eq!(carol.0, 0, "{carol:?}");
        assert!(carol.1.contains(&format!("transport={transport} server={server}")), "{}", carol.1);
    }

    // What bob missed while away is shown when he comes.
    let sent = place.run(&["chat", "--account", "alice", "--server", &quic, "--to", "bob"], "while away\n");
    assert_eq!(sent.0, 0, "{sent:?}");
    let bob = ["chat", "--account", "bob", "--transport", "tcp", "--server", &tcp, "--expect", "1"];
    let missed = place.run(&bob, "");
    assert_eq!(missed.0, 0, "{missed:?}");
    assert!(missed.1.contains("via=offline text=while away"), "{}", missed.1);
    assert_eq!(dev.end(), 0);
}

#[test]
fn chat_says_by_its_exit_code_what_went_wrong() {
    let place = Place::new();
    let dev = Dev::start(&place);
    let quic = dev.address("quic");
    let chat = |more: &[&str], input| {
        let mut arguments = vec!["chat", "--account", "alice"];
        arguments.extend(more);
        place.run(&arguments, input)
    };
    for transport in ["quic", "tcp", "tls", "ws", "wss"] {
        let mut refused = place.chat("alice", transport, &dev.address(transport));
        refused.args(["--token", "no.such.token"]);
        let refused = run(refused, "");
        assert_eq!(refused.0, 2, "{refused:?}");
        assert!(refused.2.contains("105"), "{}", refused.2);
    }
    for file in ["--ca", "--secret-file"] {
        let unreadable = chat(&["--server", &quic, file, "nothing-here"], "");
        assert_eq!(unreadable.0, 1, "{unreadable:?}");
        assert!(unreadable.2.contains("nothing-here"), "{}", unreadable.2);
    }
    let unmet = chat(&["--server", &quic, "--expect", "1", "--wait", "0"], "");
    assert_eq!(unmet.0, 1, "{unmet:?}");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let nobody = chat(&["--transport", "tcp", "--server", &free], "");
    assert_eq!(nobody.0, 3, "{nobody:?}");
    assert!(nobody.2.contains("is the gateway running there?"), "{}", nobody.2);
}

#[test]
fn a_closed_standard_output_ends_a_chat_quietly() {
    let place = Place::new();
    let dev = Dev::start(&place);
    let quic = dev.address("quic");
    let mut child = place.gateway(&["chat", "--account", "alice", "--server", &quic]).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("online account=alice"), "{first}");
    // The reader is gone now; the next event cannot be written.
    child.stdin.as_mut().unwrap().write_all(b"bob hello\n").unwrap();
    let output = finish(child);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked") && !stderr.contains("roken pipe"), "{stderr}");
}

#[test]
fn a_taken_port_names_itself_and_the_way_out() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    // Ports whose neighbours are out of range are refused by name as well, but not by this message.
    let port = if port > 64_000 { 64_000 } else { port };
    let _taken_too = TcpListener::bind(("127.0.0.1", port));
    let (code, _, stderr) = place.run(&["dev", "--port", &port.to_string()], "");
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&format!(":{port}")) && stderr.contains("tcp.listen"), "{stderr}");
    assert!(stderr.contains("in use") && stderr.contains("--port"), "{stderr}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("error:")).count(), 1, "{stderr}");
}

#[test]
fn a_bad_configuration_ends_with_64_and_one_line() {
    let place = Place::new();
    fs::write(place.0.join("route.json"), r#"{"zones": [{"id": "zone_a", "weight": 1}]}"#).unwrap();
    let route = "[route]\nfile = \"route.json\"\n";
    for (text, says) in [
        ("[gateway]\nidd = \"gate01\"\n", "idd"),
        ("[gateway]\nid = \"gate01\"\n[limits]\nmax_frame = \"big\"\n", "max_frame"),
        ("[gateway]\nid = \"gate01\"\n[tcp]\nlisten = \"127.0.0.1:0\"\n", "gateway certs"),
    ] {
        fs::write(place.0.join("bad.toml"), format!("{text}{route}")).unwrap();
        let (code, _, stderr) = place.run(&["serve", "--config", "bad.toml"], "");
        assert_eq!(code, 64, "{stderr}");
        assert!(stderr.contains(says), "{says}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

/// A gateway without one of its workers must not look alive.
#[cfg(feature = "faults")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_panics_ends_the_process_with_1() {
    let (place, _login, _chat, config) = restart::home();
    // Only on a worker that is linked does a sign-in come so far.
    let mut serve = restart::Serve::start(&place, &config, 2, &[]).await;
    let mut client = Raw::connect(Kind::Tcp, &serve.target()).await;
    client.signin(&identity::token(gateway::faults::PANIC_WORKER)).await;
    serve.line("event=\"worker_failed\"").await;
    serve.line("orderly=false").await;
    assert_eq!(serve.end().await, Some(1));
}

/// A configuration file for these two services, with the secret of the tests' tokens.
fn serve_config(place: &Place, login: SocketAddr, chat: SocketAddr) -> String {
    fs::write(place.0.join("route.json"), r#"{"zones": [{"id": "zone_a", "weight": 1}]}"#).unwrap();
    fs::write(place.0.join("jwt.secret"), identity::SECRET).unwrap();
    let mut text = String::from(
        "[gateway]\nid = \"gate01\"\n[quic]\nlisten = []\n[tcp]\nlisten = \"127.0.0.1:0\"\n\
         [auth]\nsecret_file = \"jwt.secret\"\n[route]\nfile = \"route.json\"\n[monitor]\nlisten = \"127.0.0.1:0\"\n",
    );
    for (service, address) in [("login", login), ("chat", chat)] {
        let instance = format!("service = \"{service}\"\nid = \"{service}01\"\naddress = \"{address}\"\n");
        text.push_str(&format!("[[discovery.instances]]\n{instance}zone = \"zone_a\"\n"));
    }
    fs::write(place.0.join("gateway.toml"), text).unwrap();
    "gateway.toml".to_owned()
}

/// Returns `true` if this line of the log says that an instance is linked.
fn is_linked(line: &str) -> bool {
    let came_up = line.contains("event=\"link_state\"") && line.contains("from=\"dialling\"");
    came_up && (line.contains("to=\"healthy\"") || line.contains("to=\"warming\""))
}

/// Reads the log until the gateway listens and both services are linked; returns the TCP address.
fn started(log: &mut impl std::io::BufRead) -> SocketAddr {
    let (mut tcp, mut links, mut seen) = (None, 0, String::new());
    while tcp.is_none() || links < 2 {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it was ready:\n{seen}");
        links += usize::from(is_linked(&line));
        if line.contains("what=\"tcp\"") {
            let address = line.trim_end().rsplit("address=").next().unwrap();
            tcp = Some(address.parse().unwrap());
        }
        seen.push_str(&line);
    }
    tcp.unwrap()
}
