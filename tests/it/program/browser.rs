//! A page in headless Chromium. Where that or Node is missing the tests say so and pass.

use std::io::Lines;
use std::path::Path;
use std::process::ChildStdin;

use serde_json::Value;

use super::*;

/// A program of this system.
pub(super) fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// What was said is missing, if something is.
pub(super) fn skipped(missing: &str) {
    eprintln!("skipped: no {missing}; see tests/tools/get-web-clients");
}

pub(super) fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where the packages are: `WEB_CLIENTS`, if it has this file.
pub(super) fn package(file: &str) -> Option<PathBuf> {
    let place = PathBuf::from(std::env::var_os("WEB_CLIENTS").filter(|place| !place.is_empty())?);
    place.join(file).exists().then_some(place)
}

/// A page in a browser.
pub(super) struct Page {
    driver: Child,
    to: Option<ChildStdin>,
    from: Lines<BufReader<ChildStdout>>,
}

impl Page {
    pub(super) fn open(browser: &Path, node: &Path, place: &Place, url: &str) -> Self {
        let mut driver = Command::new(node)
            .arg(source("tests/tools/drive-browser.mjs"))
            .args([browser, &place.0.join("profile")])
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let from = BufReader::new(driver.stdout.take().unwrap()).lines();
        Self { to: driver.stdin.take(), driver, from }
    }

    /// What an expression of JavaScript is, or becomes.
    pub(super) fn evaluate(&mut self, expression: &str) -> Value {
        self.command(&expression.replace('\n', " "))
    }

    /// One line for the driver: see its head.
    pub(super) fn command(&mut self, line: &str) -> Value {
        writeln!(self.to.as_mut().unwrap(), "{line}").unwrap();
        let line = self.from.next().expect("an answer of the browser").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Waits until an element says this, and returns what it says.
    pub(super) fn awaits(&mut self, element: &str, text: &str) -> String {
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
}

impl Drop for Page {
    /// The driver ends with its input, and the browser with it.
    fn drop(&mut self) {
        self.to = None;
        let _gone = self.driver.wait();
    }
}
