//! What stands in front of, behind and in place of the text of a file (row H17).

use super::*;

const MARK: &str = "\u{feff}";

fn utf_16(text: &str) -> Vec<u8> {
    format!("{MARK}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A configuration that reads every kind of file there is.
fn with_every_file() -> String {
    minimal("tls_listen = \"127.0.0.1:0\"\n[quic]\nlisten = \"127.0.0.1:0\"\n")
}

#[test]
fn h17_a_byte_order_mark_is_skipped_in_every_file_but_a_secret() {
    let home = Home::new("marks");
    let config = home.0.join("gateway.toml");
    fs::write(&config, MARK.to_owned() + &with_every_file()).unwrap();
    let files = ["config/route.json", "certs/dev/server.pem", "certs/dev/server.key", "certs/dev/quic.keys"];
    for name in files {
        let path = home.0.join(name);
        let text = fs::read(&path).unwrap();
        fs::write(&path, [MARK.as_bytes(), &text].concat()).unwrap();
    }
    load(&config, &home.options(&[])).unwrap();
    assert!(load_routing(&config, &home.options(&[])).is_ok());

    for name in files {
        let path = home.0.join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, utf_16(text.trim_start_matches(MARK))).unwrap();
        let message = load(&config, &home.options(&[])).unwrap_err().to_string();
        assert!(message.contains(&format!("{name} is UTF-16 text; save it as UTF-8")), "{message}");
        fs::write(&path, text).unwrap();
    }
    fs::write(&config, utf_16(&with_every_file())).unwrap();
    let message = load(&config, &home.options(&[])).unwrap_err().to_string();
    assert!(message.contains("gateway.toml is UTF-16 text"), "{message}");
    let message = load_routing(&config, &home.options(&[])).unwrap_err().to_string();
    assert!(message.contains("gateway.toml is UTF-16 text"), "{message}");

    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    fs::write(home.0.join("jwt.pem"), MARK.to_owned() + &key.public_key_pem()).unwrap();
    let auth = "algorithm = \"EdDSA\"\npublic_key_file = \"jwt.pem\"";
    let text = minimal("").replace("secret_file = \"certs/dev/jwt.secret\"", auth);
    assert!(home.parse(&text, &[]).is_ok());
}

/// The three secrets there are, each with the table that holds it and its key.
fn secrets() -> [(&'static str, &'static str, String); 3] {
    let consul =
        "[discovery]\nkind = \"consul\"\nservices = [\"login\"]\n[discovery.register]\nenabled = false\n";
    [
        ("auth", "secret", minimal("").replace("secret_file = \"certs/dev/jwt.secret\"", "@")),
        ("discovery.consul", "token", minimal(&format!("{consul}[discovery.consul]\n@\n"))),
        ("events", "webhook_token", minimal("[events]\nwebhook = \"http://127.0.0.1:1/\"\n@\n")),
    ]
}

#[test]
fn h17_one_rule_says_what_of_a_file_a_key_or_a_variable_is_the_secret() {
    let home = Home::new("secrets");
    for (section, key, text) in secrets() {
        let variable = format!("GATEWAY__{}__{}", section.replace('.', "__"), key).to_uppercase();
        let inline = |secret: &str| {
            let value = toml::Value::from(secret).to_string();
            home.parse(&text.replace('@', &format!("{key} = {value}")), &[])
        };
        let in_variable = |secret: &str| home.parse(&text.replace('@', ""), &[(&variable, secret)]);
        let in_file = |secret: &[u8]| {
            let path = home.0.join("secret");
            fs::write(&path, secret).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            home.parse(&text.replace('@', &format!("{key}_file = \"secret\"")), &[])
        };
        let taken = |loaded: Result<Loaded, ConfigError>| {
            let mut loaded = loaded.unwrap();
            if section == "auth" {
                return only_secret(loaded).0;
            }
            let agent = loaded.config.consul.take().and_then(|consul| consul.agent.token);
            agent.or(loaded.config.webhook.and_then(|hook| hook.target.token)).unwrap().0
        };
        for end in ["", "\n", "\r\n", "\n\n"] {
            let written = format!("0123456789abcdef{end}");
            for found in [inline(&written), in_variable(&written), in_file(written.as_bytes())] {
                assert_eq!(taken(found), b"0123456789abcdef", "{section} {end:?}");
            }
        }
        let marked = format!("{MARK}0123456789abcdef");
        for (found, key) in [
            (inline(&marked), format!("{section}.{key}: ")),
            (in_variable(&marked), format!("{section}.{key}: ")),
            (in_file(marked.as_bytes()), format!("{section}.{key}_file: ")),
        ] {
            let message = found.unwrap_err().to_string();
            assert!(
                message.starts_with(&key) && message.contains("begins with a byte order mark"),
                "{message}"
            );
            assert!(!message.contains("0123"), "{message}");
        }
        for wide in [utf_16("0123456789abcdef"), utf_16("0123456789abcdef")[2..].to_vec()] {
            let message = in_file(&wide).unwrap_err().to_string();
            assert!(message.contains("secret is UTF-16 text; save it as UTF-8"), "{message}");
        }
    }
}

#[test]
fn h17_blanks_and_lines_in_a_secret_are_warned_of_by_name() {
    let home = Home::new("blanks");
    let path = home.0.join("certs/dev/jwt.secret");
    for (written, says) in [
        (" 0123456789abcdef\n", Some("begins with a blank")),
        ("0123456789abcdef \r\n", Some("ends with a blank")),
        ("0123456789abcdef\t\n", Some("ends with a blank")),
        ("0123456789abcdef\n0123456789abcdef\n", Some("holds several lines")),
        ("0123456789 abcdef\n", None),
    ] {
        fs::write(&path, written).unwrap();
        let loaded = home.parse(&minimal(""), &[]).unwrap();
        let told: Vec<_> =
            loaded.warnings.iter().filter(|warning| warning.starts_with("auth.secret_file: ")).collect();
        assert_eq!(told.len(), usize::from(says.is_some()), "{written:?}: {told:?}");
        assert!(
            told.iter().all(|warning| warning.contains(says.unwrap()) && !warning.contains("0123")),
            "{told:?}"
        );
    }
}

#[test]
fn h17_a_pipe_in_place_of_a_secret_is_read_or_given_up() {
    let home = Home::new("pipe");
    let path = home.0.join("certs/dev/jwt.secret");
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let message = home.refused(&minimal(""), &[]);
    assert!(message.contains("jwt.secret is a pipe, and nobody wrote to it"), "{message}");
    std::thread::scope(|scope| {
        scope.spawn(|| fs::write(&path, "0123456789abcdef\n").unwrap());
        let loaded = home.parse(&minimal(""), &[]).unwrap();
        assert!(loaded.warnings.iter().all(|warning| !warning.contains("chmod")), "{:?}", loaded.warnings);
        assert_eq!(only_secret(loaded).0, b"0123456789abcdef");
    });
}
