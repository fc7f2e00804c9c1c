//! Public keys: each algorithm accepts what its own key signed, and nothing that looks like it.

mod expected_claims;
mod key_ids;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData as _, SignatureAlgorithm,
};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::config::{KeyKind, PublicKey, Secret, TokenKey, VerifyingKey};

const SECRET: &[u8] = b"a secret of the tests, 32 bytes!";
const NOW: u64 = 1_700_000_000;
const MAX_TOKEN: usize = 4096;
const MAX_ACCOUNT: usize = 128;
const CLAIMS: &str = r#"{"acc":"alice","app":"x_im","exp":1800000000}"#;

/// One way to sign, and the configuration that verifies it.
struct Way {
    name: &'static str,
    algorithm: Algorithm,
    signs: EncodingKey,
    key: VerifyingKey,
    /// None for the shared secret.
    pair: Option<KeyPair>,
}

impl Way {
    fn hmac() -> Self {
        Self {
            name: "HS256",
            algorithm: Algorithm::HS256,
            signs: EncodingKey::from_secret(SECRET),
            key: VerifyingKey::Hs256(Secret(SECRET.to_vec())),
            pair: None,
        }
    }

    fn new(name: &'static str, kind: &'static SignatureAlgorithm) -> Self {
        let pair = KeyPair::generate_for(kind).unwrap();
        let (private, public) = (pair.serialize_pem(), pair.public_key_pem());
        let read = |kind| PublicKey::from_pem(public.as_bytes(), kind).unwrap();
        let (algorithm, signs, key) = match name {
            "RS256" => (
                Algorithm::RS256,
                EncodingKey::from_rsa_pem(private.as_bytes()),
                VerifyingKey::Rs256(read(KeyKind::Rsa)),
            ),
            "ES256" => (
                Algorithm::ES256,
                EncodingKey::from_ec_pem(private.as_bytes()),
                VerifyingKey::Es256(read(KeyKind::P256)),
            ),
            _ => (
                Algorithm::EdDSA,
                EncodingKey::from_ed_pem(private.as_bytes()),
                VerifyingKey::EdDsa(read(KeyKind::Ed25519)),
            ),
        };
        Self { name, algorithm, signs: signs.unwrap(), key, pair: Some(pair) }
    }

    /// A token whose header may lie.
    fn sign(&self, header: &str, claims: &str) -> String {
        signed(header, claims, &self.signs, self.algorithm)
    }

    fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.verify_expecting(token, &ExpectedClaims::default())
    }

    fn verify_expecting(&self, token: &str, expected: &ExpectedClaims) -> Result<Claims, TokenError> {
        Verifier::new(KeySet::new(&[self.key.clone().into()]), expected).verify(
            token,
            NOW,
            MAX_TOKEN,
            MAX_ACCOUNT,
        )
    }
}

/// All four; making RSA keys takes a while.
static WAYS: LazyLock<[Way; 4]> = LazyLock::new(|| {
    [
        Way::hmac(),
        Way::new("RS256", &PKCS_RSA_SHA256),
        Way::new("ES256", &PKCS_ECDSA_P256_SHA256),
        Way::new("EdDSA", &PKCS_ED25519),
    ]
});

fn signed(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn header(alg: &str) -> String {
    json!({ "alg": alg, "typ": "JWT" }).to_string()
}

#[test]
fn b10_each_algorithm_accepts_what_its_own_key_signed() {
    for way in WAYS.iter() {
        let token = way.sign(&header(way.name), CLAIMS);
        assert_eq!(way.verify(&token).unwrap().account, "alice", "{}", way.name);
        let minted = match &way.pair {
            None => SigningKey::from_secret(SECRET),
            Some(pair) => SigningKey::from_pem(pair.serialize_pem().as_bytes()).unwrap(),
        };
        let token = minted.mint_until("bob", "x_im", NOW + 1, &ExpectedClaims::default());
        assert_eq!(way.verify(&token).unwrap().account, "bob", "{}", way.name);
        assert_eq!(format!("{:?}", minted.token_key().key), format!("{:?}", way.key));
    }
}

#[test]
fn b11_no_algorithm_is_taken_for_another_in_any_pair() {
    let mut pairs = 0;
    for configured in WAYS.iter() {
        for other in WAYS.iter().filter(|other| other.name != configured.name) {
            let what = format!("{} configured, {} came", configured.name, other.name);
            let honest = other.sign(&header(other.name), CLAIMS);
            assert_eq!(configured.verify(&honest), Err(TokenError::Algorithm), "{what}");
            let lying = other.sign(&header(configured.name), CLAIMS);
            assert_eq!(configured.verify(&lying), Err(TokenError::Signature), "{what}, and lied");
            let relabelled = configured.sign(&header(other.name), CLAIMS);
            assert_eq!(configured.verify(&relabelled), Err(TokenError::Algorithm), "{what}, relabelled");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 12);
}

#[test]
fn b11_a_public_key_is_never_an_hmac_secret() {
    for way in &WAYS[1..] {
        let pair = way.pair.as_ref().unwrap();
        let pem = pair.public_key_pem();
        let forms: [Vec<u8>; 4] = [
            pem.clone().into_bytes(),
            pem.trim_end().as_bytes().to_vec(),
            pair.subject_public_key_info(),
            pair.public_key_raw().to_vec(),
        ];
        for secret in forms {
            let key = EncodingKey::from_secret(&secret);
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let honest = signed(&header(&format!("{algorithm:?}")), CLAIMS, &key, algorithm);
                assert_eq!(way.verify(&honest), Err(TokenError::Algorithm), "{}", way.name);
                let lying = signed(&header(way.name), CLAIMS, &key, algorithm);
                assert_eq!(way.verify(&lying), Err(TokenError::Signature), "{}", way.name);
            }
        }
    }
}

#[test]
fn b10_b11_no_other_alg_and_no_crit_under_any_configuration() {
    let known = [
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
        "ES512", "ES256K", "EdDSA", "Ed25519", "Ed448", "none", "None", "", "rs256", "es256", "eddsa",
        "EDDSA",
    ];
    for way in WAYS.iter() {
        for alg in known.iter().filter(|alg| **alg != way.name) {
            let token = way.sign(&header(alg), CLAIMS);
            assert_eq!(way.verify(&token), Err(TokenError::Algorithm), "{} {alg}", way.name);
        }
        for crit in [json!(["exp"]), json!([]), json!(null), json!("b64")] {
            let critical = json!({ "alg": way.name, "crit": crit }).to_string();
            assert_eq!(way.verify(&way.sign(&critical, CLAIMS)), Err(TokenError::Algorithm), "{critical}");
        }
        let hints = json!({ "alg": way.name, "kid": "../key", "jku": "https://example.org", "jwk": {} });
        assert!(way.verify(&way.sign(&hints.to_string(), CLAIMS)).is_ok(), "hints are ignored");
    }
}

#[rstest]
#[case(Algorithm::RS384)]
#[case(Algorithm::RS512)]
#[case(Algorithm::PS256)]
fn b11_another_rsa_signature_that_claims_rs256(#[case] algorithm: Algorithm) {
    let token = signed(&header("RS256"), CLAIMS, &WAYS[1].signs, algorithm);
    assert_eq!(WAYS[1].verify(&token), Err(TokenError::Signature));
}

#[test]
fn b14_another_key_a_changed_token_and_signatures_that_are_none() {
    let others = [
        Way::new("RS256", &PKCS_RSA_SHA256),
        Way::new("ES256", &PKCS_ECDSA_P256_SHA256),
        Way::new("EdDSA", &PKCS_ED25519),
    ];
    for (way, other) in WAYS[1..].iter().zip(&others) {
        assert_eq!(way.name, other.name);
        let foreign = other.sign(&header(way.name), CLAIMS);
        assert_eq!(way.verify(&foreign), Err(TokenError::Signature), "{}", way.name);
        assert!(other.verify(&foreign).is_ok());

        let good = way.sign(&header(way.name), CLAIMS);
        let (message, signature) = good.rsplit_once('.').unwrap();
        let forged = URL_SAFE_NO_PAD.encode(CLAIMS.replace("alice", "mallory"));
        let (head, _) = message.split_once('.').unwrap();
        let length = URL_SAFE_NO_PAD.decode(signature).unwrap().len();
        let zeros = URL_SAFE_NO_PAD.encode(vec![0; length]);
        let ones = URL_SAFE_NO_PAD.encode(vec![255; length]);
        for changed in [
            format!("{head}.{forged}.{signature}"),
            format!("{message}."),
            format!("{message}.{zeros}"),
            format!("{message}.{ones}"),
            format!("{message}.AAAA"),
            format!("{message}.{signature}AAAA"),
        ] {
            assert_eq!(way.verify(&changed), Err(TokenError::Signature), "{}: {changed}", way.name);
        }
    }
}

#[test]
fn b14_an_es256_signature_in_der_is_refused() {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

    let der = WAYS[2].pair.as_ref().unwrap().serialize_der();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der).unwrap();
    let good = WAYS[2].sign(&header("ES256"), CLAIMS);
    let (message, _) = good.rsplit_once('.').unwrap();
    let signature = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    assert_eq!(WAYS[2].verify(&token), Err(TokenError::Signature));
}
