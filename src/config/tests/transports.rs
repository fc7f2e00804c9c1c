//! What QUIC and TLS need of the configuration.

use super::*;

#[test]
fn quic_needs_a_matching_identity_and_keys() {
    let home = Home::new("quic");
    let text = minimal("[quic]\nlisten = \"127.0.0.1:0\"\n");
    assert!(home.parse(&text, &[]).is_ok());
    let dev = home.0.join("certs/dev");
    fs::copy(dev.join("server.key"), dev.join("kept.key")).unwrap();
    fs::copy(dev.join("ca.key"), dev.join("server.key")).unwrap();
    let message = home.refused(&text, &[]);
    assert!(
        message.starts_with("tls.key: certs/dev/server.key does not belong to tls.cert; allowed"),
        "{message}"
    );
    fs::rename(dev.join("kept.key"), dev.join("server.key")).unwrap();
    for (name, key) in [("quic.keys", "quic.key_file"), ("server.key", "tls.key"), ("server.pem", "tls.cert")]
    {
        let kept = fs::read(dev.join(name)).unwrap();
        fs::write(dev.join(name), "nonsense").unwrap();
        assert!(home.refused(&text, &[]).starts_with(&format!("{key}: ")), "{name}");
        fs::remove_file(dev.join(name)).unwrap();
        let message = home.refused(&text, &[]);
        assert!(message.starts_with(&format!("{key}: ")), "{message}");
        assert!(message.contains("does not exist; `gateway certs` makes it (default)"), "{message}");
        fs::write(dev.join(name), kept).unwrap();
    }
    assert!(home.parse(&minimal(""), &[]).is_ok(), "without QUIC none of it is read");
}

#[test]
fn tls_on_tcp_needs_an_identity_that_is_valid_and_no_quic_keys() {
    let home = Home::new("tls");
    let text = minimal("tls_listen = [\"127.0.0.1:0\"]\n");
    fs::remove_file(home.0.join("certs/dev/quic.keys")).unwrap();
    let config = home.parse(&text, &[]).unwrap().config;
    assert!(config.quic.is_none());
    let tls = config.tls.unwrap();
    assert_eq!(tls.listen, ["127.0.0.1:0".parse().unwrap()]);
    assert!(tls.identity.not_after().unwrap() > 1_700_000_000);
    let only = text.replace("listen = \"127.0.0.1:0\"\n", "");
    assert!(home.parse(&only, &[]).unwrap().config.tcp.is_empty(), "it can be the only listener");

    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 2, 3);
    let expired = params.self_signed(&key).unwrap().pem();
    fs::write(home.0.join("certs/dev/server.pem"), expired).unwrap();
    let message = home.refused(&text, &[]);
    assert!(message.starts_with("tls.key: certs/dev/server.key does not belong"), "{message}");
    fs::write(home.0.join("certs/dev/server.key"), key.serialize_pem()).unwrap();
    let message = home.refused(&text, &[]);
    let says =
        "tls.cert: certs/dev/server.pem holds a certificate that expired at 2020-02-03T00:00:00Z; allowed";
    assert!(message.starts_with(says), "{message}");
    assert!(home.parse(&minimal(""), &[]).is_ok(), "without an encrypted listener nobody would see it");
}
