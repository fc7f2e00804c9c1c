//! Why a token is refused.

/// Why a token is refused: the client's fault, answered 105. No variant holds any part of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than allowed; nothing of it was decoded.
    #[error("the token is too long")]
    Size,
    /// Not three parts of base64, or a header that is no JSON object.
    #[error("the token is no JSON Web Token")]
    Format,
    /// Another algorithm than that of its key, one that no key has, none at all, or a critical extension.
    #[error("the token's algorithm is not that of its key")]
    Algorithm,
    /// Its `kid` names no key, or its key has ended.
    #[error("the token's key is not known, or has ended")]
    Key,
    /// Signed with another secret or key, or changed since.
    #[error("the token's signature does not match")]
    Signature,
    /// A claim is missing, of the wrong type, too long, has control characters, or is not what the configuration
    /// expects.
    #[error("the token's claims are missing, malformed or not for this gateway")]
    Claims,
    /// For an app that its key does not speak for.
    #[error("the token's key does not speak for its app")]
    App,
    /// `exp` has come, and the leeway is over.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come yet, and is further away than the leeway.
    #[error("the token is not valid yet")]
    NotYet,
}

impl TokenError {
    /// Every error, for tables.
    pub const ALL: [Self; 9] = [
        Self::Size,
        Self::Format,
        Self::Algorithm,
        Self::Key,
        Self::Signature,
        Self::Claims,
        Self::App,
        Self::Expired,
        Self::NotYet,
    ];

    /// The `reason` of `gateway_reject_total`.
    pub const fn reject_label(self) -> &'static str {
        match self {
            Self::Size => "jwt_size",
            Self::Format => "jwt_format",
            Self::Algorithm => "jwt_alg",
            Self::Key => "jwt_key",
            Self::Signature => "jwt_signature",
            Self::Claims => "jwt_claims",
            Self::App => "jwt_app",
            Self::Expired => "jwt_expired",
            Self::NotYet => "jwt_not_yet",
        }
    }
}
