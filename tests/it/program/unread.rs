//! What a program says by its exit code, and does for its clients, when nobody reads its output (rows H15, F8).

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rstest::rstest;

use super::health::monitor;
use super::restart::home;
use super::*;
use crate::support::soon;

/// Who does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// It has gone.
    Gone,
    /// It is there, and everything it could take without reading was written.
    Stuck,
}

impl Reader {
    /// An output for a program, and what keeps it as it is.
    fn output(self) -> (Stdio, Option<UnixStream>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        if self == Self::Gone {
            return (OwnedFd::from(theirs).into(), None);
        }
        theirs.set_nonblocking(true).unwrap();
        let full = loop {
            if let Err(error) = (&theirs).write(&[b'\n'; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
        while (&theirs).write(b"\n").is_ok() {}
        theirs.set_nonblocking(false).unwrap();
        (OwnedFd::from(theirs).into(), Some(ours))
    }
}

/// The exit code of a command whose outputs nobody reads.
fn code(place: &Place, arguments: &[&str], input: &str, out: Reader, err: Reader) -> Option<i32> {
    let ((stdout, _out), (stderr, _err)) = (out.output(), err.output());
    let mut child = place.gateway(arguments).stdout(stdout).stderr(stderr).spawn().unwrap();
    let _closed = child.stdin.take().unwrap().write_all(input.as_bytes());
    finish(child).status.code()
}

#[rstest]
fn h15_an_exit_code_does_not_depend_on_a_reader(
    #[values(Reader::Gone, Reader::Stuck)] out: Reader,
    #[values(Reader::Gone, Reader::Stuck)] err: Reader,
) {
    let place = Place::new();
    fs::write(place.0.join("bad.toml"), "[gateway]\nidd = \"gate01\"\n").unwrap();
    fs::write(place.0.join("bad.json"), "{}").unwrap();
    let (well, _) = monitor("200 OK");
    let (unwell, _) = monitor("503 Service Unavailable");
    let [well, unwell] = [well, unwell].map(|address| format!("http://{address}/ready"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let nowhere = format!("http://{nobody}/ready");
    let secret = ["--secret-file", "no-secret"];
    for (arguments, expected) in [
        (&["health", "--url", &well][..], 0),
        (&["health", "--url", &unwell], 1),
        (&["health", "--url", &nowhere], 1),
        (&["check", "--config", "bad.toml"], 64),
        (&["check", "--config", "bad.json"], 64),
        (&["serve", "--config", "bad.toml"], 64),
        (&["route", "explain", "--account", "a", "--app", "b", "--config", "bad.toml"], 64),
        (&["logic"], 64),
        (&["no-such-command"], 64),
        (&["--version"], 0),
        (&[&["token", "--account", "alice"][..], &secret].concat(), 1),
        (&["certs", "--dir", "bad.toml/below"], 1),
        (&["bench", "talk", "--server", &nobody, "--transport", "tcp"], 1),
        (&["chat", "--account", "alice", "--token", "t", "--transport", "tcp", "--server", &nobody], 3),
    ] {
        assert_eq!(code(&place, arguments, "", out, err), Some(expected), "{arguments:?}");
    }
}

/// Results are for a reader that has gone of no use, and that is no error.
#[test]
fn h15_a_result_that_nobody_wants_is_no_failure() {
    let place = Place::new();
    let made = place.run(&["certs"], "");
    assert_eq!(made.0, 0, "{made:?}");
    let config = serve_config(&place, "127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
    let explain = ["route", "explain", "--account", "a", "--app", "b", "--config", &config];
    for arguments in [
        &["certs"][..],
        &["token", "--account", "alice"],
        &["check", "--config", &config],
        &["check", "--config", "route.json"],
        &explain,
    ] {
        for err in [Reader::Gone, Reader::Stuck] {
            assert_eq!(code(&place, arguments, "", Reader::Gone, err), Some(0), "{arguments:?}");
        }
    }
    // One that is lost although somebody wants it is one.
    if cfg!(target_os = "linux") {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let child = place.gateway(&["token", "--account", "alice"]).stdout(full).spawn().unwrap();
        assert_eq!(finish(child).status.code(), Some(1));
    }
}

#[test]
fn h15_a_chat_that_nobody_reads_still_says_what_became_of_it() {
    let place = Place::new();
    let dev = Dev::start(&place);
    let quic = dev.address("quic");
    let chat = ["chat", "--account", "alice", "--server", &quic];
    let ends =
        |more: &[&str], input, err| code(&place, &[&chat[..], more].concat(), input, Reader::Gone, err);
    for err in [Reader::Gone, Reader::Stuck] {
        assert_eq!(ends(&[], "bob hello\n", err), Some(0));
        assert_eq!(ends(&["--to", "alice", "--expect", "1"], "to myself\n", err), Some(0));
        assert_eq!(ends(&["--expect", "1", "--wait", "0"], "", err), Some(1));
        assert_eq!(ends(&[], "bob\n", err), Some(1));
        assert_eq!(ends(&["--token", "no.such.token"], "", err), Some(2));
    }
    let harness = ["bench", "talk", "--server", &quic, "--clients", "2", "--seconds", "1"];
    assert_eq!(code(&place, &harness, "", Reader::Gone, Reader::Gone), Some(0));
}

/// Even a chat that waits for a reader who pauses can be interrupted.
#[test]
fn h15_a_chat_whose_reader_is_stuck_can_be_interrupted() {
    let place = Place::new();
    let dev = Dev::start(&place);
    let quic = dev.address("quic");
    let (stdout, _kept) = Reader::Stuck.output();
    let mut command = place.gateway(&["chat", "--account", "alice", "--server", &quic]);
    let child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let bob = ["chat", "--account", "bob", "--server", &quic, "--to", "alice"];
    // Alice is signed in when the server has a second session; her first line waits already.
    let monitor = dev.page.lines().find_map(|line| line.strip_prefix("listening monitor ")).unwrap();
    until(|| scrape(monitor.parse().unwrap()).contains("gateway_logins_total{result=\"ok\"} 1"));
    assert_eq!(place.run(&bob, "hello\n").0, 0);
    // The gateway knows of the login before the program does, which only then listens to signals.
    #[cfg(target_os = "linux")]
    until(|| catches(&child, Signal::SIGINT));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert!(finish(child).status.code().is_some(), "an exit code, not a signal");
}

#[test]
fn h15_services_serve_although_nobody_reads_what_they_say() {
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let serve = format!("chat@zone_a={port}");
    let ((stdout, _out), (stderr, _err)) = (Reader::Stuck.output(), Reader::Stuck.output());
    let mut command = place.gateway(&["logic", "--serve", &serve]);
    let child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
    until(|| std::net::TcpStream::connect(port).is_ok());
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(finish(child).status.code(), Some(0));
}

/// Returns `true` if this process has a handler for this signal.
#[cfg(target_os = "linux")]
fn catches(child: &Child, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal as u32 - 1) & 1 == 1
}

/// Looks again and again until it is so.
pub(super) fn until(mut is_so: impl FnMut() -> bool) {
    let by = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < by, "it did not come about within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The metrics of a monitor.
fn scrape(monitor: SocketAddr) -> String {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(monitor).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

pub(super) fn dropped_lines(monitor: SocketAddr) -> u64 {
    let text = scrape(monitor);
    let value = text.lines().find_map(|line| line.strip_prefix("gateway_log_dropped_total "));
    value.unwrap_or_else(|| panic!("no count of lines in\n{text}")).parse().unwrap()
}

/// Nobody reads the log of a gateway that has much to say, and a task of it panics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f8_h15_a_log_that_nobody_reads_costs_lines_and_nothing_else() {
    let (place, login, _chat, config) = home();
    let mut command = place.gateway(&["serve", "--config", &config]);
    let mut child = command
        .envs([("RUST_LOG", "trace"), ("GATEWAY__GATEWAY__WORKERS", "1"), ("GATEWAY__DRAIN__WINDOW", "0s")])
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let (mut quic, mut monitor, mut links) = (None, None, 0);
    while quic.is_none() || monitor.is_none() || links < 2 {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it was ready");
        links += usize::from(is_linked(&line));
        let address = || line.trim_end().rsplit("address=").next().unwrap().parse::<SocketAddr>().unwrap();
        match () {
            () if line.contains("what=\"quic\"") => quic = Some(address()),
            () if line.contains("what=\"monitor\"") => monitor = Some(address()),
            () => {}
        }
    }
    let (quic, monitor) = (quic.unwrap(), monitor.unwrap());
    let target = Target { tcp: quic, tls: quic, ws: quic, wss: quic, quic };
    let mut client = Raw::connect(Kind::QuicOne, &target).await;
    let channel = client.login("alice").await;
    assert_eq!(dropped_lines(monitor), 0);
    let patient_until = Instant::now() + PATIENCE;
    while dropped_lines(monitor) < 1000 {
        assert!(Instant::now() < patient_until, "{} lines are counted", dropped_lines(monitor));
        for _ in 0..200 {
            let sequence = client.talk("bob", "hello").await;
            assert_eq!(client.response(sequence).await.header.status, 0);
        }
    }
    #[cfg(feature = "faults")]
    {
        let mut broken = Raw::connect(Kind::QuicOne, &target).await;
        broken.signin(&identity::token(gateway::faults::PANIC_TASK)).await;
        broken.farewell().await;
    }
    let sequence = client.talk("bob", "unharmed").await;
    assert_eq!(client.response(sequence).await.header.status, 0);

    // Somebody reads again, and is told.
    let (lines, told) = mpsc::channel();
    let reading =
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    let told = tokio::task::spawn_blocking(move || {
        while !told.recv_timeout(PATIENCE).unwrap().contains("event=\"log_dropped\"") {}
        told
    });
    let told = soon("word of the lost lines", told).await.unwrap();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    client.closed_with(3000).await;
    login.signout(&channel).await;
    drop(told);
    let output = tokio::task::spawn_blocking(move || finish(child)).await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let _ended = reading.join();
}

/// A panic is written by the log, as one of its lines.
#[cfg(feature = "faults")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h15_a_panic_is_a_line_of_the_log() {
    use super::restart::Serve;

    let (place, _login, _chat, config) = home();
    let mut serve = Serve::start(&place, &config, 1, &[("RUST_BACKTRACE", "0")]).await;
    let mut broken = Raw::connect(Kind::Tcp, &serve.target()).await;
    broken.signin(&identity::token(gateway::faults::PANIC_TASK)).await;
    let line = serve.line("event=\"panic\"").await;
    assert!(line.contains("ERROR") && line.contains("thread=\"worker-0\""), "{line}");
    assert!(line.contains("a test asked this task to panic"), "{line}");
}
