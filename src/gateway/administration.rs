//! What is answered on the admin socket.

use std::path::PathBuf;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::reload::{ReloadError, ReloadReport, Reloader};
use crate::admin::{AdminAnswer, AdminRequest, Answerer};

/// Where a reload is asked for.
pub const RELOAD: &str = "/api/v1/reload";

/// Where is asked what a reload would come to.
pub const COMPARE: &str = "/api/v1/compare";

/// Answers for a gateway.
pub(super) fn answerer(reloader: Option<Arc<Reloader>>) -> Answerer {
    Arc::new(move |request| {
        let reloader = || reloader.as_deref().ok_or(ReloadError::NoFile);
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", RELOAD) => outcome(reloader().and_then(Reloader::reload)),
            ("POST", COMPARE) => outcome(reloader().and_then(|reloader| reloader.compare(named(&request)))),
            (_, RELOAD | COMPARE) => {
                AdminAnswer::error(StatusCode::METHOD_NOT_ALLOWED, format_args!("only {}", Method::POST))
            }
            _ => {
                let known = format_args!("no such path; there are POST {RELOAD} and POST {COMPARE}");
                AdminAnswer::error(StatusCode::NOT_FOUND, known)
            }
        }
    })
}

/// Another configuration file than that of the gateway.
fn named(request: &AdminRequest) -> Option<PathBuf> {
    request.body.get("config").and_then(Value::as_str).map(PathBuf::from)
}

fn outcome(outcome: Result<ReloadReport, ReloadError>) -> AdminAnswer {
    match outcome {
        Ok(ReloadReport { changed, needs_restart, warnings, is_pending }) => AdminAnswer::ok(json!({
            "changed": changed, "needs_restart": needs_restart, "warnings": warnings, "pending": is_pending,
        })),
        Err(error @ ReloadError::NoFile) => AdminAnswer::error(StatusCode::CONFLICT, error),
        Err(error) => AdminAnswer::error(StatusCode::UNPROCESSABLE_ENTITY, error),
    }
}
