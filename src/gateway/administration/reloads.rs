//! The configuration, read again.

use std::path::PathBuf;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::context::{Administration, Answered};
use crate::admin::model::Problem;
use crate::admin::{AdminAnswer, AdminRequest};
use crate::gateway::reload::{ReloadError, ReloadReport, Reloader};

/// Reads configuration, route, certificates, keys and secrets again: all that changed is put into effect, or nothing.
#[utoipa::path(post, path = "/api/v1/reload", responses(
    (status = 200, description = "what changed, and what needs a restart", body = Value),
    (status = 409, description = "there is no file to read", body = Problem),
    (status = 422, description = "it is refused; nothing changed", body = Problem),
))]
pub(super) fn reload(of: &Administration, _request: &AdminRequest) -> Answered {
    Ok(outcome(reloader(of).and_then(Reloader::reload)))
}

/// Says what a reload would come to, of another file if the body names one as `config`.
#[utoipa::path(post, path = "/api/v1/compare", responses(
    (status = 200, description = "what would change, and what needs a restart", body = Value),
    (status = 422, description = "it would be refused", body = Problem),
))]
pub(super) fn compare(of: &Administration, request: &AdminRequest) -> Answered {
    let named = request.body.get("config").and_then(Value::as_str).map(PathBuf::from);
    Ok(outcome(reloader(of).and_then(|reloader| reloader.compare(named))))
}

fn reloader(of: &Administration) -> Result<&Reloader, ReloadError> {
    of.reloader.as_deref().ok_or(ReloadError::NoFile)
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
