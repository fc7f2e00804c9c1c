//! Asks a running gateway over its admin socket.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use gateway::config;
use gateway::gateway::API;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::tables::strings;
use crate::cli::output;

/// The longest answer that is read, bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// A question.
#[derive(Debug)]
pub(crate) struct CtlRequest {
    method: Method,
    /// With the query.
    path: String,
    body: Value,
}

impl CtlRequest {
    /// For something that changes nothing.
    pub(crate) fn get(path: &str, query: &[(&str, &str)]) -> Self {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let mark = if query.is_empty() { "" } else { "?" };
        Self { method: Method::GET, path: format!("{API}{path}{mark}{query}"), body: Value::Null }
    }

    /// For something that is to be done.
    pub(crate) fn post(path: &str, body: Value) -> Self {
        Self { method: Method::POST, path: format!("{API}{path}"), body }
    }
}

/// Asks and waits for the answer.
///
/// # Errors
/// Nobody answers, or not as a gateway does.
pub(crate) fn ask(
    socket: &Path,
    asked: &CtlRequest,
    patience: Duration,
) -> anyhow::Result<(StatusCode, Value)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asking = async { timeout(patience, exchange(socket, asked)).await };
    let answer = runtime.block_on(asking);
    let shown = socket.display();
    answer
        .with_context(|| format!("no answer from {shown} within {patience:?}"))?
        .with_context(|| format!("no answer from {shown}; is the gateway running, and as this user?"))
}

/// Asks and shows each line of the answer as it comes. The exit code is that of [`show`], to which an error goes.
///
/// # Errors
/// Nobody answers, or not as a gateway does; a line that cannot be shown.
pub(super) fn listen(
    socket: &Path,
    asked: &CtlRequest,
    patience: Duration,
    json: bool,
    mut line: impl FnMut(&Value) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reading = converse(socket, asked, async |response| {
        if response.status() != StatusCode::OK {
            return whole(response).await.map(Some);
        }
        let (mut body, mut read) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            read.extend(frame.context("the answer broke off")?.into_data().unwrap_or_default());
            while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                line(&serde_json::from_slice(&read[..end]).context("a line is not JSON")?)?;
                read.drain(..=end);
            }
            anyhow::ensure!(read.len() <= MAX_ANSWER, "a line of the answer does not end");
        }
        Ok(None)
    });
    let ended = runtime.block_on(async { timeout(patience, reading).await });
    let shown = socket.display();
    let refused = ended
        .with_context(|| format!("{shown} did not end the answer within {patience:?}"))?
        .with_context(|| format!("no answer from {shown}; is the gateway running, and as this user?"))?;
    refused.map_or(Ok(ExitCode::SUCCESS), |(status, answer)| show(status, &answer, json, |_| String::new()))
}

async fn exchange(socket: &Path, asked: &CtlRequest) -> anyhow::Result<(StatusCode, Value)> {
    converse(socket, asked, whole).await
}

/// All of an answer.
async fn whole(response: Response<Incoming>) -> anyhow::Result<(StatusCode, Value)> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
    Ok((status, serde_json::from_slice(&body).context("the answer is not JSON")?))
}

async fn converse<T>(
    socket: &Path,
    asked: &CtlRequest,
    read: impl AsyncFnOnce(Response<Incoming>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let CtlRequest { method, path, body } = asked;
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "gateway")
        .body(Full::new(Bytes::from(body)))?;
    let answering = async {
        let response = sender.send_request(request).await?;
        read(response).await
    };
    tokio::select! {
        answer = answering => answer,
        // It drives the answer, and ends only behind it.
        ended = connection => {
            ended?;
            anyhow::bail!("the gateway closed the connection")
        }
    }
}

/// Prints an answer of the gateway, and says by the exit code what it is. `text` makes one for people.
///
/// # Errors
/// A stdout that cannot be written.
pub(crate) fn show(
    status: StatusCode,
    answer: &Value,
    json: bool,
    text: impl Fn(&Value) -> String,
) -> anyhow::Result<ExitCode> {
    let code = match status {
        StatusCode::OK => ExitCode::SUCCESS,
        StatusCode::UNPROCESSABLE_ENTITY => ExitCode::from(config::EXIT_CODE),
        _ => ExitCode::FAILURE,
    };
    if json {
        output::print(&format!("{answer}\n"))?;
        return Ok(code);
    }
    if status != StatusCode::OK {
        let error = answer.get("error").and_then(Value::as_str).unwrap_or("it did not say why");
        output::complain(format_args!("error: {error}"));
        return Ok(code);
    }
    for warning in strings(answer, "warnings") {
        output::complain(format_args!("warning: {warning}"));
    }
    output::print(&text(answer))?;
    Ok(code)
}
