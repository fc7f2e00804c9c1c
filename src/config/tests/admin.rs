//! `[admin]`: the API over TCP and its token.

use super::*;

const LONG: &str = "0123456789abcdef0123456789abcdef";

fn admin(home: &Home, token: &str, lines: &str) -> Result<Loaded, ConfigError> {
    let path = home.0.join("admin.token");
    fs::write(&path, token).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    home.parse(&minimal(lines), &[])
}

#[test]
fn f18_the_api_over_tcp_needs_a_token_that_nobody_guesses() {
    let home = Home::new("admin-token");
    assert_eq!(admin(&home, LONG, "").unwrap().config.admin.listen, None);
    assert_eq!(
        admin(&home, LONG, "[admin]\nlisten = \"\"").unwrap().config.admin.listen,
        None,
        "switched off"
    );
    let both = "[admin]\nlisten = \"127.0.0.1:8005\"\ntoken_file = \"admin.token\"";
    let loaded = admin(&home, &format!("{LONG}\n"), both).unwrap();
    let (address, token) = loaded.config.admin.listen.unwrap();
    assert_eq!((address.port(), token.0.as_slice()), (8005, LONG.as_bytes()));
    for (token, lines, problem) in [
        (LONG, "[admin]\nlisten = \"127.0.0.1:8005\"", "admin.token_file: is missing; allowed is a file"),
        (&LONG[1..], both, "admin.token_file: holds 31 bytes; allowed are 32 and more"),
        (
            LONG,
            &both.replace("127.0.0.1:8005", "8005"),
            "admin.listen: is \"8005\"; allowed is an IP address",
        ),
        (LONG, &both.replace("admin.token", "absent"), "admin.token_file: "),
    ] {
        let message = admin(&home, token, lines).unwrap_err().to_string();
        assert!(message.starts_with(problem) && !message.contains(&LONG[1..]), "{message}");
    }
}

#[test]
fn f18_beyond_this_machine_the_token_does_not_travel_in_clear() {
    let home = Home::new("admin-clear");
    let lines = "[admin]\nlisten = \"0.0.0.0:8005\"\ntoken_file = \"admin.token\"\n";
    let message = admin(&home, LONG, lines).unwrap_err().to_string();
    assert!(message.starts_with("admin.listen: is 0.0.0.0:8005, and there is no certificate"), "{message}");
    let with_tls = "tls_listen = \"127.0.0.1:0\"\n[tls]\ncert = \"certs/dev/server.pem\"\nkey = \"certs/dev/server.key\"\n";
    assert!(admin(&home, LONG, &format!("{with_tls}{lines}")).unwrap().config.admin.listen.is_some());
}
