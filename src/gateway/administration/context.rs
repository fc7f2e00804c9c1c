//! What every path of the API works with: what the gateway knows, and why a question is not answered.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::drain_control::DrainControl;
use crate::admin::mailbox::{MailboxError, Mailboxes};
use crate::admin::query::{Query, QueryError};
use crate::admin::{AdminAnswer, AdminRequest};
use crate::bans::Bans;
use crate::gateway::reload::Reloader;
use crate::live::LiveSource;
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;

/// What the administrator may see and change.
#[derive(Debug)]
pub(in crate::gateway) struct Administration {
    pub(super) gateway_id: String,
    pub(super) started: Instant,
    pub(super) reloader: Option<Arc<Reloader>>,
    pub(super) mailboxes: Mailboxes,
    pub(super) bans: Arc<Bans>,
    pub(super) metrics: Metrics,
    pub(super) readiness: Arc<Readiness>,
    pub(super) live: LiveSource,
    pub(super) drain: DrainControl,
    /// See [`Administration::instances_turn`].
    pub(super) ejecting: Mutex<()>,
    /// Places for those who watch packets.
    pub(super) traces: Arc<Semaphore>,
}

impl Administration {
    /// Held from the look at who serves until one of them is ejected or returned: two at once could leave nobody.
    pub(super) fn instances_turn(&self) -> MutexGuard<'_, ()> {
        self.ejecting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a question is not answered.
#[derive(Debug)]
pub(super) enum ApiRefusal {
    /// The fault of whoever asks.
    Asked(String),
    /// There is no such thing.
    Absent(String),
    /// It does not fit how things are.
    Conflict(String),
    /// It could not be done; the fault of the machine.
    Failed(String),
    /// It cannot be had now.
    Unavailable(MailboxError),
    /// A reload's own.
    Answered(AdminAnswer),
}

impl From<QueryError> for ApiRefusal {
    fn from(error: QueryError) -> Self {
        Self::Asked(error.to_string())
    }
}

impl From<MailboxError> for ApiRefusal {
    fn from(error: MailboxError) -> Self {
        Self::Unavailable(error)
    }
}

impl ApiRefusal {
    pub(super) fn into_answer(self) -> AdminAnswer {
        let error = |status, text: &dyn fmt::Display| AdminAnswer::error(status, text);
        match self {
            Self::Asked(problem) => error(StatusCode::BAD_REQUEST, &problem),
            Self::Absent(problem) => error(StatusCode::NOT_FOUND, &problem),
            Self::Conflict(problem) => error(StatusCode::CONFLICT, &problem),
            Self::Failed(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, &problem),
            Self::Unavailable(MailboxError::Late) => error(StatusCode::GATEWAY_TIMEOUT, &MailboxError::Late),
            Self::Unavailable(problem) => error(StatusCode::SERVICE_UNAVAILABLE, &problem),
            Self::Answered(answer) => answer,
        }
    }
}

pub(super) type Answered = Result<AdminAnswer, ApiRefusal>;

/// Some workers may have been asked before one that does not answer, and it may still do what it was asked.
pub(super) fn half_done(error: MailboxError, done: impl fmt::Display) -> ApiRefusal {
    let problem = format!("{error}; {done}");
    let AdminAnswer { status, .. } = ApiRefusal::from(error).into_answer();
    ApiRefusal::Answered(AdminAnswer::error(status, problem))
}

/// What a request asks behind its path.
pub(super) fn query(request: &AdminRequest) -> Result<Query, ApiRefusal> {
    Ok(Query::parse_from(&request.query)?)
}

/// Nothing may be asked there.
pub(super) fn no_query(request: &AdminRequest) -> Result<(), ApiRefusal> {
    Ok(query(request)?.finish()?)
}

pub(super) fn json(answer: &impl Serialize) -> Answered {
    let json = serde_json::to_value(answer).map_err(|error| {
        let problem = format_args!("the answer is no JSON: {error}. Please report this");
        ApiRefusal::Answered(AdminAnswer::error(StatusCode::INTERNAL_SERVER_ERROR, problem))
    })?;
    Ok(AdminAnswer::ok(json))
}
