//! The console, in a browser.

use super::admin_door::admin_address;
use super::browser::{Page, installed, package, skipped};
use super::restart::{Serve, home, sign_in};
use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

impl Page {
    fn sign_in_with(&mut self, token: &str) {
        self.evaluate(&format!(
            "document.getElementById('token').value = '{token}', document.getElementById('signin').requestSubmit(), 0"
        ));
    }

    fn find(&mut self, account: &str) {
        self.evaluate(&format!(
            "document.getElementById('whom').value = '{account}', document.getElementById('find').requestSubmit(), 0"
        ));
    }

    /// Waits until so many instances and zones are drawn as lost.
    fn awaits_red(&mut self, count: usize) {
        let patience = PATIENCE.as_millis();
        self.evaluate(&format!(
            "new Promise((done, fail) => {{
                setInterval(() => document.querySelectorAll('#map .bad.state').length === {count} && done(0), 50);
                setTimeout(() => fail(new Error('not {count} are red')), {patience});
            }})"
        ));
    }

    /// Whatever it loads comes from whoever served it, and its policy has stopped nothing.
    fn keeps_to_itself(&mut self) {
        let foreign = "performance.getEntriesByType('resource').filter(of => new URL(of.name).origin !== location.origin).length";
        assert_eq!(self.evaluate(foreign), 0);
    }

    /// What axe-core finds that is serious.
    fn serious_barriers(&mut self) -> Option<String> {
        let axe = package("node_modules/axe-core")?.join("node_modules/axe-core/axe.min.js");
        self.command(&format!("run {}", axe.display()));
        let found = self.evaluate(
            "axe.run().then(found => found.violations.filter(of => ['serious', 'critical'].includes(of.impact))
                .map(of => of.id + ' ' + of.nodes[0].html).join('; '))",
        );
        Some(found.as_str().unwrap().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_the_console_shows_who_comes_kicks_and_sees_a_lost_instance_and_its_return() {
    let (Some(browser), Some(node)) = (installed("chromium"), installed("node")) else {
        return skipped("Chromium or Node");
    };
    let (place, login, chat, config) = home();
    fs::write(place.0.join("admin.token"), TOKEN).unwrap();
    let overrides =
        [("GATEWAY__ADMIN__LISTEN", "127.0.0.1:0"), ("GATEWAY__ADMIN__TOKEN_FILE", "admin.token")];
    let mut serve = Serve::start(&place, &config, 1, &overrides).await;
    let address = admin_address(&mut serve).await;
    let mut page = Page::open(&browser, &node, &place, &format!("http://{address}/"));

    page.sign_in_with("not the token");
    page.awaits("refused", "must be Bearer with the token");
    page.sign_in_with(TOKEN);
    page.awaits("verdict", "All is well");

    // She comes online, is looked for, and is kicked.
    page.find("alice");
    page.awaits("said", "Nobody is connected with account alice.");
    let (mut alice, _channel) = sign_in(Kind::Tcp, &serve.target(), "alice", &login).await;
    page.awaits("tiles", "Connections1");
    page.find("alice");
    page.awaits("found", "alice");
    if let Some(barriers) = page.serious_barriers() {
        assert_eq!(barriers, "");
    }
    page.evaluate("document.querySelector('[aria-label=\"Kick… alice\"]').click(), 0");
    page.awaits("dialog", "does not come back by itself");
    page.evaluate("document.querySelector('#dialog form').requestSubmit(), 0");
    page.awaits("said", "Kicked alice.");
    alice.closed_with(3501).await;
    page.awaits("tiles", "Connections0");
    let line = serve.line("what=\"kick\"").await;
    assert!(line.contains("who=\"token, 127.0.0.1\""), "{line}");

    // An instance is lost and comes back.
    page.awaits_red(0);
    let at = chat.address;
    drop(chat);
    page.awaits("verdict", "chat01 broken");
    // It, and the zone that has no other.
    page.awaits_red(2);
    let _chat = FakeLogic::start_at(Dialect::XIm, at);
    page.awaits("verdict", "All is well");
    page.awaits_red(0);
    page.keeps_to_itself();
    drop(page);

    // Everybody may see the numbers, and nobody in them.
    let (_bob, channel) = sign_in(Kind::Tcp, &serve.target(), "bob", &login).await;
    let mut page = Page::open(&browser, &node, &place, &format!("http://{}/", serve.monitor));
    page.awaits("tiles", "Connections1");
    page.awaits("live", "live");
    let said = page.evaluate("document.body.innerText").as_str().unwrap().to_owned();
    assert!(said.contains("read-only") && !said.contains("Find a user"), "{said}");
    assert!(!said.contains("bob") && !said.contains(&channel) && !said.contains("127.0.0.1"), "{said}");
    let snapshot = page.evaluate("fetch('snapshot').then(answer => answer.text())").to_string();
    assert!(snapshot.contains("chat01") && !snapshot.contains("bob"), "{snapshot}");
    page.keeps_to_itself();
}
