//! One thing an administrator is told about. Every text in it is bounded, whoever wrote it.

use std::fmt::Display;

use crate::monitor::labels::EventKind;

/// Longest name of a service, instance or zone, bytes: what the configuration allows, and room for what Consul may name.
const MAX_NAME: usize = 128;

/// Longest detail, bytes: an error of the system with the address it is about.
const MAX_DETAIL: usize = 256;

/// How bad it is, from least to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Meant to happen.
    Info,
    /// Users are still served; somebody should look.
    Warning,
    /// Users are hurt, or will be soon.
    Error,
}

impl Severity {
    /// Its name in the webhook's body.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What a condition is about: two events of one subject are the same condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    kind: EventKind,
    service: Option<Box<str>>,
    instance: Option<Box<str>>,
    zone: Option<Box<str>>,
}

/// A condition that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub(super) subject: Subject,
    pub(super) severity: Severity,
    pub(super) detail: Box<str>,
}

impl Subject {
    fn of(kind: EventKind) -> Self {
        Self { kind, service: None, instance: None, zone: None }
    }

    fn instance(kind: EventKind, service: &str, instance: &str, zone: &str) -> Self {
        let [service, instance, zone] = [service, instance, zone].map(|name| Some(bounded(name, MAX_NAME)));
        Self { kind, service, instance, zone }
    }

    fn zone_of(kind: EventKind, service: &str, zone: &str) -> Self {
        let [service, zone] = [service, zone].map(|name| Some(bounded(name, MAX_NAME)));
        Self { service, zone, ..Self::of(kind) }
    }

    /// See [`Event::instance_lost`]; below likewise.
    pub fn instance_lost(service: &str, instance: &str, zone: &str) -> Self {
        Self::instance(EventKind::InstanceLost, service, instance, zone)
    }

    /// A refused link.
    pub fn link_refused(service: &str, instance: &str, zone: &str) -> Self {
        Self::instance(EventKind::LinkRefused, service, instance, zone)
    }

    /// An empty zone.
    pub fn zone_empty(service: &str, zone: &str) -> Self {
        Self::zone_of(EventKind::ZoneEmpty, service, zone)
    }

    /// A zone whose requests go elsewhere.
    pub fn zone_fallback(service: &str, zone: &str) -> Self {
        Self::zone_of(EventKind::ZoneFallback, service, zone)
    }

    /// Pushes that are too large.
    pub fn push_too_large(service: &str, instance: &str, zone: &str) -> Self {
        Self::instance(EventKind::PushTooLarge, service, instance, zone)
    }

    /// No login service.
    pub fn login_unreachable(service: &str) -> Self {
        Self { service: Some(bounded(service, MAX_NAME)), ..Self::of(EventKind::LoginUnreachable) }
    }

    /// No Consul.
    pub fn consul_unreachable() -> Self {
        Self::of(EventKind::ConsulUnreachable)
    }

    /// No new keys.
    pub fn jwks_failed() -> Self {
        Self::of(EventKind::JwksFailed)
    }

    /// Too much of something.
    pub fn overload() -> Self {
        Self::of(EventKind::Overload)
    }

    /// No more clients.
    pub fn connections_full() -> Self {
        Self::of(EventKind::ConnectionsFull)
    }

    /// A certificate near its end.
    pub fn certificate_ending() -> Self {
        Self::of(EventKind::CertificateEnding)
    }

    /// A reload that was refused.
    pub fn reload_failed() -> Self {
        Self::of(EventKind::ReloadFailed)
    }

    /// The end of the gateway.
    pub fn drain() -> Self {
        Self::of(EventKind::Drain)
    }

    /// What it is.
    pub const fn kind(&self) -> EventKind {
        self.kind
    }

    /// What it means and what to do.
    pub(super) const fn headline(&self) -> &'static str {
        match self.kind {
            EventKind::InstanceLost => {
                "a logic instance is not linked; others of its service serve. Is it running, and is its address right? \
                 Trying again"
            }
            EventKind::LinkRefused => {
                "a logic instance knows another link with this gateway's id; trying again. If two gateways run, give each \
                 its own gateway.id"
            }
            EventKind::ZoneEmpty => "a zone has no instance of a service any more; start one there",
            EventKind::ZoneFallback => "requests of an empty zone go to instances of another one",
            EventKind::PushTooLarge => {
                "a logic instance sends pushes above limits.max_push, which are dropped; split them there, or raise the limit"
            }
            EventKind::LoginUnreachable => "no login instance is linked, so nobody can sign in; start one",
            EventKind::ConsulUnreachable => "Consul does not answer; the instances known last are kept",
            EventKind::JwksFailed => {
                "the keys of tokens cannot be fetched from auth.jwks_url; the last ones are kept, trying again"
            }
            EventKind::Overload => "the gateway sheds load; add gateways or memory",
            EventKind::ConnectionsFull => {
                "as many clients are connected as may be; add gateways, or raise the limit"
            }
            EventKind::CertificateEnding => "the certificate of QUIC and TLS is near its end; renew it",
            EventKind::ReloadFailed => {
                "what was read again is refused; what was in effect stays. Put it right"
            }
            EventKind::Drain => "draining: channels are closed with 3000, sign-outs are written",
        }
    }

    /// The service it is about, if it is about one; below likewise.
    pub fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// The instance.
    pub fn instance_id(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// The zone.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }
}

impl Event {
    /// How it came about, or what is wrong.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    fn new(subject: Subject, severity: Severity, detail: impl Display) -> Self {
        Self { subject, severity, detail: bounded(&detail.to_string(), MAX_DETAIL) }
    }

    /// An instance is not linked: it was lost, or could not be reached. `detail` says how.
    pub fn instance_lost(service: &str, instance: &str, zone: &str, detail: impl Display) -> Self {
        Self::new(Subject::instance_lost(service, instance, zone), Severity::Warning, detail)
    }

    /// An instance refuses this gateway's id, or took the link of another gateway with it: an error where that leaves the
    /// gateway without the service, or is certain.
    pub fn link_refused(
        service: &str,
        instance: &str,
        zone: &str,
        severity: Severity,
        detail: impl Display,
    ) -> Self {
        Self::new(Subject::link_refused(service, instance, zone), severity, detail)
    }

    /// A zone has no instance of this service any more: all are lost, or have left. A warning while other zones stand in,
    /// and raised again as an error when none does.
    pub fn zone_empty(severity: Severity, service: &str, zone: &str, detail: impl Display) -> Self {
        Self::new(Subject::zone_empty(service, zone), severity, detail)
    }

    /// The first request of an empty zone went to another one.
    pub fn zone_fallback(service: &str, zone: &str, detail: impl Display) -> Self {
        Self::new(Subject::zone_fallback(service, zone), Severity::Warning, detail)
    }

    /// An instance sends pushes that are too large to be taken. They are lost: their receivers' services must split them.
    pub fn push_too_large(service: &str, instance: &str, zone: &str, detail: impl Display) -> Self {
        Self::new(Subject::push_too_large(service, instance, zone), Severity::Warning, detail)
    }

    /// No instance of the login service is linked.
    pub fn login_unreachable(service: &str, detail: impl Display) -> Self {
        Self::new(Subject::login_unreachable(service), Severity::Error, detail)
    }

    /// Consul does not answer as it should. Each watcher raises it as a source of its own.
    pub fn consul_unreachable(detail: impl Display) -> Self {
        Self::new(Subject::consul_unreachable(), Severity::Warning, detail)
    }

    /// The keys of tokens cannot be fetched.
    pub fn jwks_failed(detail: impl Display) -> Self {
        Self::new(Subject::jwks_failed(), Severity::Warning, detail)
    }

    /// The gateway sheds load; how much is told by the severity. Raised again at each new level.
    pub fn overload(severity: Severity, detail: impl Display) -> Self {
        Self::new(Subject::overload(), severity, detail)
    }

    /// As many clients are connected as may be; more are refused.
    pub fn connections_full(detail: impl Display) -> Self {
        Self::new(Subject::connections_full(), Severity::Error, detail)
    }

    /// The certificate ends soon or has ended.
    pub fn certificate_ending(severity: Severity, detail: impl Display) -> Self {
        Self::new(Subject::certificate_ending(), severity, detail)
    }

    /// What was read again is refused; `detail` says what is wrong. It holds until something that is read is taken.
    pub fn reload_failed(detail: impl Display) -> Self {
        Self::new(Subject::reload_failed(), Severity::Warning, detail)
    }

    /// The gateway is going away: on demand ([`Severity::Info`]), or because a worker failed.
    pub fn drain(severity: Severity, detail: impl Display) -> Self {
        Self::new(Subject::drain(), severity, detail)
    }
}

/// At most so many bytes, whole characters, none of which could pass for a line of the log or command a terminal.
fn bounded(text: &str, max: usize) -> Box<str> {
    let end = text.floor_char_boundary(max);
    text[..end].chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_and_one_line() {
        let long = "ü".repeat(1000);
        let event = Event::instance_lost(&long, "a\nb\x1b[2J", "z", format_args!("x{long}"));
        assert_eq!(event.subject.service().unwrap().len(), MAX_NAME);
        assert_eq!(event.subject.instance_id(), Some("a?b?[2J"));
        assert_eq!(event.detail.len(), MAX_DETAIL - 1, "the last character is whole or not there");
    }

    #[test]
    fn the_subject_of_an_event_is_what_clears_it() {
        for (event, subject) in [
            (Event::instance_lost("s", "i", "z", "d"), Subject::instance_lost("s", "i", "z")),
            (
                Event::link_refused("s", "i", "z", Severity::Warning, "d"),
                Subject::link_refused("s", "i", "z"),
            ),
            (Event::zone_empty(Severity::Error, "s", "z", "d"), Subject::zone_empty("s", "z")),
            (Event::zone_fallback("s", "z", "d"), Subject::zone_fallback("s", "z")),
            (Event::push_too_large("s", "i", "z", "d"), Subject::push_too_large("s", "i", "z")),
            (Event::login_unreachable("s", "d"), Subject::login_unreachable("s")),
            (Event::consul_unreachable("d"), Subject::consul_unreachable()),
            (Event::jwks_failed("d"), Subject::jwks_failed()),
            (Event::overload(Severity::Error, "d"), Subject::overload()),
            (Event::certificate_ending(Severity::Error, "d"), Subject::certificate_ending()),
            (Event::reload_failed("d"), Subject::reload_failed()),
            (Event::drain(Severity::Info, "d"), Subject::drain()),
        ] {
            assert_eq!(event.subject, subject);
        }
    }
}
