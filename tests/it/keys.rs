//! Tokens under a public key, from the PEM files of an operator to a login over TCP.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use gateway::config::{Config, ConfigError};
use gateway::wire::pb;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::harness::TestGateway;
use crate::support::identity::{SECRET, claims, signed, token};
use crate::support::raw::Kind::Tcp;

/// A directory with `private.pem`, `public.pem` and a route, removed at the end.
struct Keys {
    directory: PathBuf,
    pair: KeyPair,
}

impl Keys {
    fn new(name: &str, kind: &'static SignatureAlgorithm) -> Self {
        let directory = std::env::temp_dir().join(format!("gateway-keys-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let pair = KeyPair::generate_for(kind).unwrap();
        fs::write(directory.join("private.pem"), pair.serialize_pem()).unwrap();
        fs::write(directory.join("public.pem"), pair.public_key_pem()).unwrap();
        fs::write(directory.join("route.json"), r#"{"zones":[{"id":"zone_a","weight":1}]}"#).unwrap();
        Self { directory, pair }
    }

    /// What a gateway reads that has only the public half.
    fn config(&self, algorithm: &str) -> Result<Config, ConfigError> {
        let text = format!(
            "[gateway]\nid = \"gate01\"\n[tcp]\nlisten = \"127.0.0.1:0\"\n[route]\nfile = \"route.json\"\n\
             [auth]\nalgorithm = \"{algorithm}\"\npublic_key_file = \"public.pem\"\n\
             issuer = \"https://id.example\"\naudience = \"im\"\n"
        );
        Config::from_toml(&text, &self.directory)
    }

    /// A token made by the program.
    fn token(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(["token", "--account", "alice", "--key", "private.pem"]).args(arguments);
        let output = command.current_dir(&self.directory).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A token made by another library, as the issuer of an operator would.
    fn signed(&self, algorithm: Algorithm, claims: &Value) -> String {
        let pem = self.pair.serialize_pem();
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            _ => EncodingKey::from_ed_pem(pem.as_bytes()),
        };
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key.unwrap()).unwrap()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.directory);
    }
}

#[rstest]
#[case(Algorithm::RS256, &PKCS_RSA_SHA256)]
#[case(Algorithm::ES256, &PKCS_ECDSA_P256_SHA256)]
#[case(Algorithm::EdDSA, &PKCS_ED25519)]
#[tokio::test]
async fn b10_b11_b14_b16_a_login_under_a_public_key(
    #[case] algorithm: Algorithm,
    #[case] kind: &'static SignatureAlgorithm,
) {
    let name = format!("{algorithm:?}");
    let keys = Keys::new(&name, kind);
    let config = keys.config(&name).unwrap();
    let harness = TestGateway::with(|harness| {
        harness.token_keys = config.token_keys;
        harness.expected_claims = config.expected_claims;
    })
    .await;

    let expected = |iss: &str, aud: Value| {
        let mut claims = claims("alice");
        claims["iss"] = json!(iss);
        claims["aud"] = aud;
        claims
    };
    let issuer = "https://id.example";
    let good = expected(issuer, json!(["web", "im"]));
    let mut logins = 0;
    for token in [
        keys.token(&["--issuer", issuer, "--audience", "im"]),
        keys.signed(algorithm, &good),
        keys.signed(algorithm, &expected(issuer, json!("im"))),
    ] {
        let mut alice = harness.connect(Tcp).await;
        let sequence = alice.signin(&token).await;
        assert_eq!(alice.response(sequence).await.header.status, 0);
        let signin = harness.login.packet("login.signin", logins).await;
        assert_eq!(signin.session().account, "alice");
        logins += 1;
    }

    let public = keys.pair.public_key_pem();
    let other = Keys::new(&format!("{name}-other"), kind);
    for (what, bad) in [
        ("B11 HS256 under the public key", signed(&good, Algorithm::HS256, public.as_bytes())),
        ("B11 HS256 under the secret of the tests", signed(&good, Algorithm::HS256, SECRET)),
        ("B11 a token of another configuration", token("alice")),
        ("B14 another key", other.signed(algorithm, &good)),
        ("B16 no iss, no aud", keys.token(&[])),
        ("B16 no aud", keys.token(&["--issuer", issuer])),
        ("B16 no iss", keys.token(&["--audience", "im"])),
        ("B16 another issuer", keys.signed(algorithm, &expected("https://other.example", json!("im")))),
        ("B16 another audience", keys.signed(algorithm, &expected(issuer, json!(["web"])))),
    ] {
        let mut mallory = harness.connect(Tcp).await;
        let sequence = mallory.signin(&bad).await;
        let farewell = mallory.farewell().await;
        assert_eq!(farewell.code, Some(3500), "{what}");
        let status = farewell.response(sequence).header.status;
        assert_eq!(status, pb::Status::Unauthenticated as i32, "{what}");
    }
    assert_eq!(harness.login.packets("login.signin").len(), logins, "no refused login was forwarded");
    harness.metric_is("gateway_reject_total", &["reason=\"jwt_claims\""], 5.0).await;
    harness.metric_is("gateway_reject_total", &["reason=\"jwt_alg\""], 3.0).await;
    harness.metric_is("gateway_reject_total", &["reason=\"jwt_signature\""], 1.0).await;
}

#[test]
fn the_program_signs_login_tokens_with_one_key_and_says_what_is_wrong_with_another() {
    let keys = Keys::new("program", &PKCS_ED25519);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(["token", "--account", "alice"]).args(arguments);
        let output = command.current_dir(&keys.directory).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap(), output.stdout)
    };
    let (code, stderr, stdout) = run(&["--key", "public.pem"]);
    assert_eq!((code, stdout.len()), (Some(1), 0));
    assert!(stderr.contains("public.pem cannot be used: holds a public key; allowed is one"), "{stderr}");
    let (code, stderr, _) = run(&["--key", "none.pem"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot read the key file: none.pem does not exist"), "{stderr}");
    let (code, stderr, _) = run(&["--key", "private.pem", "--secret-file", "private.pem"]);
    assert_eq!(code, Some(64), "{stderr}");
}
