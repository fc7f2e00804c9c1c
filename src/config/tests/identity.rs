//! `[tls]`: what is refused, what is warned of, and hints that fit (row H18). What makes a chain good or bad is tested in
//! `certs`.

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};

use super::*;

fn tls() -> String {
    minimal("tls_listen = [\"127.0.0.1:0\"]\n[tls]\ncert = \"mine/chain.pem\"\nkey = \"mine/chain.key\"\n")
}

impl Home {
    /// A certificate from elsewhere, with its key.
    fn put_chain(&self, change: impl FnOnce(&mut CertificateParams)) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["gw.example.org".to_owned()]).unwrap();
        change(&mut params);
        let pem = params.self_signed(&key).unwrap().pem();
        fs::create_dir_all(self.0.join("mine")).unwrap();
        fs::write(self.0.join("mine/chain.pem"), &pem).unwrap();
        fs::write(self.0.join("mine/chain.key"), key.serialize_pem()).unwrap();
        fs::set_permissions(self.0.join("mine/chain.key"), fs::Permissions::from_mode(0o600)).unwrap();
        pem
    }
}

#[test]
fn h18_a_chain_that_no_client_accepts_is_refused() {
    let home = Home::new("chain-refused");
    home.put_chain(|_| {});
    assert!(home.parse(&tls(), &[]).is_ok());
    type Change = fn(&mut CertificateParams);
    let changes: [(Change, &str); 4] = [
        (
            |params| params.not_before = rcgen::date_time_ymd(2999, 1, 1),
            "is not valid before 2999-01-01T00:00:00Z, and",
        ),
        (|params| params.subject_alt_names.clear(), "without a name that clients look for (subjectAltName)"),
        (
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            "has no serverAuth",
        ),
        (
            |params| {
                params.subject_alt_names =
                    CertificateParams::new(["gw.".to_owned()]).unwrap().subject_alt_names
            },
            "for \"gw.\"; with the dot at its end",
        ),
    ];
    for (change, says) in changes {
        home.put_chain(change);
        let message = home.refused(&tls(), &[]);
        assert!(message.starts_with("tls.cert: mine/chain.pem holds a certificate "), "{message}");
        assert!(message.contains(says) && !message.contains("gateway certs"), "{message}");
    }
    let good = home.put_chain(|_| {});
    let path = home.0.join("mine/chain.pem");
    fs::write(&path, good.clone() + &good.replace("-----BEGIN", "----BEGIN")).unwrap();
    assert!(
        home.refused(&tls(), &[]).contains("chain.pem holds broken PEM; allowed is a PEM chain, leaf first")
    );
    fs::write(&path, good + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(home.refused(&tls(), &[]).contains("a certificate that is no X.509 (number 2)"));
}

#[test]
fn h18_what_some_clients_refuse_is_a_warning_and_the_first_end_counts() {
    let home = Home::new("chain-warned");
    let old = home.put_chain(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let own = home.put_chain(|_| {});
    fs::write(home.0.join("mine/chain.pem"), own + &old).unwrap();
    let loaded = home.parse(&tls(), &[]).unwrap();
    let told: Vec<_> = loaded.warnings.iter().filter(|warning| warning.starts_with("tls.cert: ")).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("tls.cert: mine/chain.pem: certificate 2 ("), "{told:?}");
    assert!(told[0].contains("did not sign the one before it"), "{told:?}");
    assert!(told[1].contains("expired at 2020-01-01T00:00:00Z"), "{told:?}");
    assert_eq!(loaded.config.tls.unwrap().identity.not_after(), Some(1_577_836_800));
}

#[test]
fn h18_hints_fit_their_cause() {
    let home = Home::new("chain-hints");
    home.put_chain(|_| {});
    let (cert, key) = (home.0.join("mine/chain.pem"), home.0.join("mine/chain.key"));
    let [chain, plain] = [&cert, &key].map(|path| fs::read_to_string(path).unwrap());
    let refused = |text: &str| {
        let message = home.refused(text, &[]);
        assert!(!message.contains("gateway certs"), "not for files from elsewhere: {message}");
        message
    };
    fs::write(&key, plain.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")).unwrap();
    let message = refused(&tls());
    assert!(
        message.starts_with("tls.key: mine/chain.key holds an encrypted private key, and nobody"),
        "{message}"
    );
    assert!(message.contains("`openssl pkey -in FILE -out NEW` takes it off"), "{message}");
    fs::write(&key, &chain).unwrap();
    assert!(
        refused(&tls()).starts_with("tls.key: mine/chain.key holds a certificate; allowed is PEM: PKCS#8")
    );
    fs::write(&key, &plain).unwrap();
    fs::write(&cert, &plain).unwrap();
    assert!(
        refused(&tls()).starts_with("tls.cert: mine/chain.pem holds a private key; allowed is a PEM chain")
    );
    fs::remove_file(&cert).unwrap();
    assert!(refused(&tls()).contains("chain.pem does not exist; allowed is a PEM chain, leaf first"));

    // What `gateway certs` has made it can make again, wherever that was.
    let made = tls().replace("mine/chain.pem", "own/server.pem").replace("mine/chain.key", "own/server.key");
    let dir = home.0.join("own");
    let command = format!("`gateway certs --dir {}", dir.display());
    fs::create_dir(&dir).unwrap();
    assert!(home.refused(&made, &[]).contains(&format!("server.pem does not exist; {command}` makes it")));
    crate::certs::generate(&dir, &[], false).unwrap();
    fs::write(dir.join("server.pem"), "nonsense").unwrap();
    let message = home.refused(&made, &[]);
    assert!(message.contains(&format!("{command} --force` makes everything anew")), "{message}");
    fs::remove_file(dir.join("ca.key")).unwrap();
    assert!(!home.refused(&made, &[]).contains("--force"), "without its CA it is from elsewhere");
}

#[test]
fn c28_the_keys_of_tickets_are_read_where_they_are_named_and_their_file_is_looked_at() {
    let home = Home::new("ticket-keys");
    home.put_chain(|_| {});
    let named = |file: &str| format!("{}ticket_key_file = \"{file}\"\n", tls());
    assert!(home.parse(&tls(), &[]).unwrap().config.ticket_keys.is_none());
    let refused = |file: &str, expected: &str| {
        let message = home.refused(&named(file), &[]);
        assert!(message.contains(expected), "{message}");
    };
    refused("certs/dev/ticket.keys", "; `gateway certs --rotate-tickets` makes it");
    refused("mine/ticket.keys", "; `gateway certs --rotate-tickets --dir ");
    refused("mine/other.keys", "; allowed is the file that `gateway certs --rotate-tickets` makes");
    let path = home.0.join("mine/ticket.keys");
    for (text, expected) in [
        (
            "key 12\n".to_owned(),
            "tls.ticket_key_file: mine/ticket.keys: line 1 is not: key and 64 hex digits; allowed",
        ),
        (String::new(), "there is no line of: key and 64 hex digits"),
    ] {
        fs::write(&path, text).unwrap();
        refused("mine/ticket.keys", expected);
    }
    fs::remove_file(&path).unwrap();
    crate::certs::rotate_tickets(&home.0.join("mine")).unwrap();
    let first = home.parse(&named("mine/ticket.keys"), &[]).unwrap();
    assert!(first.warnings.iter().all(|warning| !warning.contains("ticket")), "{:?}", first.warnings);
    crate::certs::rotate_tickets(&home.0.join("mine")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let second = home.parse(&named("mine/ticket.keys"), &[]).unwrap();
    let warnings = second.warnings.join("\n");
    assert!(warnings.contains("tls.ticket_key_file: other users can read"), "{warnings}");
    let (first, second) = (first.config.ticket_keys.unwrap(), second.config.ticket_keys.unwrap());
    assert_eq!(second.iter().nth(1), first.iter().next(), "the newest stands first");
    // Where nothing is encrypted it is not looked at.
    let plain = minimal("[tls]\nticket_key_file = \"none\"\n");
    assert!(home.parse(&plain, &[]).unwrap().config.ticket_keys.is_none());
}
