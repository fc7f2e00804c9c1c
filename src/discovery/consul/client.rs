//! The few things that are asked of a Consul agent.

use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::config::Consul;
use crate::http_client::{Endpoint, EndpointError, HttpError, HttpResponse, secret_header};
use crate::limits::CONSUL_BODY;
use crate::monitor::metrics::DiscoveryError;
use crate::resolve::Resolver;

/// Shows the ACL token.
const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");

/// The version of what is watched.
const INDEX: HeaderName = HeaderName::from_static("x-consul-index");

/// Consul answers an open question up to this share of the wait later.
const WAIT_JITTER: u32 = 16;

/// A question that Consul did not answer as it should. No text holds the token or an answer's body.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConsulError {
    /// No answer at all.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The token.
    #[error("status 403: discovery.consul.token lacks the permission, or is unknown there")]
    Denied,
    /// Something else than 200.
    #[error("status {0}")]
    Status(u16),
    /// Not what Consul answers.
    #[error("an answer that is not Consul's: {0}")]
    BadAnswer(&'static str),
}

impl ConsulError {
    /// How it is counted.
    pub(super) fn kind(&self) -> DiscoveryError {
        match self {
            Self::Http(HttpError::Timeout(_)) => DiscoveryError::Timeout,
            Self::Http(HttpError::Dns(_)) => DiscoveryError::Dns,
            Self::Http(HttpError::Broken(error)) if error.is_parse() => DiscoveryError::BadAnswer,
            Self::Http(HttpError::Body(_)) => DiscoveryError::BadAnswer,
            Self::Http(HttpError::Connect(_) | HttpError::Broken(_)) => DiscoveryError::Unreachable,
            Self::Denied => DiscoveryError::Denied,
            Self::Status(_) => DiscoveryError::Status,
            Self::BadAnswer(_) => DiscoveryError::BadAnswer,
        }
    }
}

/// The instances of a service that pass their checks.
#[derive(Debug)]
pub(super) struct HealthyEntries {
    /// Where the next question goes on from.
    pub(super) index: u64,
    /// As Consul wrote them.
    pub(super) entries: Vec<Value>,
}

/// Asks one agent.
#[derive(Clone)]
pub(super) struct ConsulClient {
    endpoint: Endpoint,
    headers: Vec<(HeaderName, HeaderValue)>,
    wait: Duration,
    answer: Duration,
}

impl ConsulClient {
    /// A client of the configured agent.
    ///
    /// # Errors
    /// [`EndpointError`]: settings that passed the configuration's checks and still are of no use.
    pub(super) fn new(consul: &Consul, resolver: Resolver) -> Result<Self, EndpointError> {
        let agent = &consul.agent;
        let endpoint = Endpoint::new(&agent.host, agent.port, agent.tls_roots(), resolver)?;
        let token = agent.token.as_ref().and_then(|token| secret_header(TOKEN, &token.0));
        Ok(Self { endpoint, headers: token.into_iter().collect(), wait: consul.wait, answer: consul.answer })
    }

    /// The passing instances of a service: at once with index 0, else when there is something newer than `index` or the
    /// wait is over. Cancel safe.
    pub(super) async fn health(&self, service: &str, index: u64) -> Result<HealthyEntries, ConsulError> {
        let mut path = format!("/v1/health/service/{service}?passing=true");
        let mut patience = self.answer;
        if index > 0 {
            path.push_str(&format!("&index={index}&wait={}ms", self.wait.as_millis()));
            patience += self.wait + self.wait / WAIT_JITTER;
        }
        let answer = self.call(Method::GET, &path, None, patience).await?;
        let index = answer.headers.get(INDEX).and_then(|value| value.to_str().ok());
        let index = index.and_then(|text| text.parse().ok()).ok_or(ConsulError::BadAnswer("no index"))?;
        let entries = serde_json::from_slice(&answer.body)
            .map_err(|_| ConsulError::BadAnswer("the body is no list of instances"))?;
        Ok(HealthyEntries { index, entries })
    }

    /// Registers a service with this agent, or replaces what is registered under its id.
    pub(super) async fn register(&self, definition: &Value) -> Result<(), ConsulError> {
        self.call(Method::PUT, "/v1/agent/service/register", Some(definition), self.answer).await.map(drop)
    }

    /// Returns `true` if the agent has a service of this id.
    pub(super) async fn is_registered(&self, id: &str) -> Result<bool, ConsulError> {
        let path = format!("/v1/agent/service/{id}");
        match self.call(Method::GET, &path, None, self.answer).await {
            Ok(_) => Ok(true),
            Err(ConsulError::Status(404)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tells a TTL check how things stand; false if the agent does not know it.
    pub(super) async fn report(&self, check: &str, passing: bool) -> Result<bool, ConsulError> {
        let verdict = if passing { "pass" } else { "fail" };
        let path = format!("/v1/agent/check/{verdict}/{check}");
        match self.call(Method::PUT, &path, None, self.answer).await {
            Ok(_) => Ok(true),
            // 500 is what versions before 1.11 say.
            Err(ConsulError::Status(404 | 500)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a service off this agent.
    pub(super) async fn deregister(&self, id: &str, patience: Duration) -> Result<(), ConsulError> {
        let path = format!("/v1/agent/service/deregister/{id}");
        self.call(Method::PUT, &path, None, patience).await.map(drop)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<HttpResponse, ConsulError> {
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let answer = self.endpoint.send(method, path, &self.headers, body, CONSUL_BODY, patience).await?;
        match answer.status {
            200 => Ok(answer),
            403 => Err(ConsulError::Denied),
            status => Err(ConsulError::Status(status)),
        }
    }
}
