//! A token is never accepted without the signature of the one key, and its claims are those that were signed.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::input::{halves, text};
use crate::auth::{Claims, KeySet, TokenError, Verifier};
use crate::config::{ExpectedClaims, Secret, VerifyingKey};
use crate::limits::Limits;

/// Of the tokens that were made by hand for the corpus, too.
const SECRET: &[u8] = b"a secret of the tests, 32 bytes!";

/// Seconds since 1970 at which all of them are looked at.
const NOW: u64 = 1_700_000_000;

/// A token; behind a line of dashes, the claims of one whose header is what stands before it.
pub fn target(data: &[u8]) {
    let (first, second) = halves(data);
    let Some(token) = text(first) else { return };
    check_foreign(token);
    check_signed(first, second);
}

/// Whoever made it: what is accepted was signed.
fn check_foreign(token: &str) {
    if let Ok(claims) = verify(SECRET, token) {
        assert!(is_signed(token), "accepted without a signature");
        check_claims(token, &claims);
        assert_eq!(verify(b"another secret, 32 bytes as well", token), Err(TokenError::Signature));
    }
}

/// Signed by us, with any header and claims; then changed where it may matter.
fn check_signed(header: &[u8], claims: &[u8]) {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&key(SECRET), message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
    let verified = verify(SECRET, &token);
    assert_ne!(verified, Err(TokenError::Signature));
    if let Ok(claims) = &verified {
        check_claims(&token, claims);
    }
    let ends = token.match_indices('.').map(|(at, _)| at).chain([token.len()]);
    for at in ends.map(|end| end.saturating_sub(1)) {
        let other = if token[at..].starts_with('A') { "B" } else { "A" };
        check_foreign(&format!("{}{other}{}", &token[..at], &token[at + 1..]));
    }
    let unsigned = format!("{message}.");
    assert!(verify(SECRET, &unsigned).is_err());
}

fn verify(secret: &[u8], token: &str) -> Result<Claims, TokenError> {
    let limits = Limits::default();
    let keys = KeySet::new(&[VerifyingKey::Hs256(Secret(secret.to_vec())).into()]);
    Verifier::new(keys, &ExpectedClaims::default()).verify(token, NOW, limits.max_token, limits.max_account)
}

/// The signature is that of the secret, by the library of cryptography itself.
fn is_signed(token: &str) -> bool {
    let Some((message, signature)) = token.rsplit_once('.') else { return false };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    hmac::verify(&key(SECRET), message.as_bytes(), &signature).is_ok()
}

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

/// What an accepted token says, read by a general reader of JSON. That one also refuses a number or half of a surrogate
/// pair that it cannot hold, where nobody looks at it; then there is nothing to compare with.
fn check_claims(token: &str, claims: &Claims) {
    let json = |number| -> Option<Value> {
        let part = token.split('.').nth(number).expect("an accepted token has three parts");
        let json = URL_SAFE_NO_PAD.decode(part).expect("it was decoded once already");
        serde_json::from_str(str::from_utf8(&json).expect("it is UTF-8")).ok()
    };
    let (Some(header), Some(said)) = (json(0), json(1)) else { return };
    assert!(header["alg"] == "HS256" && header.get("crit").is_none());
    assert!(said["acc"] == claims.account.as_str() && said["app"] == claims.app.as_str());
    assert_eq!(said["dev"].as_str().unwrap_or_default(), claims.device);
    assert!(!claims.account.is_empty() && !claims.app.is_empty());
    for text in [&claims.account, &claims.app, &claims.device] {
        assert!(text.len() <= Limits::default().max_account && !text.contains(char::is_control));
    }
    let leeway = crate::limits::TOKEN_LEEWAY.as_secs();
    let exp = said["exp"].as_f64().expect("exp is a number").ceil();
    assert!(exp as u64 == claims.exp && claims.exp + leeway > NOW);
    assert!(said["nbf"].as_f64().is_none_or(|nbf| nbf <= (NOW + leeway) as f64));
}
