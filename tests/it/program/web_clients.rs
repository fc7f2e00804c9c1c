//! WebSocket clients that others made: a page in headless Chromium, the package `ws` of npm, `websockets` of PyPI. Where one of
//! them is missing its test says so and passes; `tests/tools/get-web-clients DIR` gets the packages, apt-get Chromium.

use std::io::Lines;
use std::path::Path;
use std::process::ChildStdin;

use serde_json::Value;

use super::*;

/// A program of this system.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// What was said is missing, if something is.
fn skipped(missing: &str) {
    eprintln!("skipped: no {missing}; see the head of tests/it/program/web_clients.rs");
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where the packages are: `WEB_CLIENTS`, if it has this file.
fn package(file: &str) -> Option<PathBuf> {
    let place = PathBuf::from(std::env::var_os("WEB_CLIENTS").filter(|place| !place.is_empty())?);
    place.join(file).exists().then_some(place)
}

fn token(place: &Place, account: &str) -> String {
    let (code, token, error) = place.run(&["token", "--account", account], "");
    assert_eq!(code, 0, "{error}");
    token.trim().to_owned()
}

/// Alice's chat signs in over TCP and ends.
fn sign_in_elsewhere(place: &Place, dev: &Dev, account: &str) {
    let tcp = dev.address("tcp");
    let done = place.run(&["chat", "--account", account, "--transport", "tcp", "--server", &tcp], "");
    assert_eq!(done.0, 0, "{done:?}");
}

/// A page in a browser.
struct Page {
    driver: Child,
    to: Option<ChildStdin>,
    from: Lines<BufReader<ChildStdout>>,
}

impl Page {
    fn open(browser: &Path, node: &Path, place: &Place) -> Self {
        let mut driver = Command::new(node)
            .arg(source("tests/tools/drive-browser.mjs"))
            .args([browser, &place.0.join("profile")])
            .arg(format!("file://{}", source("examples/browser/index.html").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let from = BufReader::new(driver.stdout.take().unwrap()).lines();
        Self { to: driver.stdin.take(), driver, from }
    }

    /// What an expression of JavaScript is, or becomes.
    fn evaluate(&mut self, expression: &str) -> Value {
        writeln!(self.to.as_mut().unwrap(), "{}", expression.replace('\n', " ")).unwrap();
        let line = self.from.next().expect("an answer of the browser").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Waits until an element says this, and returns what it says.
    fn awaits(&mut self, element: &str, text: &str) -> String {
        let patience = PATIENCE.as_millis();
        let said = self.evaluate(&format!(
            "new Promise((done, fail) => {{
                const node = document.getElementById({element:?});
                const look = () => node.textContent.includes({text:?}) && done(node.textContent);
                new MutationObserver(look).observe(node, {{ childList: true, subtree: true, characterData: true }});
                setTimeout(() => fail(new Error(`{element} says ${{node.textContent}}, not {text}`)), {patience});
                look();
            }})"
        ));
        said.as_str().unwrap().to_owned()
    }

    fn sign_in(&mut self, ws: &str, token: &str) {
        self.evaluate(&format!(
            "$('url').value = 'ws://{ws}', $('token').value = '{token}', $('login').requestSubmit(), 0"
        ));
    }

    fn talk(&mut self, to: &str, text: &str) {
        self.evaluate(&format!(
            "$('to').value = '{to}', $('text').value = '{text}', $('talk').requestSubmit(), 0"
        ));
    }
}

impl Drop for Page {
    /// The driver ends with its input, and the browser with it.
    fn drop(&mut self) {
        self.to = None;
        let _gone = self.driver.wait();
    }
}

#[test]
fn a_page_in_a_browser_signs_in_talks_is_kicked_and_reconnects() {
    let (Some(browser), Some(node)) = (installed("chromium"), installed("node")) else {
        return skipped("Chromium or Node");
    };
    let place = Place::new();
    let dev = Dev::start(&place);
    let ws = dev.address("ws");
    let mut page = Page::open(&browser, &node, &place);
    let carol = token(&place, "carol");
    page.sign_in(&ws, &carol);
    page.awaits("state", "Signed in as carol.");

    // She talks with a chat in a terminal: her message ends it, once it is sent.
    let tcp = dev.address("tcp");
    let chat = ["chat", "--account", "alice", "--transport", "tcp", "--server", &tcp, "--expect", "1"];
    let alice = std::thread::scope(|scope| {
        let alice =
            scope.spawn(|| place.run(&[&chat[..], &["--wait", "25"]].concat(), "carol hello browser\n"));
        page.awaits("log", "alice hello browser");
        page.talk("alice", "hello terminal");
        page.awaits("log", "me hello terminal");
        alice.join().unwrap()
    });
    assert_eq!(alice.0, 0, "{alice:?}");
    assert!(alice.1.contains("message from=carol") && alice.1.contains("text=hello terminal"), "{}", alice.1);

    // Signed in elsewhere, she is kicked and stays away.
    sign_in_elsewhere(&place, &dev, "carol");
    page.awaits("state", "Closed: 3501 kicked. Sign in again.");
    page.sign_in(&ws, "no.such.token");
    page.awaits("state", "Closed: 3500 unauthenticated. Sign in again.");

    // A gateway that goes away is waited for, and found again.
    page.sign_in(&ws, &carol);
    page.awaits("state", "Signed in as carol.");
    dev.signal(Signal::SIGTERM);
    page.awaits("state", "Back in");
    drop(dev);
    let dev = Dev::start(&place);
    page.evaluate(&format!("$('url').value = 'ws://{}', 0", dev.address("ws")));
    page.awaits("state", "Signed in as carol.");
    assert_eq!(dev.end(), 0);
}

/// What a client of another make says of its session, and of the close that ends it.
fn steps(mut client: Command) -> Vec<String> {
    let child = client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = finish(child);
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{errors}");
    said.lines().map(str::to_owned).collect()
}

/// Lets a client say goodbye, and then another of its kind be kicked.
fn serves(client: impl Fn(&str, &str) -> Command) {
    let place = Place::new();
    let dev = Dev::start(&place);
    let url = format!("ws://{}", dev.address("ws"));
    let whole = steps(client(&url, &token(&place, "erin")));
    assert_eq!(whole[1..], ["signed in", "talked", "pong", "close 1000 "], "{whole:?}");

    let mut kicked = client(&url, &token(&place, "erin"));
    let child = kicked.arg("stay").stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "signed in"), "it ended before it was signed in");
    sign_in_elsewhere(&place, &dev, "erin");
    assert_eq!(lines.last().unwrap(), "close 3501 kicked");
    assert!(child.wait().unwrap().success());
    assert_eq!(dev.end(), 0);
}

#[test]
fn the_package_ws_of_npm_signs_in_talks_pings_and_is_kicked() {
    let (Some(node), Some(packages)) = (installed("node"), package("node_modules/ws")) else {
        return skipped("Node with the package ws (WEB_CLIENTS)");
    };
    serves(|url, token| {
        let mut client = Command::new(&node);
        client.arg(source("tests/tools/ws-client.mjs")).arg(&packages).args([url, token, "erin"]);
        client
    });
}

#[test]
fn the_package_websockets_of_pypi_signs_in_talks_pings_and_is_kicked() {
    let (Some(python), Some(packages)) = (installed("python3"), package("python/websockets")) else {
        return skipped("Python with the package websockets (WEB_CLIENTS)");
    };
    serves(|url, token| {
        let mut client = Command::new(&python);
        client.env("PYTHONPATH", packages.join("python")).arg("-u");
        client.arg(source("tests/tools/websockets-client.py")).args([url, token, "erin"]);
        client
    });
}
