//! What the administrator is answered: each path of the API with what it does.

mod acts;
mod audit;
mod context;
mod description;
mod drain;
mod drain_control;
mod instances;
mod notice;
mod reads;
mod reloads;
mod traces;
mod weight;

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hyper::StatusCode;
use tokio::sync::Semaphore;

use self::context::{Administration, Answered, ApiRefusal};
use super::Gateway;
use super::reload::{FilesWatch, LogLevel, ProcessParts, Reloader, Reloads};
use super::shared_parts::SharedParts;
use super::start_error::StartError;
use crate::admin::guard::DoorGuard;
use crate::admin::mailbox::{Mailbox, Mailboxes};
use crate::admin::{AdminAnswer, AdminRequest, AdminServer, Answerer, Doors, NetworkDoor};
use crate::limits::TRACES_AT_ONCE;
use crate::monitor::admin_labels::AdminChange;
use crate::server::tls::{HTTP_ALPN, TlsParts};

/// What all paths begin with.
pub const API: &str = "/api/v1/";

impl Gateway {
    /// What may be changed while it runs, and who may ask for it. What he asks the workers comes to these mailboxes.
    pub(super) fn administer(
        &mut self,
        reloads: Option<Reloads>,
        log_level: Option<LogLevel>,
        shared: &SharedParts,
        listener: Option<TcpListener>,
    ) -> Result<Vec<Mailbox>, StartError> {
        if let (Some(reloads), Some(sender)) = (reloads, &self.sender) {
            let process = ProcessParts {
                metrics: self.metrics.clone(),
                readiness: Arc::clone(&self.readiness),
                admission: Arc::clone(&shared.admission),
                accounts: Arc::clone(&shared.gate.accounts),
                tickets: Arc::clone(&shared.tickets),
                watchdog: self.watchdog.bounds(),
                events: sender.retarget(),
                source: self.discovery.change(),
                resolver: shared.resolver.clone(),
                log_level,
            };
            let reloader = Arc::new(Reloader::new(reloads, self.live.clone(), process));
            self.files = Some(FilesWatch::start(Arc::clone(&reloader)).map_err(StartError::Thread)?);
            self.reloader = Some(reloader);
        }
        let (mailboxes, of_workers) = Mailboxes::new(self.config.workers, Instant::now());
        let doors = Doors {
            socket: self.config.admin.socket.as_deref(),
            network: self.network_door(listener, shared)?,
        };
        if doors.socket.is_none() && doors.network.is_none() {
            return Ok(of_workers);
        }
        let administration = Administration {
            gateway_id: self.config.id.clone(),
            started: mailboxes.epoch,
            reloader: self.reloader.clone(),
            mailboxes,
            bans: Arc::clone(&shared.gate.bans),
            metrics: self.metrics.clone(),
            readiness: Arc::clone(&self.readiness),
            live: self.live.clone(),
            drain: drain_control::DrainControl::new(self.discovery.own_entry()),
            ejecting: Mutex::default(),
            traces: Arc::new(Semaphore::new(TRACES_AT_ONCE)),
        };
        self.admin = Some(AdminServer::start(doors, administration.answerer())?);
        Ok(of_workers)
    }

    fn network_door(
        &self,
        listener: Option<TcpListener>,
        shared: &SharedParts,
    ) -> Result<Option<NetworkDoor>, StartError> {
        let (Some(listener), Some((address, token))) = (listener, &self.config.admin.listen) else {
            return Ok(None);
        };
        let parts = TlsParts { certificate: self.live.certificate(), tickets: Arc::clone(&shared.tickets) };
        let tls = (!address.ip().is_loopback()).then(|| parts.config(HTTP_ALPN)).transpose()?;
        Ok(Some(NetworkDoor { listener, guard: DoorGuard::new(&token.0), tls: tls.map(Arc::new) }))
    }
}

/// One path.
struct ApiEndpoint {
    method: &'static str,
    /// Behind [`API`].
    path: &'static str,
    answer: fn(&Administration, &AdminRequest) -> Answered,
    /// What it changes; such are told in the log, whatever comes of them.
    change: Option<AdminChange>,
}

/// All of them.
const ENDPOINTS: &[ApiEndpoint] = &[
    get("status", reads::status),
    get("stream", reads::stream),
    get("connections", reads::connections),
    get("connection", reads::connection),
    get("links", reads::links),
    get("explain", reads::explain),
    get("limits", reads::limits),
    get("events", reads::events),
    get("closes", reads::closes),
    get("activity", reads::activity),
    get("openapi.json", description::openapi),
    get("bans", acts::bans),
    post("compare", reloads::compare),
    change(AdminChange::Reload, "reload", reloads::reload),
    change(AdminChange::Kick, "kick", acts::kick),
    change(AdminChange::Ban, "ban", acts::ban),
    change(AdminChange::Unban, "unban", acts::unban),
    change(AdminChange::Notice, "notice", notice::notice),
    change(AdminChange::Drain, "drain", drain::drain),
    change(AdminChange::Undrain, "undrain", drain::undrain),
    change(AdminChange::Weight, "weight", weight::weight),
    change(AdminChange::Eject, "eject", instances::eject),
    change(AdminChange::Return, "return", instances::give_back),
    change(AdminChange::Trace, "trace", traces::trace),
    change(AdminChange::LogLevel, "log-level", acts::log_level),
];

const fn get(path: &'static str, answer: fn(&Administration, &AdminRequest) -> Answered) -> ApiEndpoint {
    ApiEndpoint { method: "GET", path, answer, change: None }
}

const fn post(path: &'static str, answer: fn(&Administration, &AdminRequest) -> Answered) -> ApiEndpoint {
    ApiEndpoint { method: "POST", path, answer, change: None }
}

const fn change(
    change: AdminChange,
    path: &'static str,
    answer: fn(&Administration, &AdminRequest) -> Answered,
) -> ApiEndpoint {
    ApiEndpoint { method: "POST", path, answer, change: Some(change) }
}

impl Administration {
    /// Answers for it.
    fn answerer(self) -> Answerer {
        Arc::new(move |request| self.answer(&request).unwrap_or_else(ApiRefusal::into_answer))
    }

    fn answer(&self, request: &AdminRequest) -> Answered {
        let named = request.path.strip_prefix(API);
        let here = || ENDPOINTS.iter().filter(|endpoint| Some(endpoint.path) == named);
        if let Some(endpoint) = here().find(|endpoint| endpoint.method == request.method.as_str()) {
            let answered = (endpoint.answer)(self, request);
            return match endpoint.change {
                Some(change) => Ok(self.audit(change, request, answered)),
                None => answered,
            };
        }
        let allowed: Vec<_> = here().map(|endpoint| endpoint.method).collect();
        if !allowed.is_empty() {
            let problem = format!("{API}{} takes only {}", named.unwrap_or_default(), allowed.join(" and "));
            return Err(ApiRefusal::Answered(AdminAnswer::error(StatusCode::METHOD_NOT_ALLOWED, problem)));
        }
        let known: Vec<_> = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect();
        Err(ApiRefusal::Absent(format!("no such path; behind {API} there are {}", known.join(", "))))
    }
}
