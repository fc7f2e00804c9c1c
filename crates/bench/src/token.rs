//! Tokens for the clients of the load.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The app of every account.
const APP: &str = "bench";

/// Far behind the end of any run, seconds since 1970.
const EXPIRES: u64 = 4_000_000_000;

/// Signs tokens with HS256.
#[derive(Debug)]
pub(crate) struct TokenSigner(hmac::Key);

impl TokenSigner {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A token of one account.
    pub(crate) fn token(&self, account: &str) -> String {
        let head = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let claims = format!(r#"{{"acc":"{account}","app":"{APP}","exp":{EXPIRES}}}"#);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
        let tag = hmac::sign(&self.0, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }
}
