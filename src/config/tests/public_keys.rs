//! `[auth]` with a public key: what is accepted, shown and refused.

use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    SignatureAlgorithm,
};

use super::*;

/// [`minimal`] with other lines in `[auth]`.
fn with_auth(auth: &str) -> String {
    minimal("").replace("secret_file = \"certs/dev/jwt.secret\"", auth)
}

fn with_key(algorithm: &str) -> String {
    with_auth(&format!("algorithm = \"{algorithm}\"\npublic_key_file = \"jwt.pem\""))
}

impl Home {
    fn put(&self, text: &str) {
        fs::write(self.0.join("jwt.pem"), text).unwrap();
    }

    fn put_key(&self, algorithm: &'static SignatureAlgorithm) -> KeyPair {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        self.put(&pair.public_key_pem());
        pair
    }
}

#[test]
fn b11_each_algorithm_takes_a_key_of_its_own_kind_and_no_other() {
    let home = Home::new("key-kinds");
    let kinds = [
        ("RS256", &PKCS_RSA_SHA256, "an RSA key"),
        ("ES256", &PKCS_ECDSA_P256_SHA256, "an EC key"),
        ("EdDSA", &PKCS_ED25519, "an Ed25519 key"),
    ];
    for (own, algorithm, name) in kinds {
        let pair = home.put_key(algorithm);
        for (configured, ..) in kinds {
            if configured == own {
                let loaded = home.parse(&with_key(own), &[]).unwrap();
                assert!(!loaded.warnings.iter().any(|warning| warning.contains("auth")), "it is no secret");
                let key = match (own, only_key(loaded)) {
                    ("RS256", VerifyingKey::Rs256(key))
                    | ("ES256", VerifyingKey::Es256(key))
                    | ("EdDSA", VerifyingKey::EdDsa(key)) => key,
                    (_, other) => panic!("{own} became {other:?}"),
                };
                assert_eq!(key.bits, pair.public_key_raw());
            } else {
                let message = home.refused(&with_key(configured), &[]);
                let start = format!("holds {name}; allowed is an");
                assert!(message.starts_with("auth.public_key_file: "), "{message}");
                let start = format!("jwt.pem (for {configured}) {start}");
                assert!(message.contains(&start) && message.ends_with("(from gateway.toml)"), "{message}");
            }
        }
    }
    home.put_key(&PKCS_ECDSA_P384_SHA384);
    assert!(
        home.refused(&with_key("ES256"), &[])
            .contains("an EC key on another or an unnamed curve; allowed is an EC")
    );
}

#[test]
fn b14_what_else_stands_in_a_key_file_is_named() {
    let home = Home::new("key-files");
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap().pem();
    let public = pair.public_key_pem();
    for (text, expected) in [
        (pair.serialize_pem(), "jwt.pem (for EdDSA) holds a private key; allowed is one public key in PEM"),
        (public.clone() + &pair.serialize_pem(), "jwt.pem (for EdDSA) holds a private key; allowed"),
        (certificate, "jwt.pem (for EdDSA) holds a certificate; allowed is one public key in PEM"),
        (public.repeat(2), "jwt.pem (for EdDSA) holds 2 keys; allowed is one public key"),
        (String::new(), "jwt.pem (for EdDSA) holds no PEM; allowed is one public key"),
        (public.replace("-----END", "-----"), "jwt.pem (for EdDSA) holds broken PEM; allowed"),
    ] {
        home.put(&text);
        let message = home.refused(&with_key("EdDSA"), &[]);
        assert!(message.starts_with("auth.public_key_file: ") && message.contains(expected), "{message}");
    }
    fs::remove_file(home.0.join("jwt.pem")).unwrap();
    let message = home.refused(&with_key("EdDSA"), &[]);
    assert!(
        message.contains("jwt.pem does not exist; allowed is a PEM file with an Ed25519 key"),
        "{message}"
    );
}

#[test]
fn a_secret_and_a_public_key_exclude_each_other_by_algorithm() {
    let home = Home::new("key-or-secret");
    home.put_key(&PKCS_ED25519);
    let public = "public_key_file = \"jwt.pem\"";
    for (auth, expected) in [
        (
            "algorithm = \"EdDSA\"".to_owned(),
            "auth.public_key_file: is missing; allowed is a PEM file with an",
        ),
        (
            "algorithm = \"EdDSA\"\nsecret_file = \"certs/dev/jwt.secret\"".to_owned(),
            "auth.secret_file: is for HS256; allowed with auth.algorithm \"EdDSA\" is auth.public_key_file alone",
        ),
        (
            format!("algorithm = \"EdDSA\"\nsecret = \"0123456789abcdef\"\n{public}"),
            "auth.secret: is for HS256; allowed with",
        ),
        (public.to_owned(), "auth.public_key_file: is for \"RS256\", \"ES256\" and \"EdDSA\"; allowed with"),
        (
            format!("secret_file = \"certs/dev/jwt.secret\"\n{public}"),
            "auth.public_key_file: is for \"RS256\", \"ES256\" and \"EdDSA\"; allowed with",
        ),
    ] {
        let message = home.refused(&with_auth(&auth), &[]);
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains("0123456789abcdef"), "{message}");
    }
}

#[test]
fn a_public_key_in_the_environment_replaces_the_secret_of_the_file() {
    let home = Home::new("key-override");
    home.put_key(&PKCS_ED25519);
    let environment = [
        ("GATEWAY__AUTH__ALGORITHM", "EdDSA"),
        ("GATEWAY__AUTH__PUBLIC_KEY_FILE", "jwt.pem"),
        ("GATEWAY__AUTH__ISSUER", "007"),
        ("GATEWAY__AUTH__AUDIENCE", "im"),
    ];
    let loaded = home.parse(&shipped("gateway.toml"), &environment).unwrap();
    let expected = ExpectedClaims { issuer: Some("007".into()), audience: Some("im".into()) };
    assert_eq!(loaded.config.expected_claims, expected);
    assert!(matches!(only_key(loaded), VerifyingKey::EdDsa(_)));
    let back = [("GATEWAY__AUTH__ALGORITHM", "HS256"), ("GATEWAY__AUTH__SECRET", "0123456789abcdef")];
    assert!(matches!(only_key(home.parse(&with_key("EdDSA"), &back).unwrap()), VerifyingKey::Hs256(_)));
}

#[test]
fn check_shows_the_key_file_and_the_expected_claims() {
    let home = Home::new("key-shown");
    home.put_key(&PKCS_ECDSA_P256_SHA256);
    let text = with_auth(
        "algorithm = \"ES256\"\npublic_key_file = \"jwt.pem\"\nissuer = \"https://id.example\"\naudience = \"im\"",
    );
    let shown = home.parse(&text, &[]).unwrap().effective.to_string();
    for line in [
        "algorithm = \"ES256\"",
        "public_key_file = \"jwt.pem\"",
        "issuer = \"https://id.example\"",
        "audience = \"im\"",
    ] {
        assert!(
            shown.lines().any(|shown| shown.starts_with(line) && shown.ends_with("# from gateway.toml")),
            "{shown}"
        );
    }
    assert!(home.parse(&shown, &[]).is_ok(), "what is shown is a configuration");
    let plain = home.parse(&minimal(""), &[]).unwrap();
    assert_eq!(plain.config.expected_claims, ExpectedClaims::default());
}
