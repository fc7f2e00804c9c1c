//! Reloads of every kind under load (row F17): nobody is lost, nothing is missing, and answers come as fast as without.
//! `just reloads`; how many and for how long can be set by variables, see [`StormScale`].

use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::restart::Serve;
use super::storms::sum;
use super::*;
use crate::support::soon;

/// How large the proof is.
struct StormScale {
    clients: u64,
    seconds: u64,
    reloads: u64,
}

impl StormScale {
    /// What the issue of this proof asks for, unless RELOAD_CLIENTS, RELOAD_SECONDS or RELOAD_COUNT say otherwise.
    fn read() -> Self {
        let number =
            |name: &str, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
        Self {
            clients: number("RELOAD_CLIENTS", 2000),
            seconds: number("RELOAD_SECONDS", 60),
            reloads: number("RELOAD_COUNT", 200),
        }
    }
}

/// The files of the gateway, which each reload finds changed.
struct StormFiles {
    place: Place,
    port: u16,
    /// Of login01, chat01 and chat02.
    services: Vec<String>,
}

/// What is not as it was at the start.
#[derive(Default, Clone, Copy)]
struct StormChanges {
    pending: u32,
    level: bool,
    ready_when_full: bool,
    window: bool,
    webhook: bool,
    leeway: bool,
    origins: bool,
    second: bool,
}

impl StormFiles {
    fn new(services: Vec<String>) -> Self {
        let place = Place::new();
        for directory in ["one", "two"] {
            for more in [&[][..], &["--rotate-tickets"]] {
                let (code, _, told) = place.run(&[&["certs", "--dir", directory], more].concat(), "");
                assert_eq!(code, 0, "{told}");
            }
        }
        let port = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = tcp.local_addr().unwrap().port();
            if std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok() {
                break port;
            }
        };
        let files = Self { place, port, services };
        files.identity("one");
        files.secret("one");
        files.route(1);
        files.configure(StormChanges::default());
        files
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.place.0.join(name), content).unwrap();
    }

    fn copy(&self, from: String, to: &str) {
        fs::copy(self.place.0.join(from), self.place.0.join(to)).unwrap();
    }

    fn identity(&self, of: &str) {
        self.copy(format!("{of}/server.pem"), "server.pem");
        self.copy(format!("{of}/server.key"), "server.key");
        self.copy(format!("{of}/ticket.keys"), "ticket.keys");
    }

    fn secret(&self, of: &str) {
        self.copy(format!("{of}/jwt.secret"), "jwt.secret");
    }

    fn route(&self, weight: u64) {
        let zones = format!(r#"[{{"id":"zone_a","weight":1}},{{"id":"zone_b","weight":{weight}}}]"#);
        let app = if weight.is_multiple_of(2) { r#"{"key":"another","value":"zone_a"}"# } else { "" };
        self.write("route.json", format!(r#"{{"zones":{zones},"whitelist":[{app}]}}"#));
    }

    fn configure(&self, changes: StormChanges) {
        let StormChanges { pending, level, ready_when_full, window, webhook, leeway, origins, second } =
            changes;
        let port = self.port;
        let pending = 256 - pending;
        let level = if level { "warn" } else { "info" };
        let window = if window { "1s" } else { "2s" };
        let origins = if origins { "\"https://chat.example\"" } else { "" };
        let leeway = if leeway { "30s" } else { "1m" };
        let webhook = if webhook { "[events]\nwebhook = \"http://127.0.0.1:9/nobody\"\n" } else { "" };
        let mut text = format!(
            "[gateway]\nid = \"gate01\"\n[admin]\nsocket = \"admin.sock\"\n\
             [quic]\nlisten = \"127.0.0.1:{port}\"\nkey_file = \"one/quic.keys\"\n\
             [tcp]\nlisten = \"127.0.0.1:{port}\"\ntls_listen = \"127.0.0.1:0\"\n\
             [websocket]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\nallowed_origins = [{origins}]\n\
             [tls]\ncert = \"server.pem\"\nkey = \"server.key\"\nticket_key_file = \"ticket.keys\"\n\
             [auth]\nsecret_file = \"jwt.secret\"\nleeway = \"{leeway}\"\n[route]\nfile = \"route.json\"\n\
             [monitor]\nlisten = \"127.0.0.1:0\"\nready_when_full = {ready_when_full}\n\
             [drain]\nwindow = \"{window}\"\n[log]\nlevel = \"{level}\"\n{webhook}\
             [limits]\naccount_logins_per_second = 0\nmax_pending = {pending}\nread_idle = \"{pending}s\"\n"
        );
        let named =
            ["login", "chat", "chat"].iter().zip(["login01", "chat01", "chat02"]).zip(["a", "a", "b"]);
        for (((service, id), zone), address) in named.zip(&self.services).take(if second { 3 } else { 2 }) {
            text += &format!(
                "[[discovery.instances]]\nservice = \"{service}\"\nid = \"{id}\"\nzone = \"zone_{zone}\"\n\
                 address = \"{address}\"\n"
            );
        }
        self.write("gateway.toml", text);
    }

    /// Changes something, other things each time; true if it is good.
    fn change(&self, number: u64, changes: &mut StormChanges) -> bool {
        if number % 5 == 4 {
            match number / 5 % 4 {
                0 => self.write("route.json", "{\"zones\":[]}"),
                1 => self.copy("two/server.key".to_owned(), "server.key"),
                2 => self.write("jwt.secret", "short"),
                _ => self.write("gateway.toml", "[gateway]\nid = 1\n"),
            }
            if number / 5 % 4 == 1 {
                self.copy("one/server.pem".to_owned(), "server.pem");
            }
            return false;
        }
        let turn = number / 5 * 4 + number % 5;
        self.identity(if turn.is_multiple_of(3) { "one" } else { "two" });
        self.secret(if turn % 4 < 2 { "one" } else { "two" });
        self.route(1 + turn % 7);
        match turn % 8 {
            0 => changes.pending = (changes.pending + 1) % 50,
            1 => changes.level = !changes.level,
            2 => changes.ready_when_full = !changes.ready_when_full,
            3 => changes.window = !changes.window,
            4 => changes.webhook = !changes.webhook,
            5 => changes.leeway = !changes.leeway,
            6 => changes.origins = !changes.origins,
            // Seldom: whoever leaves an instance that goes is served by another one.
            7 if turn % 32 == 7 => changes.second = !changes.second,
            _ => changes.pending = (changes.pending + 7) % 50,
        }
        self.configure(*changes);
        true
    }

    fn bench(&self, Target { tls, ws, wss, .. }: Target, scale: &StormScale) -> Child {
        let server = format!("127.0.0.1:{}", self.port);
        let [tls, ws, wss] = [tls, ws, wss].map(|address| address.port().to_string());
        let [clients, seconds] = [scale.clients, scale.seconds].map(|number| number.to_string());
        let ca = ["--ca", "one/ca.pem", "--secret-file", "one/jwt.secret", "--transport", "every"];
        let load = ["bench", "talk", "--clients", &clients, "--rate", "1", "--seconds", &seconds];
        let at = ["--server", &server, "--tls-port", &tls, "--ws-port", &ws, "--wss-port", &wss];
        self.place.gateway(&[&load[..], &at, &ca].concat()).stderr(Stdio::null()).spawn().unwrap()
    }
}

/// The status and the body of the answer to `POST /api/v1/reload`.
async fn ask_for_reload(socket: &std::path::Path) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = "POST /api/v1/reload HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer to a reload", stream.read_to_string(&mut answer)).await.unwrap();
    let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap())
}

/// What a run of the bench came to.
#[derive(Debug)]
struct TalkOutcome {
    output: String,
    /// Milliseconds.
    p99: f64,
}

impl TalkOutcome {
    fn of(output: Output) -> Self {
        let text = String::from_utf8(output.stdout).unwrap();
        let line =
            text.lines().find(|line| line.starts_with("answer time")).unwrap_or_else(|| panic!("{text}"));
        let p99 = line.split("p99 ").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
        let number = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        for name in ["unanswered", "missing", "duplicated"] {
            assert_eq!(number(name), 0, "{text}");
        }
        assert_eq!(number("sent"), number("answered 0"), "{text}");
        assert!(!text.contains("closed early"), "{text}");
        Self { output: text, p99 }
    }
}

/// Awaits the end of a bench.
async fn finished(bench: Child) -> TalkOutcome {
    TalkOutcome::of(tokio::task::spawn_blocking(move || bench.wait_with_output().unwrap()).await.unwrap())
}

/// Reloads until all have been asked for, evenly over the time; the longest answer.
async fn reload_all(files: &StormFiles, scale: &StormScale) -> Duration {
    let socket = files.place.0.join("admin.sock");
    let pause = Duration::from_secs(scale.seconds) / u32::try_from(scale.reloads).unwrap();
    let (start, mut changes, mut longest) = (Instant::now(), StormChanges::default(), Duration::ZERO);
    for number in 0..scale.reloads {
        let due = start + pause * u32::try_from(number).unwrap();
        tokio::time::sleep_until(due.into()).await;
        let is_good = files.change(number, &mut changes);
        let asked = Instant::now();
        let (status, answer) = ask_for_reload(&socket).await;
        longest = longest.max(asked.elapsed());
        assert_eq!(status, if is_good { 200 } else { 422 }, "reload {number}: {answer}");
        if is_good {
            assert_ne!(answer["changed"].as_array().unwrap().len(), 0, "reload {number}: {answer}");
        }
    }
    longest
}

/// Starts two chat instances and a login service; their addresses, and the process.
fn services() -> (Child, Vec<String>) {
    let place = Place::new();
    let serve = ["login@zone_a", "chat@zone_a", "chat@zone_b"].map(|of| format!("{of}=127.0.0.1:0"));
    let arguments: Vec<_> = serve.iter().flat_map(|serve| ["--serve", serve]).collect();
    let mut command = place.gateway(&[&["logic"][..], &arguments].concat());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let addresses = lines.by_ref().filter(|line| line.starts_with("listening ")).take(3);
    let addresses = addresses.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    std::thread::spawn(move || lines.for_each(drop));
    (child, addresses)
}

/// `just reloads`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it judges latency, takes some minutes, and runs alone"]
async fn f17_under_load_200_reloads_lose_nobody_and_nothing_and_cost_no_time() {
    let scale = StormScale::read();
    let (mut logic, addresses) = tokio::task::block_in_place(services);
    let files = tokio::task::block_in_place(|| StormFiles::new(addresses));
    let serve = Serve::start(&files.place, "gateway.toml", 1, &[]).await;
    // Its log is read, or it would stand still here.
    let monitor = serve.monitor;
    let quiet = finished(files.bench(serve.target(), &scale)).await;
    let bench = files.bench(serve.target(), &scale);
    let series = "gateway_connections{";
    let all_here = async {
        while sum(monitor, series).await < scale.clients as f64 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all_here).await.expect("all clients are here");
    let longest = reload_all(&files, &scale).await;
    let reloaded = finished(bench).await;
    println!(
        "quiet\n{}\n{} reloads, the longest {longest:?}\n{}",
        quiet.output, scale.reloads, reloaded.output
    );
    assert!(reloaded.p99 <= (quiet.p99 * 1.5).max(quiet.p99 + 2.0), "{} ms, {} ms", reloaded.p99, quiet.p99);
    let _gone = logic.kill();
    let _gone = logic.wait();
}
