//! `[events]`: the webhook, its token and its certificate.

use super::*;

fn webhook(home: &Home, lines: &str) -> Result<Loaded, ConfigError> {
    home.parse(&minimal(&format!("[events]\n{lines}\n")), &[])
}

#[test]
fn without_a_webhook_there_is_none() {
    let home = Home::new("events-none");
    assert!(home.parse(&minimal(""), &[]).unwrap().config.webhook.is_none());
    assert!(
        webhook(&home, "webhook = \"\"").unwrap().config.webhook.is_none(),
        "switched off by the environment"
    );
    assert!(webhook(&home, "timeout = \"1s\"").unwrap().config.webhook.is_none());
}

#[test]
fn a_webhook_with_everything_that_belongs_to_it() {
    let home = Home::new("events-full");
    let token = home.0.join("token");
    fs::write(&token, "0123-token\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let lines = "webhook = \"https://localhost:9/a?b=c\"\nwebhook_token_file = \"token\"\n\
                 webhook_ca_file = \"certs/dev/ca.pem\"\ntimeout = \"250ms\"";
    let loaded = webhook(&home, lines).unwrap();
    let read = loaded.config.webhook.unwrap();
    assert_eq!((read.path.as_str(), read.timeout), ("/a?b=c", Duration::from_millis(250)));
    let HttpTarget { tls, host, port, token, roots } = read.target;
    assert_eq!((tls, host.as_str(), port), (true, "localhost", 9));
    assert_eq!((token.unwrap().0.as_slice(), roots.len()), (&b"0123-token"[..], 1));
    let plain = webhook(&home, "webhook = \"http://127.0.0.1:9\"").unwrap();
    let read = plain.config.webhook.unwrap();
    assert_eq!(
        (read.path.as_str(), read.target, read.timeout),
        ("/", HttpTarget::plain("127.0.0.1", 9), Duration::from_secs(5))
    );
    let login = "discovery.instances:";
    assert!(plain.warnings.iter().all(|warning| warning.starts_with(login)), "{:?}", plain.warnings);
}

#[test]
fn what_is_worth_a_word_about_a_webhook() {
    let home = Home::new("events-warnings");
    let token = home.0.join("token");
    fs::write(&token, "t").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let loaded = webhook(&home, "webhook = \"http://h.example/x\"\nwebhook_token_file = \"token\"").unwrap();
    let warnings = loaded.warnings.join("\n");
    assert!(warnings.contains("events.webhook: events travel in clear to h.example"), "{warnings}");
    assert!(warnings.contains("events.webhook_token_file: other users can read"), "{warnings}");
}

#[rstest]
#[case("webhook = 7", "events.webhook: is 7; allowed is a string")]
#[case(
    "webhook = \"hooks.example.org\"",
    "events.webhook: is no URL that can be posted to; allowed is http://"
)]
#[case("webhook = \"https://user:hidden@h/\"", "events.webhook: is no URL that can be posted to; allowed")]
#[case("webhook_token = \"hidden\"", "events.webhook_token: is set without events.webhook; allowed is both")]
#[case("webhook_ca_file = \"x\"", "events.webhook_ca_file: is set without events.webhook; allowed is both")]
#[case("timeout = \"1ms\"", "events.timeout: is 1ms; allowed is 100ms to 1m")]
#[case("timeout = \"2m\"", "events.timeout: is 2m; allowed is 100ms to 1m")]
#[case("webhook = \"http://h\"\nwebhook_token = \"\"", "events.webhook_token: holds no token; allowed")]
#[case(
    "webhook = \"http://h\"\nwebhook_token = \"hidden token\"",
    "events.webhook_token: holds no token; allowed"
)]
#[case("webhook = \"http://h\"\nwebhook_token = 4711", "events.webhook_token: is not a string; allowed")]
#[case(
    "webhook = \"http://h\"\nwebhook_token = \"hidden\"\nwebhook_token_file = \"t\"",
    "events.webhook_token: stands beside events.webhook_token_file; allowed is one of them"
)]
#[case(
    "webhook = \"http://h\"\nwebhook_token_file = \"none\"",
    "none does not exist; allowed is a file with the webhook's token"
)]
#[case(
    "webhook = \"http://h\"\nwebhook_ca_file = \"certs/dev/ca.pem\"",
    "events.webhook_ca_file: is set, but events.webhook begins with http://; allowed"
)]
#[case("webhook = \"https://h\"\nwebhook_ca_file = \"none\"", "none does not exist; allowed is a PEM file")]
#[case(
    "webhook = \"https://h\"\nwebhook_ca_file = \"certs/dev/jwt.secret\"",
    "jwt.secret holds none that can be used; allowed is a PEM file with certificates"
)]
#[case("hook = \"x\"", "events.hook: is not a known key; allowed are webhook, webhook_token,")]
fn a_bad_webhook_is_refused_and_no_secret_shown(#[case] lines: &str, #[case] expected: &str) {
    let home = Home::new(&format!("events-{:x}", crc32fast::hash(lines.as_bytes())));
    let message = webhook(&home, lines).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
    assert!(!message.contains("hidden") && !message.contains("4711"), "{message}");
}

#[test]
fn neither_token_nor_path_are_shown_and_the_environment_replaces_the_token() {
    let home = Home::new("events-mask");
    let text = minimal("[events]\nwebhook = \"http://127.0.0.1/hidden\"\nwebhook_token = \"hidden\"\n");
    let loaded = home.parse(&text, &[]).unwrap();
    let shown = loaded.effective.to_string();
    assert!(shown.contains("webhook = \"http://127.0.0.1:80/***\""), "{shown}");
    assert!(shown.contains("webhook_token = \"***\""), "{shown}");
    assert!(!shown.contains("hidden") && !format!("{loaded:?}").contains("hidden"), "{loaded:?}");

    fs::write(home.0.join("token"), "other").unwrap();
    let other = [("GATEWAY__EVENTS__WEBHOOK_TOKEN_FILE", "token")];
    let read = home.parse(&text, &other).unwrap().config.webhook.unwrap();
    assert_eq!(read.target.token.unwrap().0, b"other");
}
