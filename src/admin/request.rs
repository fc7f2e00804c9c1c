//! What is asked of the administrator's API, and what is answered.

use std::fmt;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::stream::LineStream;

/// What somebody asks for.
#[derive(Debug)]
pub(crate) struct AdminRequest {
    pub(crate) method: Method,
    /// Without the query.
    pub(crate) path: String,
    /// Without the question mark; empty where there is none.
    pub(crate) query: String,
    /// Who asks, for the log.
    pub(crate) who: Arc<str>,
    /// [`Value::Null`] where there was no body.
    pub(crate) body: Value,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct AdminAnswer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    /// Goes out in place of the body.
    pub(crate) lines: Option<LineStream>,
}

impl AdminAnswer {
    /// It went well.
    pub(crate) const fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body, lines: None }
    }

    /// It goes well for as long as lines come.
    pub(crate) const fn stream(lines: LineStream) -> Self {
        Self { status: StatusCode::OK, body: Value::Null, lines: Some(lines) }
    }

    /// It did not.
    pub(crate) fn error(status: StatusCode, error: impl fmt::Display) -> Self {
        Self { status, body: json!({ "error": error.to_string() }), lines: None }
    }
}

/// Answers requests, on a thread that may block.
pub(crate) type Answerer = Arc<dyn Fn(AdminRequest) -> AdminAnswer + Send + Sync>;
