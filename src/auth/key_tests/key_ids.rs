//! Several keys: the one that a token names, or each of its algorithm.

use super::*;

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
