//! WebSocket clients that others made: a page in headless Chromium, the package `ws` of npm, `websockets` of PyPI. Where one of
//! them is missing its test says so and passes; `tests/tools/get-web-clients DIR` gets the packages, apt-get Chromium.

use super::browser::{Page, installed, package, skipped, source};
use super::*;

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

impl Page {
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

#[test]
fn a_page_in_a_browser_signs_in_talks_is_kicked_and_reconnects() {
    let (Some(browser), Some(node)) = (installed("chromium"), installed("node")) else {
        return skipped("Chromium or Node");
    };
    let place = Place::new();
    let dev = Dev::start(&place);
    let ws = dev.address("ws");
    let path = format!("file://{}", source("examples/browser/index.html").display());
    let mut page = Page::open(&browser, &node, &place, &path);
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
