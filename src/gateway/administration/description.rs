//! The description of the API, made of its types and functions.

use utoipa::OpenApi;

use super::context::{Administration, Answered, json, no_query};
use super::{acts, drain, instances, notice, reads, reloads, traces, weight};
use crate::admin::AdminRequest;
use crate::admin::model;

#[derive(OpenApi)]
#[openapi(
    info(title = "Gateway", description = "The administrator's API of one gateway"),
    paths(
        openapi,
        reads::status,
        reads::stream,
        reads::connections,
        reads::connection,
        reads::links,
        reads::explain,
        reads::limits,
        reads::events,
        reads::closes,
        reads::activity,
        reloads::reload,
        reloads::compare,
        acts::kick,
        acts::ban,
        acts::unban,
        acts::bans,
        acts::log_level,
        notice::notice,
        drain::drain,
        drain::undrain,
        weight::weight,
        instances::eject,
        instances::give_back,
        traces::trace,
    ),
    components(schemas(
        model::Status,
        model::ConnectionPage,
        model::ConnectionView,
        model::LinkList,
        model::RouteExplanation,
        model::RecentEvents,
        model::Closes,
        model::Problem,
    ))
)]
struct Description;

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, body = Value)))]
pub(super) fn openapi(_of: &Administration, request: &AdminRequest) -> Answered {
    no_query(request)?;
    json(&Description::openapi())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::gateway::administration::{API, ENDPOINTS};

    #[test]
    fn every_path_is_described_and_no_other() {
        let described = serde_json::to_value(Description::openapi()).unwrap();
        let paths = described["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        });
        let paths: BTreeSet<_> = paths.collect();
        let served: BTreeSet<_> = ENDPOINTS
            .iter()
            .map(|endpoint| (endpoint.method.to_owned(), format!("{API}{}", endpoint.path)))
            .collect();
        assert_eq!(paths, served);
    }
}
