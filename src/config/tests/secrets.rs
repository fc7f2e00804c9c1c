//! Secrets: which are good enough, where they come from, and that none is shown.

use super::*;

#[test]
fn b14_weak_and_published_secrets_are_refused_but_in_dev() {
    let home = Home::new("b14");
    for (secret, problem) in [
        ("", "holds 0 bytes; allowed are 16 and more"),
        ("fifteen-bytes!!", "holds 15 bytes; allowed are 16 and more"),
        ("fifteen-bytes!!\0\0", "holds 15 bytes; allowed are 16 and more"),
        (&"\0".repeat(32), "holds 0 bytes; allowed are 16 and more"),
        ("jwt-1sNzdiSgnNuxyq2g7xml2JvLArU", "holds a secret that is published; allowed is one of your own"),
        (
            "jwt-1sNzdiSgnNuxyq2g7xml2JvLArU\0\0",
            "holds a secret that is published; allowed is one of your own",
        ),
    ] {
        let inline = minimal("").replace(
            "secret_file = \"certs/dev/jwt.secret\"",
            &format!("secret = {}", toml::Value::from(secret)),
        );
        let message = home.refused(&inline, &[]);
        assert!(message.starts_with(&format!("auth.secret: {problem}")), "{message}");
        assert!(secret.is_empty() || !message.contains(secret), "{message}");

        fs::write(home.0.join("certs/dev/jwt.secret"), format!("{secret}\n")).unwrap();
        let message = home.refused(&minimal(""), &[]);
        assert!(message.starts_with(&format!("auth.secret_file: {problem}")), "{message}");

        let dev = Options { dev: true, ..home.options(&[]) };
        let read = only_secret(parse(&inline, "dev", &dev).unwrap());
        assert_eq!(read.0, secret.as_bytes());
    }
    let long_enough =
        minimal("").replace("secret_file = \"certs/dev/jwt.secret\"", "secret = \"0123456789abcdef\"");
    assert!(home.parse(&long_enough, &[]).is_ok());
}

/// A token made with `gateway token` is good only if both sides take the same bytes.
#[test]
fn a_secret_file_is_the_same_for_the_gateway_and_for_who_makes_tokens() {
    let home = Home::new("secret-file");
    let path = home.0.join("certs/dev/jwt.secret");
    for (written, secret) in [
        ("0123456789abcdef \n", "0123456789abcdef "),
        ("0123456789abcdef\t\r\n", "0123456789abcdef\t"),
        ("0123456789abcdef\n\n", "0123456789abcdef"),
    ] {
        fs::write(&path, written).unwrap();
        let read = only_secret(home.parse(&minimal(""), &[]).unwrap());
        assert_eq!(read.0, secret.as_bytes());
        assert_eq!(Secret::from_file(&path).unwrap(), read);
    }
    let message = Secret::from_file(&home.0).unwrap_err().to_string();
    assert!(message.ends_with("is no file"), "{message}");
}

#[test]
fn a_secret_in_the_environment_replaces_the_file_of_the_configuration() {
    let home = Home::new("secret-override");
    let environment = [("GATEWAY__AUTH__SECRET", "0123456789abcdef")];
    let loaded = home.parse(&minimal(""), &environment).unwrap();
    let shown = loaded.effective.to_string();
    assert_eq!(only_secret(loaded).0, b"0123456789abcdef");
    assert!(!shown.contains("secret_file") && !shown.contains("0123456789abcdef"), "{shown}");
    let both = [environment[0], ("GATEWAY__AUTH__SECRET_FILE", "certs/dev/jwt.secret")];
    assert!(home.refused(&minimal(""), &both).contains("allowed is one of them"));
}

#[test]
fn secrets_are_masked_wherever_a_configuration_is_shown() {
    let home = Home::new("mask");
    let secret = "do-not-show-this-secret";
    let text =
        minimal("").replace("secret_file = \"certs/dev/jwt.secret\"", &format!("secret = \"{secret}\""));
    let loaded = home.parse(&text, &[]).unwrap();
    let shown = loaded.effective.to_string();
    assert!(shown.contains("secret = \"***\""), "{shown}");
    assert!(!shown.contains(secret) && !format!("{loaded:?}").contains(secret));
    let number = text.replace(&format!("\"{secret}\""), "12345678901234567");
    let message = home.refused(&number, &[]);
    assert!(!message.contains("12345678901234567"), "{message}");
}
