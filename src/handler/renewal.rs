//! `login.renew`: a channel gets a token that lasts longer, and goes on as it is (protocol §3). Never forwarded: the login
//! service knows the session, and a token is the gateway's business.

use std::rc::Rc;
use std::time::Instant;

use prost::Message as _;

use super::{Handler, token_reject};
use crate::clock::EPOCH_2020;
use crate::monitor::metrics::{Reject, RenewalResult};
use crate::session::channel::Channel;
use crate::wire::pb::{self, Status};

/// What a renewal is answered.
pub(super) type Verdict = (Status, &'static str);

impl Handler {
    /// Judges the token and moves the end of the channel to that of the token, be it later or earlier. A refused one changes
    /// nothing: the channel has the time it had.
    pub(super) fn renew(&self, channel: &Rc<Channel>, body: &[u8], now: Instant, now_unix: u64) -> Verdict {
        let identity = &channel.identity;
        // In front of the token, whose check is what costs: it comes out of what the account may spend on logins (row B20).
        if !self.gate.accounts.take(&(&identity.app, &identity.account), now) {
            return self.turn_renewal_away(Reject::AccountRate, "this account signs in too often");
        }
        if now_unix < EPOCH_2020 {
            return self.turn_renewal_away(Reject::Clock, "the gateway's clock is wrong");
        }
        let Ok(login) = pb::LoginReq::decode(body) else {
            return self.refuse_renewal(Reject::JwtFormat);
        };
        let limits = self.limits();
        if let Some(refresh) = &self.gate.key_refresh
            && self.verifier().lacks_key_of(&login.token, limits.max_token)
        {
            // Refused for now. Whoever tries again in a moment is let in, if the key is published.
            refresh.ask();
        }
        match self.verifier().verify(&login.token, now_unix, limits.max_token, limits.max_account) {
            Err(error) => self.refuse_renewal(token_reject(&error)),
            Ok(claims) if claims.app != identity.app || claims.account != identity.account => {
                self.refuse_renewal(Reject::RenewForeign)
            }
            Ok(claims) => {
                let lifetime = self.verifier().session_lifetime(&claims, now_unix);
                channel.set_expiry(lifetime.and_then(|lifetime| now.checked_add(lifetime)));
                self.metrics.renewal(RenewalResult::Ok);
                (Status::Success, "")
            }
        }
    }

    fn refuse_renewal(&self, reason: Reject) -> Verdict {
        self.metrics.reject(reason);
        self.metrics.renewal(RenewalResult::Unauthenticated);
        (Status::Unauthenticated, "the token was refused")
    }

    fn turn_renewal_away(&self, reason: Reject, text: &'static str) -> Verdict {
        self.metrics.reject(reason);
        self.metrics.renewal(RenewalResult::Overloaded);
        (Status::SystemException, text)
    }
}
