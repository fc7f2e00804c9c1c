//! The sign-out of one channel, owed to the login service.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use crate::session::channel::{Channel, Identity, Ticket};
use crate::session::pending::{InstanceKey, RequestStage};
use crate::session::signouts_by_identity::{Owed, Relogin};
use crate::wire::close::CloseReason;
use crate::wire::rewrite::Origin;

/// One sign-out.
#[derive(Debug)]
pub(crate) struct SignOut {
    /// Of the channel that ended.
    pub(crate) channel_id: Rc<str>,
    /// Of that channel.
    pub(crate) identity: Identity,
    /// Why it ended.
    pub(crate) reason: CloseReason,
    /// The login service kicked it, and so knows that it has ended.
    pub(crate) is_known: bool,
    /// The sign-in it undoes.
    pub(crate) signin: Option<Rc<Ticket>>,
    /// The sign-in is not answered: the sign-out is held back, or the Go services might handle it first.
    pub(super) unanswered: Cell<bool>,
    /// From the end of the channel until it is discharged.
    pub(super) owed: RefCell<Option<Owed>>,
    pub(super) since: Instant,
}

impl SignOut {
    /// The sign-out of a channel that ends now.
    pub(crate) fn of(channel: &Channel, reason: CloseReason, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            channel_id: Rc::clone(&channel.id),
            identity: channel.identity.clone(),
            reason,
            is_known: reason == CloseReason::Kicked && !channel.is_kicked_here(),
            signin: channel.signin(),
            unanswered: Cell::new(channel.is_opening()),
            owed: RefCell::default(),
            since: now,
        })
    }

    /// What goes into its header.
    pub(crate) fn origin<'a>(&'a self, gate_id: &'a str) -> Origin<'a> {
        let Identity { app, account } = &self.identity;
        Origin { channel_id: &self.channel_id, app, account, gate_id }
    }

    /// The instance that got the sign-in.
    pub(crate) fn signed_in_at(&self) -> Option<InstanceKey> {
        match self.signin.as_ref()?.stage() {
            RequestStage::Sent(instance) | RequestStage::Lost(instance) => Some(instance),
            RequestStage::Unplaced | RequestStage::Queued(..) => None,
        }
    }

    /// Whether the same account was signed in again while this waited in the spool. Then it must not be written behind
    /// that sign-in: the Go login services delete by account.
    pub(crate) fn relogin(&self) -> Relogin {
        self.owed.borrow().as_ref().map_or(Relogin::None, Owed::relogin)
    }

    /// The answer to its sign-in came, or is not to come.
    pub(super) fn complete_signin(&self) {
        self.unanswered.set(false);
        if let Some(signin) = &self.signin {
            signin.complete();
        }
    }

    pub(super) fn is_held(&self) -> bool {
        let may_be_answered = |signin: &Rc<Ticket>| matches!(signin.stage(), RequestStage::Sent(_));
        self.unanswered.get() && self.signin.as_ref().is_some_and(may_be_answered)
    }
}
