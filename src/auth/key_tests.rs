//! Public keys: each algorithm accepts what its own key signed, and nothing that looks like it.

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

fn with(extra: &str) -> String {
    CLAIMS.replace('}', &format!("{extra}}}"))
}

fn expect(issuer: Option<&str>, audience: Option<&str>) -> ExpectedClaims {
    ExpectedClaims { issuer: issuer.map(str::to_owned), audience: audience.map(str::to_owned) }
}

#[rstest]
#[case("", false)]
#[case(r#","iss":"us""#, true)]
#[case(r#","iss":"us","aud":["x"]"#, true)]
#[case(r#","iss":"Us""#, false)]
#[case(r#","iss":"us ""#, false)]
#[case(r#","iss":"them""#, false)]
#[case(r#","iss":"""#, false)]
#[case(r#","iss":null"#, false)]
#[case(r#","iss":7"#, false)]
#[case(r#","iss":["us"]"#, false)]
#[case(r#","iss":{"us":1}"#, false)]
#[case(r#","aud":"us""#, false)]
#[case(r#","iss":"them","iss":"us""#, false)]
fn b16_iss_must_be_the_configured_issuer(#[case] extra: &str, #[case] good: bool) {
    for way in WAYS.iter() {
        let token = way.sign(&header(way.name), &with(extra));
        let outcome = way.verify_expecting(&token, &expect(Some("us"), None)).map(drop);
        assert_eq!(outcome, if good { Ok(()) } else { Err(TokenError::Claims) }, "{} {extra}", way.name);
    }
}

#[rstest]
#[case("", false)]
#[case(r#","aud":"im""#, true)]
#[case(r#","aud":["im"]"#, true)]
#[case(r#","aud":["web","im"]"#, true)]
#[case(r#","aud":["web","im","im"],"iss":7"#, true)]
#[case(r#","aud":"web""#, false)]
#[case(r#","aud":"IM""#, false)]
#[case(r#","aud":"im web""#, false)]
#[case(r#","aud":"""#, false)]
#[case(r#","aud":[]"#, false)]
#[case(r#","aud":["web"]"#, false)]
#[case(r#","aud":[["im"]]"#, false)]
#[case(r#","aud":["im",7]"#, false)]
#[case(r#","aud":["im",null]"#, false)]
#[case(r#","aud":null"#, false)]
#[case(r#","aud":7"#, false)]
#[case(r#","aud":{"im":true}"#, false)]
#[case(r#","iss":"im""#, false)]
fn b16_aud_must_be_or_list_the_configured_audience(#[case] extra: &str, #[case] good: bool) {
    for way in WAYS.iter() {
        let token = way.sign(&header(way.name), &with(extra));
        let outcome = way.verify_expecting(&token, &expect(None, Some("im"))).map(drop);
        assert_eq!(outcome, if good { Ok(()) } else { Err(TokenError::Claims) }, "{} {extra}", way.name);
    }
}

#[test]
fn b16_both_are_needed_when_both_are_set_and_neither_when_none_is() {
    let way = &WAYS[0];
    let both = expect(Some("us"), Some("im"));
    for (extra, good) in [
        (r#","iss":"us","aud":"im""#, true),
        (r#","iss":"us""#, false),
        (r#","aud":"im""#, false),
        (r#","iss":"im","aud":"us""#, false),
    ] {
        let token = way.sign(&header("HS256"), &with(extra));
        assert_eq!(way.verify_expecting(&token, &both).is_ok(), good, "{extra}");
        assert!(way.verify(&token).is_ok(), "{extra}");
    }
    let minted = SigningKey::from_secret(SECRET).mint_until("alice", "x_im", NOW + 9, &both);
    assert!(way.verify_expecting(&minted, &both).is_ok());
    let expired = SigningKey::from_secret(SECRET).mint_until("alice", "x_im", NOW - 60, &both);
    assert_eq!(way.verify_expecting(&expired, &both), Err(TokenError::Expired));
}

/// All four algorithms with an id each, an HS256 key without one, one that has ended, and one for another app.
fn all_keys() -> Vec<TokenKey> {
    let mut keys: Vec<TokenKey> = WAYS
        .iter()
        .map(|way| TokenKey { id: Some(way.name.to_lowercase()), ..way.key.clone().into() })
        .collect();
    let hmac = |secret: &[u8]| TokenKey::from(VerifyingKey::Hs256(Secret(secret.to_vec())));
    keys.push(hmac(b"the secret of the key without id"));
    keys.push(TokenKey {
        id: Some("ended".into()),
        not_after: Some(NOW),
        ..hmac(b"the secret of one that has ended")
    });
    keys.push(TokenKey {
        id: Some("ends".into()),
        not_after: Some(NOW + 1),
        ..hmac(b"the secret of one that will end")
    });
    let apps = Some(["kim".to_owned()].into());
    keys.push(TokenKey { id: Some("kim".into()), apps, ..hmac(b"the secret of one for one app...") });
    keys
}

fn verify_with(keys: &[TokenKey], token: &str) -> Result<Claims, TokenError> {
    let verifier = Verifier::new(KeySet::new(keys), &ExpectedClaims::default());
    verifier.verify(token, NOW, MAX_TOKEN, MAX_ACCOUNT)
}

fn header_with(alg: &str, kid: &Value) -> String {
    json!({ "alg": alg, "kid": kid }).to_string()
}

fn hs256(kid: &Value, secret: &[u8]) -> String {
    signed(&header_with("HS256", kid), CLAIMS, &EncodingKey::from_secret(secret), Algorithm::HS256)
}

#[test]
fn b11_a_kid_names_the_key_and_no_other_is_tried() {
    let keys = all_keys();
    for way in WAYS.iter() {
        let own = json!(way.name.to_lowercase());
        assert!(verify_with(&keys, &way.sign(&header_with(way.name, &own), CLAIMS)).is_ok(), "{}", way.name);
        assert!(verify_with(&keys, &way.sign(&header(way.name), CLAIMS)).is_ok(), "{} unnamed", way.name);
        for other in WAYS.iter().filter(|other| other.name != way.name) {
            let foreign = json!(other.name.to_lowercase());
            // Rightly signed by a key the gateway has, and says so, but names another one.
            let token = way.sign(&header_with(way.name, &foreign), CLAIMS);
            assert_eq!(verify_with(&keys, &token), Err(TokenError::Algorithm), "{} as {foreign}", way.name);
            // The algorithm of the key it names, with a signature of its own.
            let token = way.sign(&header_with(other.name, &foreign), CLAIMS);
            assert_eq!(verify_with(&keys, &token), Err(TokenError::Signature), "{} as {foreign}", way.name);
        }
        for kid in ["ended", "ends", "kim"] {
            let token = way.sign(&header_with("HS256", &json!(kid)), CLAIMS);
            let expected = if kid == "ended" { TokenError::Key } else { TokenError::Signature };
            assert_eq!(verify_with(&keys, &token), Err(expected), "{} as {kid}", way.name);
        }
    }
}

/// The classic: the public key, which everybody has, as the secret of an HMAC under the id of that key.
#[test]
fn b11_a_public_key_is_no_secret_under_its_own_kid_either() {
    let keys = all_keys();
    for way in &WAYS[1..] {
        let pair = way.pair.as_ref().unwrap();
        let pem = pair.public_key_pem();
        let kid = json!(way.name.to_lowercase());
        let forms =
            [pem.clone().into_bytes(), pem.trim_end().as_bytes().to_vec(), pair.public_key_raw().to_vec()];
        for secret in forms {
            assert_eq!(verify_with(&keys, &hs256(&kid, &secret)), Err(TokenError::Algorithm), "{kid}");
            assert_eq!(verify_with(&keys, &hs256(&json!(null), &secret)), Err(TokenError::Signature));
        }
    }
}

#[test]
fn b10_none_is_refused_whatever_key_it_names() {
    let keys = all_keys();
    for kid in [json!(null), json!("hs256"), json!("rs256"), json!("unknown"), json!("")] {
        for alg in ["none", "None", ""] {
            let (head, claims) =
                (URL_SAFE_NO_PAD.encode(header_with(alg, &kid)), URL_SAFE_NO_PAD.encode(CLAIMS));
            assert_eq!(verify_with(&keys, &format!("{head}.{claims}.")), Err(TokenError::Algorithm), "{kid}");
        }
    }
}

#[rstest]
#[case(json!(7))]
#[case(json!(true))]
#[case(json!(["hs256"]))]
#[case(json!({ "hs256": 1 }))]
#[case(json!(1e308))]
fn b11_a_kid_that_is_no_string_is_refused(#[case] kid: Value) {
    assert_eq!(verify_with(&all_keys(), &hs256(&kid, SECRET)), Err(TokenError::Format), "{kid}");
    assert_eq!(verify_with(&all_keys()[4..5], &hs256(&kid, SECRET)), Err(TokenError::Format), "{kid}");
}

#[rstest]
#[case("")]
#[case("HS256")]
#[case("hs256 ")]
#[case("hs256\u{0}")]
#[case("../../dev/null")]
#[case("' OR '1'='1")]
#[case("hs256|/usr/bin/id")]
#[case("${jndi:ldap://example.org/a}")]
#[case("https://example.org/keys")]
#[case("\u{202e}652sh")]
fn b11_a_kid_is_compared_and_nothing_else(#[case] kid: &str) {
    let keys = all_keys();
    let kid = json!(kid);
    assert_eq!(verify_with(&keys[..4], &hs256(&kid, SECRET)), Err(TokenError::Key), "{kid}");
    // A key without an id may be the one that is meant; one with an id is not.
    assert_eq!(verify_with(&keys, &hs256(&kid, SECRET)), Err(TokenError::Signature), "{kid}");
    assert!(verify_with(&keys, &hs256(&kid, b"the secret of the key without id")).is_ok(), "{kid}");
    let long = json!("k".repeat(2000));
    assert_eq!(verify_with(&keys[..4], &hs256(&long, SECRET)), Err(TokenError::Key));
}

#[test]
fn b11_two_kids_in_one_header_are_refused() {
    let header = r#"{"alg":"HS256","kid":"hs256","kid":"hs256"}"#;
    let token = signed(header, CLAIMS, &EncodingKey::from_secret(SECRET), Algorithm::HS256);
    assert_eq!(verify_with(&all_keys(), &token), Err(TokenError::Format));
}

#[test]
fn b11_without_a_kid_every_key_of_the_algorithm_is_tried() {
    let keys = all_keys();
    for (secret, expected) in [
        (&b"the secret of the key without id"[..], Ok(())),
        (b"the secret of one that will end", Ok(())),
        (b"the secret of one that has ended", Err(TokenError::Signature)),
        (b"the secret of one for one app...", Err(TokenError::App)),
        (b"a secret of nobody, of 32 bytes.", Err(TokenError::Signature)),
    ] {
        assert_eq!(verify_with(&keys, &hs256(&json!(null), secret)).map(drop), expected);
    }
    assert_eq!(
        verify_with(&keys[5..6], &hs256(&json!(null), SECRET)),
        Err(TokenError::Key),
        "all have ended"
    );
    assert_eq!(verify_with(&[], &hs256(&json!(null), SECRET)), Err(TokenError::Algorithm), "no key at all");
}

#[test]
fn b11_a_key_that_may_have_been_published_since_is_told_from_one_that_is_just_wrong() {
    let keys = all_keys();
    let named = &keys[..4];
    let lacks = |keys: &[TokenKey], alg: &str, kid: &Value| {
        let verifier = Verifier::new(KeySet::new(keys), &ExpectedClaims::default());
        verifier.lacks_key_of(&format!("{}.e30.x", URL_SAFE_NO_PAD.encode(header_with(alg, kid))), MAX_TOKEN)
    };
    for alg in ["RS256", "ES256", "EdDSA"] {
        assert!(lacks(named, alg, &json!("next")) && lacks(&[], alg, &json!("next")), "{alg}");
        assert!(!lacks(named, alg, &json!("rs256")), "known, whatever its algorithm");
        assert!(!lacks(named, alg, &json!(null)) && !lacks(named, alg, &json!(7)), "names none");
        let anonymous = TokenKey { id: None, ..keys[1].clone() };
        assert_eq!(lacks(&[anonymous], alg, &json!("next")), alg != "RS256", "that one may be meant");
    }
    for alg in ["HS256", "none", "RS512", ""] {
        assert!(!lacks(named, alg, &json!("next")), "{alg} is not published");
    }
    let verifier = Verifier::new(KeySet::new(named), &ExpectedClaims::default());
    for token in ["", ".", "e30", "a.b.c", &"x".repeat(1 << 20)] {
        assert!(!verifier.lacks_key_of(token, MAX_TOKEN));
    }
}

#[test]
fn b16_a_key_speaks_for_its_apps_only() {
    let keys = all_keys();
    let secret = b"the secret of one for one app...";
    assert_eq!(verify_with(&keys, &hs256(&json!("kim"), secret)), Err(TokenError::App));
    let claims = CLAIMS.replace("x_im", "kim");
    let token = signed(
        &header_with("HS256", &json!("kim")),
        &claims,
        &EncodingKey::from_secret(secret),
        Algorithm::HS256,
    );
    assert_eq!(verify_with(&keys, &token).unwrap().app, "kim");
}
