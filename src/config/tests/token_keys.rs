//! `[[auth.keys]]`: what is accepted, shown and refused.

use rcgen::{KeyPair, PKCS_ED25519};

use super::*;

/// [`minimal`] with other lines in `[auth]`.
fn with_keys(auth: &str) -> String {
    minimal("").replace("secret_file = \"certs/dev/jwt.secret\"", auth)
}

const NEW: &str = "[[auth.keys]]\nid = \"new\"\nalgorithm = \"EdDSA\"\npublic_key_file = \"jwt.pem\"\n";
const OLD: &str = "[[auth.keys]]\nalgorithm = \"HS256\"\nsecret = \"0123456789abcdef\"\n";

fn home(test: &str) -> Home {
    let home = Home::new(test);
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    fs::write(home.0.join("jwt.pem"), pair.public_key_pem()).unwrap();
    home
}

#[test]
fn several_keys_stand_in_their_order_with_what_they_are_for() {
    let home = home("keys");
    let text = with_keys(&format!(
        "{NEW}apps = [\"x_im\", \"kim\"]\nnot_after = 2099-02-01T00:00:00Z\n{OLD}not_after = \"2098-01-01T00:00:00Z\""
    ));
    let loaded = home.parse(&text, &[]).unwrap();
    let [new, old] = &loaded.config.token_keys[..] else { panic!("two") };
    assert!(matches!((&new.key, &old.key), (VerifyingKey::EdDsa(_), VerifyingKey::Hs256(_))));
    assert_eq!((new.id.as_deref(), old.id.as_deref()), (Some("new"), None));
    assert_eq!(new.apps.as_ref().unwrap().iter().map(String::as_str).collect::<Vec<_>>(), ["kim", "x_im"]);
    assert_eq!((new.not_after, old.not_after), (Some(4_073_587_200), Some(4_039_372_800)));

    let shown = loaded.effective.to_string();
    assert!(shown.contains("[[auth.keys]]\n") && shown.contains("secret = \"***\""), "{shown}");
    assert!(!shown.contains("0123456789abcdef") && !format!("{loaded:?}").contains("0123456789abcdef"));
    assert_eq!(shown.matches("algorithm = ").count(), 2, "only in the entries: {shown}");
    let again = shown.replace("***", "0123456789abcdef");
    assert_eq!(
        home.parse(&again, &[]).unwrap().config.token_keys.len(),
        2,
        "what is shown is a configuration"
    );
}

#[test]
fn every_mistake_names_its_entry_and_what_is_allowed() {
    let home = home("keys-refused");
    let many = OLD.repeat(17);
    for (auth, expected) in [
        (
            format!("algorithm = \"HS256\"\n{OLD}"),
            "auth.algorithm: stands beside auth.keys; allowed is either",
        ),
        (format!("secret = \"0123456789abcdef\"\n{OLD}"), "auth.secret: stands beside auth.keys"),
        (
            format!("secret_file = \"certs/dev/jwt.secret\"\n{OLD}"),
            "auth.secret_file: stands beside auth.keys",
        ),
        (format!("public_key_file = \"jwt.pem\"\n{OLD}"), "auth.public_key_file: stands beside auth.keys"),
        (
            format!("{NEW}{OLD}{NEW}"),
            "auth.keys[2].id: is \"new\", as is auth.keys[0].id; allowed is each id once",
        ),
        (format!("{OLD}id = \"\""), "auth.keys[0].id: has 0 bytes; allowed are 1 to 256"),
        (format!("{OLD}id = \"{}\"", "k".repeat(257)), "auth.keys[0].id: has 257 bytes; allowed"),
        (format!("{OLD}id = \"a\\nb\""), "auth.keys[0].id: has 3 bytes; allowed"),
        (format!("{OLD}id = 7"), "auth.keys[0].id: is 7; allowed is a string"),
        (format!("{OLD}apps = []"), "auth.keys[0].apps: is no list of 1 to 256 apps"),
        (format!("{OLD}apps = [\"\"]"), "auth.keys[0].apps: is no list of 1 to 256 apps"),
        (
            format!("{OLD}not_after = \"tomorrow\""),
            "auth.keys[0].not_after: is \"tomorrow\"; allowed is a time in UTC",
        ),
        (
            format!("{OLD}not_after = 2099-02-01"),
            "auth.keys[0].not_after: is \"2099-02-01\"; allowed is a time",
        ),
        (format!("{OLD}not_after = 7"), "auth.keys[0].not_after: is 7; allowed is a time in UTC"),
        (format!("{OLD}not_after = {{}}"), "auth.keys[0].not_after: is map; allowed is a time in UTC"),
        (format!("{OLD}not_after = 2001-01-01T00:00:00Z"), "auth.keys: have all reached their not_after"),
        (format!("{OLD}kid = \"a\""), "auth.keys[0].kid: is not a known key; allowed are id, algorithm"),
        ("[[auth.keys]]\nid = \"a\"".into(), "auth.keys[0].algorithm: is missing"),
        ("[[auth.keys]]\nalgorithm = \"none\"".into(), "auth.keys[0].algorithm: is \"none\"; allowed are"),
        (
            "[[auth.keys]]\nalgorithm = \"HS256\"".into(),
            "auth.keys[0].secret_file: is missing, as is auth.keys[0].secret",
        ),
        (
            "[[auth.keys]]\nalgorithm = \"RS256\"\nsecret = \"0123456789abcdef\"".into(),
            "auth.keys[0].secret: is for HS256; allowed with auth.keys[0].algorithm \"RS256\" is auth.keys[0].public_key_file",
        ),
        (format!("{NEW}secret = \"0123456789abcdef\""), "auth.keys[0].secret: is for HS256"),
        (format!("{OLD}public_key_file = \"jwt.pem\""), "auth.keys[0].public_key_file: is for \"RS256\""),
        (
            format!("{OLD}{}", OLD.replace("0123456789abcdef", "jwt-1sNzdiSgnNuxyq2g7xml2JvLArU")),
            "auth.keys[1].secret: holds a secret that is published",
        ),
        (
            OLD.replace("0123456789abcdef", "short"),
            "auth.keys[0].secret: holds 5 bytes; allowed are 16 and more",
        ),
        ("keys = [\"0123456789abcdef\"]".into(), "auth.keys[0]: is of another kind; allowed is"),
        ("keys = \"0123456789abcdef\"".into(), "auth.keys: is of another kind; allowed is"),
        (many, "auth.keys: has 17 entries; allowed are at most 16"),
    ] {
        let message = home.refused(&with_keys(&auth), &[]);
        assert!(message.starts_with(expected), "{message}\n{auth}");
        assert!(!message.contains("0123456789abcdef") && !message.contains("1sNz"), "{message}");
    }
    let loaded = home.parse(&with_keys(&format!("{NEW}{OLD}not_after = 2001-01-01T00:00:00Z")), &[]).unwrap();
    let told = "auth.keys[1].not_after: has come; no token of this key is accepted";
    assert!(loaded.warnings.iter().any(|warning| warning == told), "{:?}", loaded.warnings);
}

#[test]
fn what_the_environment_has_of_either_form_replaces_the_other_of_the_file() {
    let home = home("keys-override");
    let keys = r#"[{id = "a", algorithm = "HS256", secret = "fedcba9876543210"}]"#;
    let list = [("GATEWAY__AUTH__KEYS", keys)];
    for text in
        [minimal(""), with_keys(NEW), with_keys("algorithm = \"EdDSA\"\npublic_key_file = \"jwt.pem\"")]
    {
        let loaded = home.parse(&text, &list).unwrap();
        assert_eq!(loaded.config.token_keys[0].id.as_deref(), Some("a"));
        assert!(!loaded.effective.to_string().contains("fedcba"));
        assert_eq!(only_secret(loaded).0, b"fedcba9876543210");
    }
    let json =
        [("GATEWAY__AUTH__KEYS", r#"[{"id": 2027, "algorithm": "HS256", "secret": 1234567890123456}]"#)];
    let loaded = home.parse(&minimal(""), &json).unwrap();
    assert_eq!(loaded.config.token_keys[0].id.as_deref(), Some("2027"));
    assert_eq!(only_secret(loaded).0, b"1234567890123456");
    let alone = [("GATEWAY__AUTH__SECRET", "fedcba9876543210")];
    assert_eq!(only_secret(home.parse(&with_keys(NEW), &alone).unwrap()).0, b"fedcba9876543210");
    let message = home.refused(&minimal(""), &[list[0], alone[0]]);
    assert!(message.starts_with("auth.secret: stands beside auth.keys"), "{message}");
    let message = home.refused(&minimal(""), &[("GATEWAY__AUTH__KEYS", "fedcba9876543210")]);
    assert!(
        message.contains("is no list; allowed is a JSON array") && message.contains("algorithm = "),
        "{message}"
    );
    assert!(!message.contains("fedcba"), "{message}");
}

#[test]
fn who_makes_tokens_gets_the_keys_without_the_rest_of_the_configuration() {
    let home = home("keys-only");
    let path = home.0.join("gateway.toml");
    fs::write(&path, with_keys(&format!("issuer = \"us\"\n{OLD}")).replace("config/route.json", "none"))
        .unwrap();
    let (keys, expected) = load_token_keys(&path, &home.options(&[])).unwrap();
    assert_eq!((keys.len(), expected.issuer.as_deref()), (1, Some("us")));
}

#[test]
fn b19_sessions_end_with_their_tokens_only_where_that_is_configured() {
    let home = Home::new("on-expiry");
    let with = |lines: &str| minimal("").replace("[auth]\n", &format!("[auth]\n{lines}\n"));
    let on_expiry = |lines: &str| home.parse(&with(lines), &[]).unwrap().config.on_expiry;
    assert_eq!(on_expiry(""), OnExpiry::Keep);
    assert_eq!(on_expiry("on_expiry = \"close\""), OnExpiry::Close(Duration::from_secs(30)));
    let zero = "on_expiry = \"close\"\nexpiry_grace = \"0s\"";
    assert_eq!(on_expiry(zero), OnExpiry::Close(Duration::ZERO));
    let message = home.refused(&with("on_expiry = true"), &[]);
    assert!(message.starts_with("auth.on_expiry: is true; allowed is a string"), "{message}");
    let message = home.refused(&with("on_expiry = \"end\""), &[]);
    assert!(
        message.starts_with("auth.on_expiry: is \"end\"; allowed are \"keep\" and \"close\""),
        "{message}"
    );
    let message = home.refused(&with("expiry_grace = \"2h\""), &[]);
    assert!(
        message.starts_with("auth.expiry_grace: is 2h; allowed are whole seconds from 0s to 1h"),
        "{message}"
    );
}

/// A set with an Ed25519 key of this id, and a secret.
fn key_set(home: &Home, id: &str, secret: &str) {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let x = encode(KeyPair::generate_for(&PKCS_ED25519).unwrap().public_key_raw());
    let k = encode(secret.as_bytes());
    let text = format!(
        r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}},{{"kty":"oct","kid":"s","k":"{k}"}}]}}"#
    );
    fs::write(home.0.join("jwks.json"), text).unwrap();
    fs::set_permissions(home.0.join("jwks.json"), fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn a_key_set_stands_beside_the_keys_of_the_file_or_instead_of_them() {
    let home = home("jwks-file");
    key_set(&home, "published", "0123456789abcdef");
    for (auth, keys) in [
        ("jwks_file = \"jwks.json\"".to_owned(), 2),
        ("secret_file = \"certs/dev/jwt.secret\"\njwks_file = \"jwks.json\"".to_owned(), 3),
        (format!("jwks_file = \"jwks.json\"\n{NEW}{OLD}"), 4),
    ] {
        let loaded = home.parse(&with_keys(&auth), &[]).unwrap();
        assert_eq!(loaded.config.token_keys.len(), keys, "{auth}");
        assert!(loaded.config.jwks.is_none());
        let told = "auth.jwks_file: other users can read";
        assert!(loaded.warnings.iter().any(|warning| warning.starts_with(told)), "{:?}", loaded.warnings);
        let shown = loaded.effective.to_string();
        assert_eq!(shown.contains("algorithm = "), keys > 2, "{shown}");
        let again = shown.replace("***", "0123456789abcdef");
        assert_eq!(home.parse(&again, &[]).unwrap().config.token_keys.len(), keys, "{shown}");
    }
    key_set(&home, "new", "0123456789abcdef");
    let message = home.refused(&with_keys(&format!("jwks_file = \"jwks.json\"\n{NEW}")), &[]);
    assert!(
        message.contains("jwks.json has a key with the id of auth.keys[0]; allowed is each id once"),
        "{message}"
    );
    key_set(&home, "new", "short");
    let loaded = home.parse(&with_keys("jwks_file = \"jwks.json\""), &[]).unwrap();
    let told = "auth.jwks_file: key 1 is left out: it is a secret that is too short, or published";
    assert!(loaded.warnings.iter().any(|warning| warning == told), "{:?}", loaded.warnings);
    fs::write(home.0.join("jwks.json"), "{}").unwrap();
    let message = home.refused(&with_keys("jwks_file = \"jwks.json\""), &[]);
    assert!(message.contains("jwks.json is no JSON Web Key Set; allowed is a JSON object"), "{message}");
    let message = home.refused(&with_keys("jwks_file = \"none\""), &[]);
    assert!(message.contains("none does not exist; allowed is a file with a JSON Web Key Set"), "{message}");
}

#[test]
fn keys_are_fetched_over_tls_or_from_this_machine() {
    let home = home("jwks-url");
    let url = |lines: &str| home.parse(&with_keys(lines), &[]);
    let found =
        url("jwks_url = \"https://id.example/keys?v=2\"\njwks_ca_file = \"certs/dev/ca.pem\"").unwrap();
    let JwksUrl { target, path } = found.config.jwks.unwrap();
    assert_eq!(
        (target.tls, target.host.as_str(), target.port, path.as_str()),
        (true, "id.example", 443, "/keys?v=2")
    );
    assert_eq!((target.roots.len(), found.config.token_keys.len()), (1, 0));
    let local = url(&format!("jwks_url = \"http://127.0.0.1:9/keys\"\n{OLD}")).unwrap();
    assert_eq!((local.config.jwks.unwrap().target.tls, local.config.token_keys.len()), (false, 1));
    let off = url("jwks_url = \"\"\nsecret_file = \"certs/dev/jwt.secret\"").unwrap();
    assert!(off.config.jwks.is_none());
    for (lines, expected) in [
        (
            "jwks_url = \"http://id.example/keys\"",
            "auth.jwks_url: is no URL keys can be fetched from; allowed is https://",
        ),
        (
            "jwks_url = \"https://user:hidden@id.example/\"",
            "auth.jwks_url: is no URL keys can be fetched from",
        ),
        ("jwks_url = \"id.example\"", "auth.jwks_url: is no URL keys can be fetched from"),
        (
            "jwks_ca_file = \"certs/dev/ca.pem\"\nsecret_file = \"certs/dev/jwt.secret\"",
            "auth.jwks_ca_file: is set without auth.jwks_url; allowed is both or neither",
        ),
        (
            "jwks_url = \"http://127.0.0.1/\"\njwks_ca_file = \"certs/dev/ca.pem\"",
            "auth.jwks_ca_file: is set, but auth.jwks_url",
        ),
        (
            "jwks_url = \"https://h/\"\njwks_file = \"jwks.json\"",
            "auth.jwks_file: stands beside auth.jwks_url; allowed is one",
        ),
        ("jwks_url = \"\"", "auth.secret_file: is missing"),
        ("jwks_url = \"https://h/\"\nalgorithm = \"HS256\"", "auth.secret_file: is missing"),
    ] {
        let message = home.refused(&with_keys(lines), &[]);
        assert!(message.starts_with(expected) && !message.contains("hidden"), "{message}");
    }
}
