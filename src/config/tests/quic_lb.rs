//! `[quic.lb]`: what is taken, from where, and what every refusal says.

use super::*;

const KEY: &str = "8f95f09245765f80256934e50c66207f";

fn lb(lines: &str) -> String {
    minimal(&format!("[quic]\nlisten = \"127.0.0.1:0\"\n[quic.lb]\n{lines}\n"))
}

impl Home {
    fn taken(&self, lines: &str, environment: &[(&str, &str)]) -> QuicLb {
        self.parse(&lb(lines), environment).unwrap().config.quic.unwrap().lb.unwrap()
    }
}

#[test]
fn a_server_id_is_hex_or_what_aws_puts_into_a_variable() {
    let home = Home::new("lb");
    let without = home.parse(&minimal("[quic]\nlisten = \"127.0.0.1:0\"\n"), &[]).unwrap();
    assert!(without.config.quic.unwrap().lb.is_none());
    for text in ["2cf06077718e08ca", "0x2CF06077718e08ca", "env:AWS_LBC_QUIC_SERVER_ID"] {
        let lb = home.taken(
            &format!("server_id = \"{text}\""),
            &[("OTHER", "AA=="), ("AWS_LBC_QUIC_SERVER_ID", "LPBgd3GOCMo=")],
        );
        assert_eq!(lb.server_id, [0x2c, 0xf0, 0x60, 0x77, 0x71, 0x8e, 0x08, 0xca]);
        assert_eq!((lb.id_len(), lb.config_id, lb.encode_length), (16, 0, false));
        assert!(lb.key.is_none());
    }
}

#[test]
fn every_key_can_be_set_in_the_environment_and_is_shown() {
    let home = Home::new("lb-environment");
    fs::write(home.0.join("lb.key"), KEY).unwrap();
    fs::set_permissions(home.0.join("lb.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let environment = [
        ("GATEWAY__QUIC__LB__SERVER_ID", "0102"),
        ("GATEWAY__QUIC__LB__NONCE_LENGTH", "14"),
        ("GATEWAY__QUIC__LB__CONFIG_ID", "6"),
        ("GATEWAY__QUIC__LB__ENCODE_LENGTH", "true"),
        ("GATEWAY__QUIC__LB__KEY_FILE", "lb.key"),
    ];
    let text = minimal("[quic]\nlisten = \"127.0.0.1:0\"\n");
    let loaded = home.parse(&text, &environment).unwrap();
    assert!(loaded.warnings.iter().all(|warning| !warning.starts_with("quic")), "{:?}", loaded.warnings);
    let shown = loaded.effective.to_string();
    assert!(shown.contains("[quic.lb]") && shown.contains("key_file = \"lb.key\""), "{shown}");
    assert!(!shown.contains(KEY), "{shown}");
    let lb = loaded.config.quic.unwrap().lb.unwrap();
    assert_eq!((&lb.server_id[..], lb.nonce_length, lb.config_id), (&[1, 2][..], 14, 6));
    assert!(lb.encode_length && !format!("{lb:?}").contains("143"), "{lb:?}");
    assert_eq!(lb.key.unwrap(), QuicLbKey::parse(KEY).unwrap());
}

#[test]
fn what_cannot_be_is_refused_by_its_key_with_what_is_allowed() {
    let home = Home::new("lb-refused");
    fs::write(home.0.join("short.key"), &KEY[2..]).unwrap();
    let sixteen = "00".repeat(16);
    for (lines, environment, says) in [
        ("", "", "quic.lb.server_id: is missing; allowed is"),
        (
            "server_id = \"\"",
            "",
            "quic.lb.server_id: is \"\", which makes 0 bytes; allowed are 1 to 15 bytes in hex",
        ),
        ("server_id = \"abc\"", "", "quic.lb.server_id: is \"abc\"; allowed are 1 to 15 bytes"),
        ("server_id = \"éé\"", "", "quic.lb.server_id: is \"éé\"; allowed"),
        (&format!("server_id = \"{sixteen}\""), "", "which makes 16 bytes; allowed"),
        (
            "server_id = \"env:ID\"",
            "",
            "is \"env:ID\", and there is no such variable in the environment; allowed",
        ),
        (
            "server_id = \"env:ID\"",
            "s3cret!",
            "is \"env:ID\", and what that variable holds is no base64; allowed",
        ),
        (
            "server_id = \"01\"\nnonce_length = 3",
            "",
            "quic.lb.nonce_length: is 3; allowed are 4 to 18, because",
        ),
        (
            "server_id = \"01\"\nnonce_length = 19",
            "",
            "quic.lb.nonce_length: is 19; allowed are 4 to 18, because",
        ),
        (
            "server_id = \"000102030405060708090a0b0c\"",
            "",
            "quic.lb.nonce_length: is 7; allowed are 4 to 6, because server_id has 13 bytes and both together may have 19",
        ),
        ("server_id = \"01\"\nconfig_id = 7", "", "quic.lb.config_id: is 7; allowed are 0 to 6"),
        ("server_id = \"01\"\nkey_file = \"none.key\"", "", "quic.lb.key_file: "),
        (
            "server_id = \"01\"\nkey_file = \"short.key\"",
            "",
            "quic.lb.key_file: short.key does not hold one line of 32 hex digits",
        ),
        (
            "server_id = \"01\"\nserver = \"01\"",
            "",
            "is not a known key; allowed are server_id, nonce_length, config_id",
        ),
    ] {
        let environment = [("ID", environment)];
        let environment = if environment[0].1.is_empty() { &[][..] } else { &environment };
        let message = home.refused(&lb(lines), environment);
        assert!(message.contains(says), "{lines}: {message}");
        assert!(!message.contains("s3cret") && !message.contains(&KEY[2..]), "{message}");
    }
}

#[test]
fn a_key_that_others_can_read_is_worth_a_word() {
    let home = Home::new("lb-open");
    fs::write(home.0.join("lb.key"), KEY).unwrap();
    fs::set_permissions(home.0.join("lb.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let loaded = home.parse(&lb("server_id = \"01\"\nkey_file = \"lb.key\""), &[]).unwrap();
    let told =
        loaded.warnings.iter().find(|warning| warning.starts_with("quic.lb.key_file: other users can read"));
    assert!(told.is_some_and(|warning| warning.ends_with("lb.key; chmod 600 it")), "{:?}", loaded.warnings);
}
