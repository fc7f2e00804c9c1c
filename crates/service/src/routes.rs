//! Which handler a command has.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use crate::request::Request;
use gateway_wire::pb::Status;

/// A handler at work.
pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The handlers, by command.
#[derive(Default)]
pub(super) struct Routes {
    by_command: HashMap<String, Handler>,
    fallback: Option<Handler>,
}

type Handler = Box<dyn Fn(Request) -> Work + Send + Sync>;

fn boxed<H, W>(handler: H) -> Handler
where
    H: Fn(Request) -> W + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    Box::new(move |request| Box::pin(handler(request)))
}

impl Routes {
    /// Sets the handler of one command.
    pub(super) fn insert<H, W>(&mut self, command: &str, handler: H)
    where
        H: Fn(Request) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.by_command.insert(command.to_owned(), boxed(handler));
    }

    /// Sets the handler of every other command.
    pub(super) fn set_fallback<H, W>(&mut self, handler: H)
    where
        H: Fn(Request) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.fallback = Some(boxed(handler));
    }

    /// Calls the handler of a request's command.
    pub(super) fn handle(&self, request: Request) -> Work {
        match self.by_command.get(request.command()).or(self.fallback.as_ref()) {
            Some(handler) => handler(request),
            None => {
                request.fail(Status::NotImplemented, "this service has no such command");
                Box::pin(std::future::ready(()))
            }
        }
    }
}
