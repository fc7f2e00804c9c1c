//! A JSON Web Key Set (RFC 7517) as keys that verify tokens: RSA, EC on P-256 and Ed25519 (RFC 7518, RFC 8037), and
//! secrets where they are allowed. A key that is of no use is left out with the reason, because identity services publish
//! others beside those for tokens; a set without any that is of use is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::public_key::{KeyKind, PublicKey};
use super::secret::Secret;
use super::token_keys::{TokenKey, VerifyingKey, is_strong};
use crate::limits::{MAX_JWKS, MAX_JWKS_ENTRIES, MAX_KEY_ID, MAX_TOKEN_KEYS};

/// The keys of a set that are of use.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyDocument {
    /// At least one and at most [`MAX_TOKEN_KEYS`], in their order; ids are unique.
    pub keys: Vec<TokenKey>,
    /// The others: position in the set, and why it is of no use.
    pub skipped: Vec<(usize, JwkProblem)>,
}

/// Where a set comes from, which decides what it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// A file of the operator's: secrets may stand in it.
    File,
    /// Whoever may fetch it could sign with a secret in it.
    Url,
}

/// Why a set is refused as a whole. No text holds any part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Larger than allowed; nothing of it was read.
    #[error("has {0} bytes; allowed are {MAX_JWKS}")]
    Size(usize),
    /// Something else.
    #[error("is no JSON Web Key Set; allowed is a JSON object with a list named keys")]
    Format,
    /// So many keys.
    #[error("has {0} keys; allowed are {MAX_JWKS_ENTRIES}")]
    Entries(usize),
    /// More of use than allowed.
    #[error("has more than {MAX_TOKEN_KEYS} keys for tokens; allowed are so many")]
    Usable,
    /// None that is of use, and why the first is not.
    #[error("has no key that verifies tokens; the first {0}")]
    NoneUsable(JwkProblem),
    /// None at all.
    #[error("has no keys")]
    Empty,
}

/// Why a key of a set is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwkProblem {
    /// No object, or fields of another type than they must have.
    #[error("is no JSON Web Key")]
    Format,
    /// `kty` or `crv`.
    #[error("is of a type or curve that no algorithm here uses")]
    Kind,
    /// `use` or `key_ops`.
    #[error("is not for verifying signatures")]
    Use,
    /// `alg`.
    #[error("is for an algorithm that is not used here")]
    Algorithm,
    /// `kid` is empty, too long or has control characters.
    #[error("has an id that is empty, too long or not printable")]
    Id,
    /// `kid` is that of a key before it.
    #[error("has the id of another key")]
    Duplicate,
    /// Its numbers are missing, no base64, too short or too long, or no key.
    #[error("is broken, or too short or too long")]
    Broken,
    /// A private key, which nobody should have but who signs.
    #[error("holds a private key, which only the issuer may have")]
    Private,
    /// A secret where none may be.
    #[error("is a secret, and everybody who can fetch it could sign with it")]
    Secret,
    /// A secret that is too short or published.
    #[error("is a secret that is too short, or published")]
    Weak,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// What is read of one key. `x5c`, `x5u` and what else there may be is not looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    d: Option<Value>,
}

impl KeyDocument {
    /// Reads a set. Weak secrets are taken where `dev` is set only.
    ///
    /// # Errors
    /// [`JwksError`].
    pub fn parse(json: &[u8], origin: KeyOrigin, dev: bool) -> Result<Self, JwksError> {
        if json.len() > MAX_JWKS {
            return Err(JwksError::Size(json.len()));
        }
        // A derived reader passes over a field it does not know without looking whether it is UTF-8, and would take a list for
        // the object, by position.
        let text = str::from_utf8(json).ok().filter(|text| text.trim_start().starts_with('{'));
        let document: Document =
            text.and_then(|text| serde_json::from_str(text).ok()).ok_or(JwksError::Format)?;
        if document.keys.len() > MAX_JWKS_ENTRIES {
            return Err(JwksError::Entries(document.keys.len()));
        }
        let mut found = Self { keys: Vec::new(), skipped: Vec::new() };
        for (position, entry) in document.keys.into_iter().enumerate() {
            match read(entry, origin, dev) {
                Ok(key) if key.id.is_some() && found.keys.iter().any(|other| other.id == key.id) => {
                    found.skipped.push((position, JwkProblem::Duplicate));
                }
                Ok(key) => found.keys.push(key),
                Err(problem) => found.skipped.push((position, problem)),
            }
        }
        match (found.keys.len(), found.skipped.first()) {
            (0, None) => Err(JwksError::Empty),
            (0, Some((_, problem))) => Err(JwksError::NoneUsable(*problem)),
            (1..=MAX_TOKEN_KEYS, _) => Ok(found),
            _ => Err(JwksError::Usable),
        }
    }
}

fn read(entry: Value, origin: KeyOrigin, dev: bool) -> Result<TokenKey, JwkProblem> {
    if !entry.is_object() {
        return Err(JwkProblem::Format);
    }
    let jwk: Jwk = serde_json::from_value(entry).map_err(|_| JwkProblem::Format)?;
    let is_id = |id: &String| (1..=MAX_KEY_ID).contains(&id.len()) && !id.chars().any(char::is_control);
    if !jwk.kid.as_ref().is_none_or(is_id) {
        return Err(JwkProblem::Id);
    }
    let verifies = |operations: &Vec<String>| operations.iter().any(|operation| operation == "verify");
    if jwk.r#use.as_ref().is_some_and(|purpose| purpose != "sig")
        || !jwk.key_ops.as_ref().is_none_or(verifies)
    {
        return Err(JwkProblem::Use);
    }
    let (algorithm, kind) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => ("RS256", Some(KeyKind::Rsa)),
        ("EC", Some("P-256")) => ("ES256", Some(KeyKind::P256)),
        ("OKP", Some("Ed25519")) => ("EdDSA", Some(KeyKind::Ed25519)),
        ("oct", _) => ("HS256", None),
        _ => return Err(JwkProblem::Kind),
    };
    if jwk.alg.as_ref().is_some_and(|named| named != algorithm) {
        return Err(JwkProblem::Algorithm);
    }
    let key = match kind {
        Some(kind) => public_key(&jwk, kind)?,
        None => VerifyingKey::Hs256(secret(&jwk, origin, dev)?),
    };
    Ok(TokenKey { id: jwk.kid, ..key.into() })
}

fn public_key(jwk: &Jwk, kind: KeyKind) -> Result<VerifyingKey, JwkProblem> {
    if jwk.d.is_some() {
        return Err(JwkProblem::Private);
    }
    match kind {
        KeyKind::Rsa => PublicKey::from_rsa(&decoded(&jwk.n)?, &decoded(&jwk.e)?).map(VerifyingKey::Rs256),
        KeyKind::P256 => {
            let (x, y) = (coordinate(&jwk.x)?, coordinate(&jwk.y)?);
            // SEC 1: 4 in front of both coordinates is the point uncompressed.
            let point = [&[4], &x[..], &y[..]].concat();
            PublicKey::from_bits(point, kind).map(VerifyingKey::Es256)
        }
        KeyKind::Ed25519 => PublicKey::from_bits(coordinate(&jwk.x)?, kind).map(VerifyingKey::EdDsa),
    }
    .map_err(|_| JwkProblem::Broken)
}

fn secret(jwk: &Jwk, origin: KeyOrigin, dev: bool) -> Result<Secret, JwkProblem> {
    if origin == KeyOrigin::Url {
        return Err(JwkProblem::Secret);
    }
    let secret = decoded(&jwk.k)?;
    if dev || is_strong(&secret) { Ok(Secret(secret)) } else { Err(JwkProblem::Weak) }
}

fn decoded(field: &Option<String>) -> Result<Vec<u8>, JwkProblem> {
    let text = field.as_ref().ok_or(JwkProblem::Broken)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwkProblem::Broken)
}

/// Of 32 bytes, zeros in front included.
fn coordinate(field: &Option<String>) -> Result<Vec<u8>, JwkProblem> {
    let bytes = decoded(field)?;
    if bytes.len() == 32 { Ok(bytes) } else { Err(JwkProblem::Broken) }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn parse(document: &Value, origin: KeyOrigin) -> Result<KeyDocument, JwksError> {
        KeyDocument::parse(document.to_string().as_bytes(), origin, false)
    }

    fn one(key: &Value) -> Result<KeyDocument, JwksError> {
        parse(&json!({ "keys": [key] }), KeyOrigin::Url)
    }

    /// Why the only key of a set is of no use.
    fn problem(key: &Value) -> JwkProblem {
        match one(key) {
            Err(JwksError::NoneUsable(problem)) => problem,
            other => panic!("{key}: {other:?}"),
        }
    }

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The public half as a JWK, and as it stands in an SPKI.
    fn ed25519() -> (Value, Vec<u8>) {
        let raw = KeyPair::generate_for(&PKCS_ED25519).unwrap().public_key_raw().to_vec();
        (json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": encode(&raw) }), raw)
    }

    fn p256() -> (Value, Vec<u8>) {
        let raw = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().public_key_raw().to_vec();
        let (x, y) = (encode(&raw[1..33]), encode(&raw[33..]));
        (json!({ "kty": "EC", "crv": "P-256", "kid": "ec", "x": x, "y": y }), raw)
    }

    fn rsa() -> (Value, Vec<u8>) {
        let raw = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap().public_key_raw().to_vec();
        let (_, key) = x509_parser::der_parser::ber::parse_ber_sequence(&raw).unwrap();
        let [n, e] = [0, 1].map(|at| {
            let number = key.as_sequence().unwrap()[at].as_slice().unwrap();
            encode(&number[number.iter().take_while(|byte| **byte == 0).count()..])
        });
        (json!({ "kty": "RSA", "kid": "rsa", "n": n, "e": e }), raw)
    }

    fn with(key: &Value, field: &str, value: Value) -> Value {
        let mut changed = key.clone();
        changed[field] = value;
        changed
    }

    #[test]
    fn a_set_of_every_kind_is_read_with_what_is_of_no_use_left_out() {
        let ((ed, ed_raw), (ec, ec_raw), (rsa, rsa_raw)) = (ed25519(), p256(), rsa());
        let set = json!({ "keys": [
            { "kty": "RSA", "use": "enc", "n": "AA", "e": "AQAB" },
            with(&rsa, "alg", json!("RS256")),
            with(&ec, "use", json!("sig")),
            with(&ed, "key_ops", json!(["verify"])),
            { "kty": "AKP", "alg": "ML-DSA-44", "pub": "AA" },
        ], "other": 1 });
        let found = parse(&set, KeyOrigin::Url).unwrap();
        assert_eq!(found.skipped, [(0, JwkProblem::Use), (4, JwkProblem::Kind)]);
        let ids: Vec<_> = found.keys.iter().map(|key| key.id.as_deref().unwrap()).collect();
        assert_eq!(ids, ["rsa", "ec", "ed"]);
        for (key, raw) in found.keys.iter().zip([rsa_raw, ec_raw, ed_raw]) {
            let (VerifyingKey::Rs256(public) | VerifyingKey::Es256(public) | VerifyingKey::EdDsa(public)) =
                &key.key
            else {
                panic!("a public key");
            };
            assert_eq!(public.bits, raw);
            assert_eq!((&key.apps, key.not_after), (&None, None));
        }
    }

    #[test]
    fn what_a_key_says_it_is_for_is_honoured() {
        let ((ed, _), (ec, _), (rsa, _)) = (ed25519(), p256(), rsa());
        for key in [&ed, &ec, &rsa] {
            assert_eq!(problem(&with(key, "use", json!("enc"))), JwkProblem::Use);
            assert_eq!(problem(&with(key, "key_ops", json!([]))), JwkProblem::Use);
            assert_eq!(problem(&with(key, "key_ops", json!(["sign", "encrypt"]))), JwkProblem::Use);
            for alg in ["none", "HS256", "RS384", "PS256", "ES384", "ES256K", ""] {
                assert_eq!(problem(&with(key, "alg", json!(alg))), JwkProblem::Algorithm, "{alg}");
            }
            assert_eq!(problem(&with(key, "d", json!("AA"))), JwkProblem::Private);
            assert_eq!(problem(&with(key, "kid", json!(""))), JwkProblem::Id);
            assert_eq!(problem(&with(key, "kid", json!("a\nb"))), JwkProblem::Id);
            assert_eq!(problem(&with(key, "kid", json!("k".repeat(MAX_KEY_ID + 1)))), JwkProblem::Id);
            assert_eq!(problem(&with(key, "kty", json!("rsa"))), JwkProblem::Kind);
            let anonymous = with(key, "kid", json!(null));
            assert_eq!(one(&anonymous).unwrap().keys[0].id, None);
        }
        assert_eq!(problem(&with(&ec, "crv", json!("P-384"))), JwkProblem::Kind);
        assert_eq!(problem(&with(&ed, "crv", json!("X25519"))), JwkProblem::Kind);
        assert_eq!(problem(&with(&ec, "alg", json!("RS256"))), JwkProblem::Algorithm);
    }

    #[test]
    fn b14_a_secret_counts_in_a_file_only_and_only_a_good_one() {
        let secret = |k: &str| json!({ "keys": [{ "kty": "oct", "kid": "s", "k": encode(k) }] });
        let strong = secret("a secret of the tests, 32 bytes!");
        assert_eq!(parse(&strong, KeyOrigin::Url), Err(JwksError::NoneUsable(JwkProblem::Secret)));
        let found = parse(&strong, KeyOrigin::File).unwrap();
        assert_eq!(
            found.keys[0].key,
            VerifyingKey::Hs256(Secret(b"a secret of the tests, 32 bytes!".to_vec()))
        );
        assert!(!format!("{found:?}").contains("tests"));
        for weak in ["", "short", "jwt-1sNzdiSgnNuxyq2g7xml2JvLArU", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
            assert_eq!(
                parse(&secret(weak), KeyOrigin::File),
                Err(JwksError::NoneUsable(JwkProblem::Weak)),
                "{weak}"
            );
            assert!(KeyDocument::parse(secret(weak).to_string().as_bytes(), KeyOrigin::File, true).is_ok());
        }
    }

    #[rstest]
    #[case(json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }))]
    #[case(json!({ "kty": "RSA", "e": "AQAB" }))]
    #[case(json!({ "kty": "RSA", "n": "", "e": "" }))]
    #[case(json!({ "kty": "RSA", "n": encode([0; 256]), "e": "AQAB" }))]
    #[case(json!({ "kty": "RSA", "n": encode([255; 2048]), "e": "AQAB" }))]
    #[case(json!({ "kty": "RSA", "n": encode([255; 256]), "e": encode([255; 256]) }))]
    #[case(json!({ "kty": "RSA", "n": encode([255; 256]), "e": "AA" }))]
    #[case(json!({ "kty": "RSA", "n": encode([255; 256]), "e": "Ag" }))]
    #[case(json!({ "kty": "RSA", "n": "!!", "e": "AQAB" }))]
    #[case(json!({ "kty": "EC", "crv": "P-256", "x": encode([1; 32]), "y": encode([1; 32]) }))]
    #[case(json!({ "kty": "EC", "crv": "P-256", "x": encode([0; 32]), "y": encode([0; 32]) }))]
    #[case(json!({ "kty": "EC", "crv": "P-256", "x": encode([1; 31]), "y": encode([1; 33]) }))]
    #[case(json!({ "kty": "EC", "crv": "P-256", "x": encode([1; 32]) }))]
    #[case(json!({ "kty": "OKP", "crv": "Ed25519", "x": encode([1; 33]) }))]
    #[case(json!({ "kty": "OKP", "crv": "Ed25519" }))]
    fn numbers_that_make_no_key(#[case] key: Value) {
        assert_eq!(problem(&key), JwkProblem::Broken, "{key}");
    }

    #[rstest]
    #[case(json!(7))]
    #[case(json!(null))]
    #[case(json!(["RSA"]))]
    #[case(json!({}))]
    #[case(json!({ "kty": 7 }))]
    #[case(json!({ "kty": "OKP", "kid": 7 }))]
    #[case(json!({ "kty": "OKP", "use": ["sig"] }))]
    #[case(json!({ "kty": "OKP", "key_ops": "verify" }))]
    #[case(json!({ "kty": "OKP", "x": [1, 2] }))]
    fn fields_of_another_type(#[case] key: Value) {
        assert_eq!(problem(&key), JwkProblem::Format, "{key}");
    }

    #[test]
    fn documents_that_are_no_set_or_too_large_are_refused_as_a_whole() {
        let refused = |json: &[u8]| KeyDocument::parse(json, KeyOrigin::Url, false).unwrap_err();
        let deep = format!("{{\"keys\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        for json in [
            "",
            "{}",
            "[]",
            "7",
            "null",
            "{\"keys\":{}}",
            "{\"keys\":7}",
            "[[]]",
            "{\"keys\":[],\"keys\":[]}",
            "{\"keys\":[",
            "<html></html>",
            &deep,
        ] {
            assert_eq!(refused(json.as_bytes()), JwksError::Format, "{:.40}", json);
        }
        assert_eq!(refused(b"{\"keys\":[],\"x\":\"\xFF\"}"), JwksError::Format);
        assert_eq!(refused(b"{\"keys\":[]}"), JwksError::Empty);
        assert_eq!(refused(&vec![b' '; MAX_JWKS + 1]), JwksError::Size(MAX_JWKS + 1));
        let many = json!({ "keys": vec![json!({}); MAX_JWKS_ENTRIES + 1] });
        assert_eq!(parse(&many, KeyOrigin::Url), Err(JwksError::Entries(MAX_JWKS_ENTRIES + 1)));
        let (ed, _) = ed25519();
        let anonymous = with(&ed, "kid", json!(null));
        let usable = |count| parse(&json!({ "keys": vec![anonymous.clone(); count] }), KeyOrigin::Url);
        assert_eq!(usable(MAX_TOKEN_KEYS).unwrap().keys.len(), MAX_TOKEN_KEYS);
        assert_eq!(usable(MAX_TOKEN_KEYS + 1), Err(JwksError::Usable));
    }

    #[test]
    fn of_keys_with_one_id_the_first_counts() {
        let ((ed, _), (ec, _)) = (ed25519(), p256());
        let found = parse(&json!({ "keys": [ed, with(&ec, "kid", json!("ed"))] }), KeyOrigin::Url).unwrap();
        assert_eq!((found.keys.len(), found.skipped), (1, vec![(1, JwkProblem::Duplicate)]));
    }

    /// The example of RFC 7517, appendix A.1.
    #[test]
    fn the_example_of_the_standard_is_read() {
        let json = br#"{"keys":[
            {"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
             "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"},
            {"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
             "e":"AQAB","alg":"RS256","kid":"2011-04-29"}]}"#;
        let found = KeyDocument::parse(json, KeyOrigin::Url, false).unwrap();
        assert_eq!(found.keys[0].id.as_deref(), Some("2011-04-29"));
        assert_eq!(found.skipped, [(0, JwkProblem::Use)]);
    }

    #[test]
    fn a_key_of_another_curve_in_disguise_is_broken() {
        let raw = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap().public_key_raw().to_vec();
        let key = json!({ "kty": "EC", "crv": "P-256", "x": encode(&raw[1..33]), "y": encode(&raw[33..65]) });
        assert_eq!(problem(&key), JwkProblem::Broken);
    }
}
