//! `gateway logic` and `gateway serve` as processes of their own: the separate processes of docs/operations.md.

use std::io::Read;
use std::time::Instant;

use super::*;

/// What docs/operations.md starts, on any free ports.
const SHOWN_SERVES: [&str; 3] =
    ["login@zone_a=127.0.0.1:0", "chat@zone_a=127.0.0.1:0", "chat@zone_b=127.0.0.1:0"];

/// A running program, one of whose outputs is read line by line.
pub(super) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// What was read, for messages.
    seen: String,
}

impl Running {
    /// Reads standard error, where a log goes; standard output is let go.
    pub(super) fn by_log(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let lines = lines_of(child.stderr.take().unwrap());
        Self { child, lines, seen: String::new() }
    }

    /// Reads standard output, where pages and events go; standard error is let go.
    fn by_output(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        Self { child, lines, seen: String::new() }
    }

    /// The first line that holds this text, whether or not it was read already.
    #[track_caller]
    pub(super) fn line(&mut self, text: &str) -> String {
        let read = self.seen.lines().find(|line| line.contains(text)).map(str::to_owned);
        read.unwrap_or_else(|| self.await_line(text))
    }

    /// The next line that holds this text.
    #[track_caller]
    pub(super) fn await_line(&mut self, text: &str) -> String {
        // A program that goes on writing does not make up for the line that is missing.
        let end = Instant::now() + PATIENCE * 2;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(PATIENCE)) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no {text:?} ({error}) in:\n{}", self.seen),
            }
        }
    }

    fn write(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// The exit code, of a program that ends by itself.
    pub(super) fn code(mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        let by = Instant::now() + PATIENCE;
        // Its output ends when it does.
        while self.lines.recv_timeout(by.saturating_duration_since(Instant::now())).is_ok() {}
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn lines_of(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (lines, read) = mpsc::channel();
    std::thread::spawn(move || {
        // To its end, even when nobody listens any more: a full pipe would stop the program.
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _nobody = lines.send(line);
        }
    });
    read
}

/// An instance as the start page names it.
#[derive(Debug, Clone, PartialEq)]
struct LogicInstance {
    service: String,
    id: String,
    zone: String,
    address: String,
}

impl LogicInstance {
    /// From `listening chat chat01 in zone_a at 127.0.0.1:9002`.
    fn from_page(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let ["listening", service, id, "in", zone, "at", address] = words[..] else { panic!("{line}") };
        let [service, id, zone, address] = [service, id, zone, address].map(str::to_owned);
        Self { service, id, zone, address }
    }

    fn serve(&self) -> String {
        format!("{}@{}={}", self.service, self.zone, self.address)
    }
}

/// Starts `gateway logic` and reads its page.
fn start_logic(place: &Place, serve: &[impl AsRef<str>]) -> (Running, Vec<LogicInstance>) {
    let mut arguments = vec!["logic"];
    arguments.extend(serve.iter().flat_map(|listener| ["--serve", listener.as_ref()]));
    let mut logic = Running::by_output(place.gateway(&arguments));
    let found = serve.iter().map(|_| LogicInstance::from_page(&logic.await_line("listening "))).collect();
    logic.await_line("ready");
    (logic, found)
}

/// A place with the configuration that is shipped, and the files it needs.
fn shipped() -> Place {
    let place = Place::new();
    fs::create_dir(place.0.join("config")).unwrap();
    for file in ["config/gateway.toml", "config/route.json"] {
        let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        fs::copy(from, place.0.join(file)).unwrap();
    }
    let (code, _, stderr) = place.run(&["certs"], "");
    assert_eq!(code, 0, "{stderr}");
    place
}

/// `gateway serve` with the shipped file, on free ports, for these instances.
fn serve_command(place: &Place, id: &str, instances: &[LogicInstance]) -> Command {
    let as_json = |LogicInstance { service, id, zone, address }: &LogicInstance| serde_json::json!({ "service": service, "id": id, "zone": zone, "address": address });
    let list: serde_json::Value = instances.iter().map(as_json).collect();
    let mut command = place.gateway(&["serve"]);
    command.env("GATEWAY__GATEWAY__ID", id);
    command.env("GATEWAY__DISCOVERY__INSTANCES", list.to_string());
    for setting in [
        "QUIC__LISTEN",
        "TCP__LISTEN",
        "TCP__TLS_LISTEN",
        "WEBSOCKET__LISTEN",
        "WEBSOCKET__TLS_LISTEN",
        "MONITOR__LISTEN",
    ] {
        command.env(format!("GATEWAY__{setting}"), "127.0.0.1:0");
    }
    command
}

/// Starts it and waits until all are linked. Its addresses are those of QUIC, TCP and the monitor.
fn serve(place: &Place, id: &str, instances: &[LogicInstance]) -> (Running, [String; 3]) {
    let command = serve_command(place, id, instances);
    let mut gateway = Running::by_log(command);
    let mut addresses = ["quic", "tcp", "monitor"].map(|what| Some(format!("what=\"{what}\"")));
    let mut found = [const { String::new() }; 3];
    let mut links = instances.len();
    while links > 0 || addresses.iter().any(Option::is_some) {
        let line = gateway.await_line("event=");
        links -= usize::from(is_linked(&line));
        for (wanted, address) in addresses.iter_mut().zip(&mut found) {
            if wanted.as_ref().is_some_and(|wanted| line.contains(wanted)) {
                *wanted = None;
                *address = line.rsplit("address=").next().unwrap().to_owned();
            }
        }
    }
    (gateway, found)
}

/// A chat that stays until its input ends; it is signed in.
fn chat(place: &Place, account: &str, server: &str, more: &[&str]) -> Running {
    let mut arguments = vec!["chat", "--account", account, "--server", server];
    arguments.extend(more);
    let mut chat = Running::by_output(place.gateway(&arguments));
    chat.await_line("online ");
    chat
}

#[test]
fn logic_and_serve_as_processes_carry_a_chat_and_a_logic_that_died_is_found_again() {
    let place = shipped();
    let (logic, instances) = start_logic(&place, &SHOWN_SERVES);
    let ids: Vec<_> =
        instances.iter().map(|instance| (instance.id.as_str(), instance.zone.as_str())).collect();
    assert_eq!(ids, [("login01", "zone_a"), ("chat01", "zone_a"), ("chat02", "zone_b")]);
    let (mut gateway, [quic, tcp, monitor]) = serve(&place, "gate01", &instances);
    let ready = place.run(&["health", "--url", &format!("http://{monitor}/ready")], "");
    assert_eq!(ready.0, 0, "{ready:?}");
    assert!(ready.1.starts_with("200 ") && ready.1.contains("\"ready\":true"), "{ready:?}");

    let mut bob = chat(&place, "bob", &tcp, &["--transport", "tcp"]);
    let mut alice = chat(&place, "alice", &quic, &["--transport", "quic"]);
    alice.write("bob hello");
    assert!(bob.await_line("message ").ends_with("text=hello"));
    alice.await_line("stored to=bob");

    // The logic process dies: what is asked now is answered by the gateway.
    logic.signal(Signal::SIGKILL);
    drop(logic);
    for _ in &instances {
        gateway.await_line("event=\"link_lost\"");
    }
    alice.write("bob is anybody there?");
    assert!(alice.await_line("failed to=bob").contains("status=300"));
    let late = place.run(&["chat", "--account", "carol", "--transport", "tcp", "--server", &tcp], "");
    assert_eq!(late.0, 2, "nobody can sign in: {late:?}");
    assert!(late.2.contains("status 300"), "{late:?}");

    // It comes back at the same addresses and knows nobody: sessions begin anew, and everything works again.
    let serves: Vec<String> = instances.iter().map(LogicInstance::serve).collect();
    let (logic, again) = start_logic(&place, &serves);
    assert_eq!(again, instances);
    let mut links = 0;
    while links < instances.len() {
        links += usize::from(is_linked(&gateway.await_line("event=\"link_state\"")));
    }
    drop((alice, bob));
    let mut bob = chat(&place, "bob", &tcp, &["--transport", "tcp"]);
    let mut alice = chat(&place, "alice", &quic, &["--transport", "quic"]);
    alice.write("bob hello again");
    assert!(bob.await_line("message ").ends_with("text=hello again"));
    alice.await_line("stored to=bob");

    // With sessions and links open.
    logic.signal(Signal::SIGTERM);
    assert_eq!(logic.code(), Some(0));
    drop(gateway);
    let gone = place.run(&["health", "--url", &format!("http://{monitor}/health")], "");
    assert_eq!(gone.0, 1, "{gone:?}");
    assert!(gone.2.contains(&format!("no answer from http://{monitor}/health")), "{gone:?}");
}

/// Each gateway has its own links; a service pushes over those of the gateway that holds the channel.
#[test]
fn users_of_two_gateways_talk_and_kick_across_them() {
    let place = shipped();
    let (_logic, instances) = start_logic(&place, &SHOWN_SERVES);
    let (_first, [_, first, _]) = serve(&place, "gate01", &instances);
    // The id of a worker is one, too; and addresses may be host names, as in a network of containers.
    let instances: Vec<LogicInstance> = instances
        .into_iter()
        .map(|found| LogicInstance { address: found.address.replace("127.0.0.1", "localhost"), ..found })
        .collect();
    let (_second, [second, ..]) = serve(&place, "gate02-1", &instances);
    let mut alice = chat(&place, "alice", &first, &["--transport", "tcp"]);
    let mut bob = chat(&place, "bob", &second, &["--transport", "quic"]);
    for round in 0..3 {
        alice.write(&format!("bob to you {round}"));
        assert!(bob.await_line("message from=alice").ends_with(&format!("text=to you {round}")));
        bob.write(&format!("alice and back {round}"));
        assert!(alice.await_line("message from=bob").ends_with(&format!("text=and back {round}")));
    }

    // Alice signs in at the other gateway: the older session ends, and what is sent to her goes there. What the older one
    // showed may come again, because its acknowledgement and the login have no common order.
    let mut newer = chat(&place, "alice", &second, &["--transport", "quic"]);
    alice.await_line("closed reason=kicked");
    assert_eq!(alice.code(), Some(1));
    bob.write("alice where are you?");
    assert!(newer.await_line("text=where are you?").starts_with("message from=bob"));
    // And once more the other way round.
    let mut newest = chat(&place, "alice", &first, &["--transport", "tcp"]);
    newer.await_line("closed reason=kicked");
    bob.write("alice and now?");
    assert!(newest.await_line("text=and now?").starts_with("message from=bob"));
}

#[test]
fn arguments_that_make_no_sense_end_with_64_and_say_what_is_allowed() {
    let place = Place::new();
    for (arguments, says) in [
        (&["--serve", "mail@zone_a=127.0.0.1:9001"][..], "no service \"mail\""),
        (&["--serve", "chat=127.0.0.1:9001"], "such as chat@zone_a=127.0.0.1:9002"),
        (&["--serve", "chat@zone_a=somewhere"], "no IP address with a port"),
        (&["--dialect", "klingon", "--serve", "chat@zone_a=127.0.0.1:0"], "allowed are x_im and kim"),
        (&[], "gateway logic --serve login@zone_a=127.0.0.1:9001"),
        (
            &["--serve", "login@zone_a=127.0.0.1:9001", "--serve", "chat@zone_a=127.0.0.1:9001"],
            "127.0.0.1:9001 stands twice",
        ),
    ] {
        let (code, stdout, stderr) = place.run(&[&["logic"], arguments].concat(), "");
        assert_eq!(code, 64, "{arguments:?}: {stdout} {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
    let (code, _, stderr) = place.run(&["health", "--url", "gateway:8001"], "");
    assert_eq!(code, 64, "{stderr}");
}

#[test]
fn a_logic_port_that_is_taken_is_named_and_ends_with_1() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let chat = format!("chat@zone_b={address}");
    let (code, stdout, stderr) =
        place.run(&["logic", "--serve", "login@zone_a=127.0.0.1:0", "--serve", &chat], "");
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains(&format!("--serve chat@zone_b: cannot listen on {address}")), "{stderr}");
    assert!(stderr.contains("choose another port"), "{stderr}");
}

#[test]
fn a_page_that_does_not_say_200_is_not_healthy() {
    let place = shipped();
    // Nobody listens there: the gateway lives, but is not ready.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let login = LogicInstance::from_page(&format!("listening login login01 in zone_a at {nobody}"));
    let mut gateway = Running::by_log(serve_command(&place, "gate01", &[login]));
    let line = gateway.await_line("what=\"monitor\"");
    let monitor = line.rsplit("address=").next().unwrap();
    let health = |page: &str| place.run(&["health", "--url", &format!("http://{monitor}{page}")], "");
    assert_eq!(health("/health").0, 0);
    let ready = health("/ready");
    assert_eq!(ready.0, 1, "{ready:?}");
    assert!(ready.1.starts_with("503 ") && ready.1.contains("login"), "{ready:?}");
    assert_eq!(health("/nowhere").0, 1);
}

/// Events with their fields, and a webhook that nobody answers at: neither its token nor its path is ever shown.
#[test]
fn events_are_lines_of_the_log_and_no_line_shows_a_secret_of_the_webhook() {
    let place = shipped();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (logic, instances) = start_logic(&place, &SHOWN_SERVES);
    let mut command = serve_command(&place, "gate01", &instances);
    let webhook = format!("http://{nobody}/hidden-path?hidden-query");
    let settings = [("WEBHOOK", webhook.as_str()), ("WEBHOOK_TOKEN", "hidden-token")];
    for (key, value) in settings {
        command.env(format!("GATEWAY__EVENTS__{key}"), value);
    }
    command.env("GATEWAY__LOG__FORMAT", "json").env("GATEWAY__LOG__LEVEL", "trace");
    let mut gateway = Running::by_log(command);
    for _ in &instances {
        gateway.await_line("\"to\":\"healthy\"");
    }
    logic.signal(Signal::SIGKILL);
    drop(logic);
    let line = gateway.await_line("\"event\":\"instance_lost\"");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let lost =
        instances.iter().find(|instance| line["instance"] == instance.id.as_str()).expect("one of them");
    assert_eq!((&line["level"], &line["state"]), (&"WARN".into(), &"raised".into()), "{line}");
    assert_eq!(
        (line["service"].as_str(), line["zone"].as_str()),
        (Some(&*lost.service), Some(&*lost.zone)),
        "{line}"
    );
    assert!(line["id"].as_str().unwrap().starts_with("gate01-"), "{line}");
    assert!(!line["detail"].as_str().unwrap().is_empty(), "{line}");
    let failing = gateway.line("\"event\":\"webhook_failing\"");
    assert!(failing.contains(&nobody.to_string()), "{failing}");
    let unreachable = gateway.line("\"event\":\"login_unreachable\"");
    assert!(unreachable.contains("\"level\":\"ERROR\""), "{unreachable}");
    gateway.signal(Signal::SIGTERM);
    gateway.await_line("\"event\":\"drain\"");
    gateway.await_line("\"event\":\"stopped\"");
    while let Ok(line) = gateway.lines.recv_timeout(PATIENCE) {
        gateway.seen.push_str(&line);
    }
    assert!(gateway.seen.len() > 1_000 && !gateway.seen.contains("hidden"), "{}", gateway.seen);

    let mut command = place.gateway(&["check"]);
    for (key, value) in settings {
        command.env(format!("GATEWAY__EVENTS__{key}"), value);
    }
    let output = finish(command.spawn().unwrap());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains(&format!("webhook = \"http://{nobody}/***\"")), "{shown}");
    assert!(shown.contains("webhook_token = \"***\"") && !shown.contains("hidden"), "{shown}");
}
