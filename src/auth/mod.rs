//! A token becomes [`Claims`], or is refused: JSON Web Tokens under the algorithm of the key they were signed with, and no
//! other (rows B10–B17).
//!
//! Pure: the time is passed in. The JWT crate checks the signature only; what the header may say, which claims
//! there are and when a token runs out is decided here, because the crate reads the wall clock and turns any header
//! it does not know into one kind of error.

mod key_set;
mod signing_key;
mod token_error;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::key_set::TokenHeader;

pub use self::key_set::KeySet;
pub use self::signing_key::{SigningKey, SigningKeyError};
pub use self::token_error::TokenError;

use crate::config::{ExpectedClaims, OnExpiry};
use crate::limits::TOKEN_LEEWAY;

/// Largest `exp` or `nbf`: up to here every whole second is exact in a float (row B12).
const MAX_SECONDS: f64 = 9_007_199_254_740_992.0;

/// What a valid token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who: `acc`, not empty, no control characters. It may hold any other character (row B17).
    pub account: String,
    /// For which app: `app`, of the same form.
    pub app: String,
    /// On which device: `dev`; empty when the token does not say.
    pub device: String,
    /// First second since 1970 at which the token is no longer valid, without any leeway.
    pub exp: u64,
}

/// Verifies tokens with the keys of its configuration. Never changed: a new one takes its place.
#[derive(Debug, Clone)]
pub struct Verifier {
    keys: KeySet,
    expected: ExpectedClaims,
    /// Whole seconds by which the clock of a token's maker may differ from ours.
    leeway: u64,
    on_expiry: OnExpiry,
}

/// What is read of a token's claims, types of numbers unchecked. A claim of `null` is absent (protocol §3).
#[derive(Deserialize)]
struct TokenClaims {
    acc: Option<String>,
    app: Option<String>,
    exp: Option<Value>,
    nbf: Option<Value>,
    dev: Option<String>,
    #[serde(default)]
    iss: Value,
    #[serde(default)]
    aud: Value,
}

impl Verifier {
    /// What is not expected is not looked at. The leeway is [`TOKEN_LEEWAY`], and sessions
    /// outlive their tokens.
    pub fn new(keys: KeySet, expected: &ExpectedClaims) -> Self {
        let leeway = TOKEN_LEEWAY.as_secs();
        Self { keys, expected: expected.clone(), leeway, on_expiry: OnExpiry::Keep }
    }

    /// The same with another leeway, of which whole seconds count: a token is good from so long before its `nbf` to so
    /// long behind its `exp`.
    #[must_use]
    pub fn with_leeway(self, leeway: Duration) -> Self {
        Self { leeway: leeway.as_secs(), ..self }
    }

    /// The same with another end of sessions (row B19). Where they end with their tokens, no token is good for longer behind
    /// its `exp` than a session: else one could begin that ends at once.
    #[must_use]
    pub fn with_on_expiry(self, on_expiry: OnExpiry) -> Self {
        Self { on_expiry, ..self }
    }

    /// How long a session with these claims may last from now on. `None`: as long as its client likes.
    pub fn session_lifetime(&self, claims: &Claims, now_unix: u64) -> Option<Duration> {
        let OnExpiry::Close(grace) = self.on_expiry else { return None };
        let end = claims.exp.saturating_add(grace.as_secs());
        Some(Duration::from_secs(end.saturating_sub(now_unix)))
    }

    /// So long behind its `exp` a token is good, seconds.
    fn leeway_at_end(&self) -> u64 {
        match self.on_expiry {
            OnExpiry::Keep => self.leeway,
            OnExpiry::Close(grace) => self.leeway.min(grace.as_secs()),
        }
    }

    /// Checks a token at a time.
    ///
    /// `now_unix` is in seconds since 1970. `max_token` bounds the token and `max_account` each
    /// of account, app and device, all in bytes. A token costs the parsing of two JSON texts that are shorter than itself,
    /// and one signature check if it names its key or there is but one.
    ///
    /// # Errors
    /// [`TokenError`]: the first check that failed. Nothing of the claims is read before the signature is verified.
    pub fn verify(
        &self,
        token: &str,
        now_unix: u64,
        max_token: usize,
        max_account: usize,
    ) -> Result<Claims, TokenError> {
        if token.len() > max_token {
            return Err(TokenError::Size);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Format)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Format)?;
        if claims.contains('.') {
            return Err(TokenError::Format);
        }
        let header = read_header(header).ok_or(TokenError::Format)?;
        let key = self.keys.verify(&header, message, signature, now_unix)?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| TokenError::Format)?;
        let claims: TokenClaims = parse_object(&claims).ok_or(TokenError::Claims)?;
        let claims = self.check_claims(claims, now_unix, max_account)?;
        if key.speaks_for(&claims.app) { Ok(claims) } else { Err(TokenError::App) }
    }

    /// Returns `true` if a token, of at most `max_token` bytes, names a key that is not there: it may have been published
    /// since. Nothing is verified.
    pub fn lacks_key_of(&self, token: &str, max_token: usize) -> bool {
        let header = token.split('.').next().filter(|_| token.len() <= max_token);
        header.and_then(read_header).is_some_and(|header| self.keys.lacks_key_of(&header))
    }

    fn check_claims(
        &self,
        claims: TokenClaims,
        now_unix: u64,
        max_account: usize,
    ) -> Result<Claims, TokenError> {
        let exp = seconds(&claims.exp.ok_or(TokenError::Claims)?)?;
        let nbf = claims.nbf.as_ref().map(seconds).transpose()?;
        let account = claims.acc.ok_or(TokenError::Claims)?;
        let app = claims.app.ok_or(TokenError::Claims)?;
        let device = claims.dev.unwrap_or_default();
        for (text, may_be_empty) in [(&account, false), (&app, false), (&device, true)] {
            let empty = text.is_empty() && !may_be_empty;
            if empty || text.len() > max_account || text.chars().any(char::is_control) {
                return Err(TokenError::Claims);
            }
        }
        let expected = &self.expected;
        let issued = expected.issuer.as_ref().is_none_or(|issuer| claims.iss == *issuer.as_str());
        if !issued || !expected.audience.as_ref().is_none_or(|audience| is_for(&claims.aud, audience)) {
            return Err(TokenError::Claims);
        }
        if now_unix >= exp.saturating_add(self.leeway_at_end()) {
            return Err(TokenError::Expired);
        }
        if nbf.is_some_and(|nbf| now_unix.saturating_add(self.leeway) < nbf) {
            return Err(TokenError::NotYet);
        }
        Ok(Claims { account, app, device, exp })
    }
}

/// App and account that a token of at most `max_token` bytes claims. Nothing is verified.
pub(crate) fn claimed(token: &str, max_token: usize) -> Option<(String, String)> {
    let claims = token.split('.').nth(1).filter(|_| token.len() <= max_token)?;
    let claims: TokenClaims = parse_object(&URL_SAFE_NO_PAD.decode(claims).ok()?)?;
    Some((claims.app?, claims.acc?))
}

fn read_header(encoded: &str) -> Option<TokenHeader> {
    parse_object(&URL_SAFE_NO_PAD.decode(encoded).ok()?)
}

/// `aud` names one recipient or lists several; a list with anything but strings in it is malformed.
fn is_for(aud: &Value, audience: &str) -> bool {
    match aud {
        Value::String(one) => one == audience,
        Value::Array(list) => list.iter().all(Value::is_string) && list.iter().any(|one| one == audience),
        _ => false,
    }
}

/// A time claim: an integer or a float from 0 to 2^53 (row B12), rounded up, which changes no comparison with a
/// whole second.
fn seconds(claim: &Value) -> Result<u64, TokenError> {
    let seconds = claim.as_f64().filter(|seconds| (0.0..=MAX_SECONDS).contains(seconds));
    // An integer just above 2^53 becomes 2^53 as a float.
    let overlong = claim.as_u64().is_some_and(|whole| whole > MAX_SECONDS as u64);
    match seconds {
        Some(seconds) if !overlong => Ok(seconds.ceil() as u64),
        _ => Err(TokenError::Claims),
    }
}

/// A derived reader takes a JSON array for a struct, by position, and passes over a field it does not know without looking
/// whether it is UTF-8; a token's parts are objects in UTF-8 and nothing else.
fn parse_object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let json = std::str::from_utf8(json).ok()?;
    let first = json.bytes().find(|byte| !byte.is_ascii_whitespace())?;
    if first == b'{' { serde_json::from_str(json).ok() } else { None }
}

/// Makes an HS256 token that is valid from now on for `ttl`. For tools and tests: the gateway itself makes none.
pub fn mint(secret: &[u8], account: &str, app: &str, ttl: Duration) -> String {
    mint_until(secret, account, app, expiry(ttl))
}

/// Like [`mint`], with the second since 1970 at which the token runs out.
pub fn mint_until(secret: &[u8], account: &str, app: &str, exp: u64) -> String {
    SigningKey::from_secret(secret).mint_until(account, app, exp, &ExpectedClaims::default())
}

/// The second since 1970 at which a token runs out that is made now.
pub fn expiry(ttl: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_add(ttl).as_secs()
}

#[cfg(test)]
mod key_tests;

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::config::{Secret, VerifyingKey};
    use jsonwebtoken::{Algorithm, EncodingKey};

    const SECRET: &[u8] = b"a secret of the tests, 32 bytes!";
    const NOW: u64 = 1_700_000_000;
    const MAX_TOKEN: usize = 4096;
    const MAX_ACCOUNT: usize = 128;

    fn verifier() -> Verifier {
        Verifier::new(
            KeySet::new(&[VerifyingKey::Hs256(Secret(SECRET.to_vec())).into()]),
            &ExpectedClaims::default(),
        )
    }

    /// Without leeway, so that a second decides.
    fn verify(token: &str) -> Result<Claims, TokenError> {
        verifier().with_leeway(Duration::ZERO).verify(token, NOW, MAX_TOKEN, MAX_ACCOUNT)
    }

    fn encode(text: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    /// A token of any header and claims, signed with a secret under an algorithm.
    fn signed(
        header: impl AsRef<[u8]>,
        claims: impl AsRef<[u8]>,
        secret: &[u8],
        algorithm: Algorithm,
    ) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let key = EncodingKey::from_secret(secret);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn with_header(header: &str) -> String {
        signed(header, r#"{"acc":"alice","app":"x_im","exp":1800000000}"#, SECRET, Algorithm::HS256)
    }

    fn with_claims(claims: &str) -> String {
        signed(r#"{"alg":"HS256","typ":"JWT"}"#, claims, SECRET, Algorithm::HS256)
    }

    fn with_claim(name: &str, literal: &str) -> String {
        let mut fields = vec![("acc", "\"alice\""), ("app", "\"x_im\""), ("exp", "1800000000")];
        fields.retain(|(field, _)| *field != name);
        fields.push((name, literal));
        let fields: Vec<_> = fields.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        with_claims(&format!("{{{}}}", fields.join(",")))
    }

    #[test]
    fn a_minted_token_is_accepted() {
        let token = mint_until(SECRET, "alice", "x_im", NOW + 1);
        let expected =
            Claims { account: "alice".into(), app: "x_im".into(), device: String::new(), exp: NOW + 1 };
        assert_eq!(verify(&token), Ok(expected));
        let lasting = mint(SECRET, "alice", "x_im", Duration::from_secs(60));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let verifier = verifier();
        let claims = verifier.verify(&lasting, now, MAX_TOKEN, MAX_ACCOUNT).unwrap();
        assert!((59..=60).contains(&(claims.exp - now)), "{}", claims.exp - now);
    }

    #[test]
    fn a_part_that_is_not_utf_8_is_refused_also_where_it_would_not_be_read() {
        let (header, claims) =
            (r#"{"alg":"HS256","x":""#, r#"{"acc":"alice","app":"x_im","exp":1800000000,"x":""#);
        let part = |text: &str, value: &[u8]| [text.as_bytes(), value, b"\"}"].concat();
        let verified = |of_header: &[u8], of_claims: &[u8]| {
            let (header, claims) = (part(header, of_header), part(claims, of_claims));
            verify(&signed(header, claims, SECRET, Algorithm::HS256)).map(|claims| claims.account)
        };
        assert_eq!(verified(b"y", b"y"), Ok("alice".to_owned()));
        assert_eq!(verified(b"\xFF", b"y"), Err(TokenError::Format));
        assert_eq!(verified(b"y", b"\xFF"), Err(TokenError::Claims));
    }

    #[test]
    fn a_token_of_another_library_is_accepted() {
        // Made with Python's hmac and base64 modules; the header holds a space and the members in another order.
        let token = concat!(
            "eyJ0eXAiOiAiSldUIiwgImFsZyI6ICJIUzI1NiJ9.",
            "eyJhY2MiOiAiYWxpY2UiLCAiYXBwIjogInhfaW0iLCAiZXhwIjogMTgwMDAwMDAwMCwgImRldiI6ICJwaG9uZSIsICJhdWQiOiAiYW55In0.",
            "F3uBBC-HGw04dR0xQGrxoeZ9BOyx3RT1o_M69vn-qBs"
        );
        let claims = verify(token).unwrap();
        assert_eq!((claims.device.as_str(), claims.exp), ("phone", 1_800_000_000));
    }

    #[rstest]
    #[case(r#"{"alg":"none"}"#)]
    #[case(r#"{"alg":"None"}"#)]
    #[case(r#"{"alg":"NONE"}"#)]
    #[case(r#"{"alg":"nOnE"}"#)]
    #[case(r#"{"alg":""}"#)]
    #[case(r#"{"alg":null}"#)]
    #[case(r#"{"alg":["HS256"]}"#)]
    #[case(r#"{"alg":"hs256"}"#)]
    #[case(r#"{"typ":"JWT"}"#)]
    fn b10_alg_none_in_every_spelling(#[case] header: &str) {
        let claims = encode(r#"{"acc":"alice","app":"x_im","exp":1800000000}"#);
        assert_eq!(verify(&format!("{}.{claims}.", encode(header))), Err(TokenError::Algorithm));
        assert_eq!(verify(&with_header(header)), Err(TokenError::Algorithm));
    }

    #[rstest]
    #[case(r#"{"alg":"HS384"}"#, Algorithm::HS384)]
    #[case(r#"{"alg":"HS512"}"#, Algorithm::HS512)]
    #[case(r#"{"alg":"RS256"}"#, Algorithm::HS256)]
    #[case(r#"{"alg":"ES256"}"#, Algorithm::HS256)]
    #[case(r#"{"alg":"EdDSA"}"#, Algorithm::HS256)]
    #[case(r#"{"alg":"HS256","crit":["exp"]}"#, Algorithm::HS256)]
    #[case(r#"{"alg":"HS256","crit":[]}"#, Algorithm::HS256)]
    #[case(r#"{"alg":"HS256","crit":null}"#, Algorithm::HS256)]
    #[case(r#"{"alg":"HS256","crit":"x"}"#, Algorithm::HS256)]
    fn b11_other_algorithms_and_crit(#[case] header: &str, #[case] algorithm: Algorithm) {
        let claims = r#"{"acc":"alice","app":"x_im","exp":1800000000}"#;
        assert_eq!(verify(&signed(header, claims, SECRET, algorithm)), Err(TokenError::Algorithm));
    }

    #[test]
    fn b11_a_token_under_hs512_that_claims_hs256() {
        let claims = r#"{"acc":"alice","app":"x_im","exp":1800000000}"#;
        let token = signed(r#"{"alg":"HS256"}"#, claims, SECRET, Algorithm::HS512);
        assert_eq!(verify(&token), Err(TokenError::Signature));
    }

    #[rstest]
    #[case(r#"{"alg":"HS256","kid":"../../etc/passwd"}"#)]
    #[case(r#"{"alg":"HS256","kid":null,"jku":"https://example.org/keys","x5u":{"a":1}}"#)]
    #[case(r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"},"x5c":"?","typ":null,"other":[1]}"#)]
    fn b11_hints_in_the_header_are_ignored(#[case] header: &str) {
        assert_eq!(verify(&with_header(header)).unwrap().account, "alice");
    }

    #[rstest]
    #[case("1699999999", TokenError::Expired)]
    #[case("1700000000", TokenError::Expired)]
    #[case("1700000000.0", TokenError::Expired)]
    #[case("1699999999.5", TokenError::Expired)]
    #[case("0", TokenError::Expired)]
    #[case("-0.0", TokenError::Expired)]
    #[case("-1", TokenError::Claims)]
    #[case("-0.5", TokenError::Claims)]
    #[case("\"1800000000\"", TokenError::Claims)]
    #[case("\"NaN\"", TokenError::Claims)]
    #[case("NaN", TokenError::Claims)]
    #[case("1e308", TokenError::Claims)]
    #[case("1e400", TokenError::Claims)]
    #[case("9007199254740993", TokenError::Claims)]
    #[case("9007199254740994", TokenError::Claims)]
    #[case("18446744073709551615", TokenError::Claims)]
    #[case("99999999999999999999999", TokenError::Claims)]
    #[case("null", TokenError::Claims)]
    #[case("true", TokenError::Claims)]
    #[case("[1800000000]", TokenError::Claims)]
    fn b12_exp_that_is_past_or_no_time(#[case] literal: &str, #[case] expected: TokenError) {
        assert_eq!(verify(&with_claim("exp", literal)), Err(expected));
    }

    #[rstest]
    #[case("1700000001", 1_700_000_001)]
    #[case("1700000000.5", 1_700_000_001)]
    #[case("1.8e9", 1_800_000_000)]
    #[case("9007199254740992", 9_007_199_254_740_992)]
    #[case("9007199254740992.0", 9_007_199_254_740_992)]
    fn b12_exp_as_integer_or_float(#[case] literal: &str, #[case] expected: u64) {
        assert_eq!(verify(&with_claim("exp", literal)).unwrap().exp, expected);
    }

    #[test]
    fn b12_exp_missing_and_unknown_claims() {
        assert_eq!(verify(&with_claims(r#"{"acc":"alice","app":"x_im"}"#)), Err(TokenError::Claims));
        let claims = r#"{"acc":"alice","app":"x_im","exp":1800000000,"aud":["a"],"iss":7,"sub":null}"#;
        assert!(verify(&with_claims(claims)).is_ok());
    }

    #[rstest]
    #[case("1700000001", Err(TokenError::NotYet))]
    #[case("1700000000.5", Err(TokenError::NotYet))]
    #[case("1700000000", Ok(()))]
    #[case("1699999999.5", Ok(()))]
    #[case("0", Ok(()))]
    #[case("\"0\"", Err(TokenError::Claims))]
    #[case("null", Ok(()))]
    #[case("-1", Err(TokenError::Claims))]
    #[case("1e308", Err(TokenError::Claims))]
    fn b13_nbf(#[case] literal: &str, #[case] expected: Result<(), TokenError>) {
        assert_eq!(verify(&with_claim("nbf", literal)).map(drop), expected);
    }

    #[rstest]
    #[case("exp", NOW as i64 - 60, 60, Err(TokenError::Expired))]
    #[case("exp", NOW as i64 - 59, 60, Ok(()))]
    #[case("exp", NOW as i64 - 1, 0, Err(TokenError::Expired))]
    #[case("exp", NOW as i64, 1, Ok(()))]
    #[case("nbf", NOW as i64 + 60, 60, Ok(()))]
    #[case("nbf", NOW as i64 + 61, 60, Err(TokenError::NotYet))]
    #[case("nbf", NOW as i64 + 1, 0, Err(TokenError::NotYet))]
    fn b12_b13_both_ends_have_the_leeway(
        #[case] claim: &str,
        #[case] second: i64,
        #[case] leeway: u64,
        #[case] expected: Result<(), TokenError>,
    ) {
        let token = with_claim(claim, &second.to_string());
        let verifier = verifier().with_leeway(Duration::from_secs(leeway));
        assert_eq!(verifier.verify(&token, NOW, MAX_TOKEN, MAX_ACCOUNT).map(drop), expected);
    }

    #[test]
    fn b12_b13_the_usual_leeway_is_a_minute_and_overflows_nothing() {
        let at = |token: &str, now: u64| verifier().verify(token, now, MAX_TOKEN, MAX_ACCOUNT);
        let token = mint_until(SECRET, "alice", "x_im", NOW);
        assert_eq!(at(&token, NOW + 59).unwrap().exp, NOW, "the claim stays as it is");
        assert_eq!(at(&token, NOW + 60), Err(TokenError::Expired));
        assert_eq!(at(&token, u64::MAX), Err(TokenError::Expired));
        let lasting = mint_until(SECRET, "alice", "x_im", 1 << 53);
        let endless = verifier().with_leeway(Duration::MAX);
        assert!(endless.verify(&lasting, u64::MAX - 1, MAX_TOKEN, MAX_ACCOUNT).is_ok());
        // A fraction is still rounded up, and below 0 there is still nothing.
        assert_eq!(at(&with_claim("exp", "1699999940.5"), NOW).unwrap().exp, NOW - 59);
        assert_eq!(at(&with_claim("exp", "-1"), NOW), Err(TokenError::Claims));
    }

    #[rstest]
    #[case("nbf", Ok(()))]
    #[case("dev", Ok(()))]
    #[case("iss", Ok(()))]
    #[case("aud", Ok(()))]
    #[case("exp", Err(TokenError::Claims))]
    #[case("acc", Err(TokenError::Claims))]
    #[case("app", Err(TokenError::Claims))]
    fn b16_a_claim_of_null_is_absent(#[case] claim: &str, #[case] expected: Result<(), TokenError>) {
        assert_eq!(verify(&with_claim(claim, "null")).map(drop), expected);
    }

    #[test]
    fn b14_another_secret_or_a_changed_token() {
        let token = mint_until(b"another secret of 32 bytes, too.", "alice", "x_im", NOW + 60);
        assert_eq!(verify(&token), Err(TokenError::Signature));
        let empty = mint_until(b"", "alice", "x_im", NOW + 60);
        assert_eq!(verify(&empty), Err(TokenError::Signature));
        let good = mint_until(SECRET, "alice", "x_im", NOW + 60);
        let (header, rest) = good.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let forged = encode(r#"{"acc":"bob","app":"x_im","exp":1800000000}"#);
        assert_eq!(verify(&format!("{header}.{forged}.{signature}")), Err(TokenError::Signature));
        assert_eq!(verify(&format!("{header}.{forged}.")), Err(TokenError::Signature));
        assert_eq!(verify(&good[..good.len() - 3]), Err(TokenError::Signature));
    }

    #[test]
    fn b15_size_is_checked_before_anything_is_decoded() {
        assert_eq!(verify(&"a".repeat(1 << 20)), Err(TokenError::Size));
        assert_eq!(verify(&".".repeat(10_000)), Err(TokenError::Size));
        assert_eq!(verify(&"x".repeat(MAX_TOKEN + 1)), Err(TokenError::Size));
        assert_eq!(verify(&"x".repeat(MAX_TOKEN)), Err(TokenError::Format));
    }

    #[rstest]
    #[case("")]
    #[case(".")]
    #[case("..")]
    #[case("...")]
    #[case("a.b")]
    #[case("a.b.c.d")]
    #[case("!!!.???.***")]
    #[case("e30=.e30=.e30=")]
    #[case("用户.用户.用户")]
    fn b15_what_is_no_token(#[case] token: &str) {
        assert_eq!(verify(token), Err(TokenError::Format));
    }

    #[test]
    fn b15_deep_and_odd_json() {
        let deep = format!(r#"{{"acc":{}1{}}}"#, "[".repeat(1000), "]".repeat(1000));
        assert_eq!(verify(&with_claims(&deep)), Err(TokenError::Claims));
        assert_eq!(verify(&with_header(&"[".repeat(1000))), Err(TokenError::Format));
        let by_position = r#"["alice","x_im",1800000000]"#;
        for claims in
            ["", "null", "[]", "7", "{", by_position, r#"{"acc":"a","acc":"b","app":"x","exp":1800000000}"#]
        {
            assert_eq!(verify(&with_claims(claims)), Err(TokenError::Claims), "{claims}");
        }
        for header in ["", "null", "7", "{", r#"["HS256"]"#, r#"{"alg":"HS256","alg":"HS256"}"#] {
            assert_eq!(verify(&with_header(header)), Err(TokenError::Format), "{header}");
        }
        let (_, rest) = with_claims("{}").split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!(verify(&format!("{}.{rest}", encode("\u{0}"))), Err(TokenError::Format));
    }

    #[rstest]
    #[case(r#"{"app":"x_im","exp":1800000000}"#)]
    #[case(r#"{"acc":"","app":"x_im","exp":1800000000}"#)]
    #[case(r#"{"acc":null,"app":"x_im","exp":1800000000}"#)]
    #[case(r#"{"acc":7,"app":"x_im","exp":1800000000}"#)]
    #[case(r#"{"acc":"alice","exp":1800000000}"#)]
    #[case(r#"{"acc":"alice","app":"","exp":1800000000}"#)]
    #[case(r#"{"acc":"alice","app":["x_im"],"exp":1800000000}"#)]
    #[case(r#"{"acc":"alice","app":"x_im","exp":1800000000,"dev":7}"#)]
    #[case(r#"{"acc":"alice","app":"x_im","exp":1800000000,"dev":"a\u0000"}"#)]
    fn b16_account_or_app_missing_empty_or_of_another_type(#[case] claims: &str) {
        assert_eq!(verify(&with_claims(claims)), Err(TokenError::Claims));
    }

    #[rstest]
    #[case(r#""ali\nce""#)]
    #[case(r#""alice\u0000""#)]
    #[case(r#""\u007f""#)]
    #[case(r#""\u0085""#)]
    #[case(r#""\ud800""#)]
    #[case(r#""\udc00\ud800""#)]
    fn b17_control_characters_and_broken_escapes(#[case] literal: &str) {
        for name in ["acc", "app"] {
            assert_eq!(verify(&with_claim(name, literal)), Err(TokenError::Claims));
        }
    }

    #[test]
    fn b17_other_separators_are_allowed_and_length_is_bounded() {
        for account in ["a,b", "a_b", "a\"b", "a'b", "用户", "\u{202e}abc", " ", "a.b/c", &"x".repeat(128)]
        {
            let token = with_claim("acc", &json!(account).to_string());
            assert_eq!(verify(&token).unwrap().account, account);
        }
        for account in ["x".repeat(129), "用".repeat(43), "x".repeat(2000)] {
            assert_eq!(verify(&with_claim("acc", &json!(account).to_string())), Err(TokenError::Claims));
        }
        assert_eq!(verify(&with_claim("acc", &json!("x".repeat(10_240)).to_string())), Err(TokenError::Size));
    }

    #[test]
    fn labels_are_distinct_and_errors_say_nothing_of_the_token() {
        let labels: std::collections::HashSet<_> =
            TokenError::ALL.iter().map(|error| error.reject_label()).collect();
        assert_eq!(labels.len(), TokenError::ALL.len());
        let verifier = verifier();
        assert!(!format!("{verifier:?}").contains("tests"));
    }
}
