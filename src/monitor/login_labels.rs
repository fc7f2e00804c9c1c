//! The closed sets of label values that are about signing in.

use super::labels::label_set;

label_set! {
    /// How an attempt to sign in ended.
    LoginResult {
        /// The login service answered 0: the channel is open.
        Ok = "ok",
        /// The login service answered another status.
        Refused = "refused",
        /// The gateway refused the token (105).
        Unauthenticated = "unauthenticated",
        /// No login instance could take the sign-in (300, close 3004).
        Unavailable = "unavailable",
        /// The sign-in was handed over and not answered in time, or its link was lost (210, close 3004).
        Unanswered = "unanswered",
        /// No login packet arrived within the login deadline (close 3007).
        Timeout = "timeout",
        /// Too many logins were waiting, of this account or of all, or the gateway is overloaded (300, close 3003).
        Overloaded = "overloaded",
        /// The first packet was something else, or no packet at all.
        Malformed = "malformed",
        /// The client left before its login was answered.
        Abandoned = "abandoned",
    }
}

label_set! {
    /// How a fetch of keys ended: `gateway_jwks_refreshes_total`.
    JwksRefresh {
        /// It brought keys.
        Ok = "ok",
        /// No connection, or one that broke, or the name of the host could not be resolved.
        Unreachable = "unreachable",
        /// No whole answer in time.
        Timeout = "timeout",
        /// Another status than 200.
        Status = "status",
        /// An answer that is too large, or holds no key that verifies tokens.
        BadAnswer = "bad_answer",
    }
}

label_set! {
    /// How a renewal of a token ended.
    RenewalResult {
        /// The session lasts as long as the new token.
        Ok = "ok",
        /// The token was refused, or was for another app or account (105).
        Unauthenticated = "unauthenticated",
        /// The account signs in too often, or the gateway's clock is wrong (300).
        Overloaded = "overloaded",
    }
}
