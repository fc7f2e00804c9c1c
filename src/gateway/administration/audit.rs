//! Who changed what, and what came of it: a line of the log and a counter for each order, refused ones among them.

use hyper::StatusCode;
use tracing::{info, warn};

use super::context::{Administration, Answered, ApiRefusal};
use crate::admin::{AdminAnswer, AdminRequest};
use crate::monitor::admin_labels::{AdminChange, AdminResult};

impl Administration {
    pub(super) fn audit(
        &self,
        change: AdminChange,
        request: &AdminRequest,
        answered: Answered,
    ) -> AdminAnswer {
        let answer = answered.unwrap_or_else(ApiRefusal::into_answer);
        let result = match answer.status {
            StatusCode::OK => AdminResult::Done,
            status if status.is_client_error() => AdminResult::Refused,
            _ => AdminResult::Failed,
        };
        self.metrics.administered(change, result);
        let (what, result, who) = (change.label(), result.label(), &*request.who);
        // Bounded by what a body may be; secrets stand in none.
        let order = &request.body;
        let detail = &answer.body;
        if answer.status == StatusCode::OK {
            info!(event = "admin", what, who, result, %order, %detail, "an order of the administrator");
        } else {
            warn!(event = "admin", what, who, result, %order, %detail, "an order of the administrator");
        }
        answer
    }
}
