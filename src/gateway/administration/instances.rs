//! What can be done to instances of logic services.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::acts::body;
use super::context::{Administration, Answered, ApiRefusal, half_done, json};
use crate::admin::AdminRequest;
use crate::admin::mailbox::Question;
use crate::admin::model::{LinkRow, Problem};
use crate::admin::orders::{EjectOrder, Ejected, EjectedInstance, GivenBack, ReturnOrder};

/// Gives an instance no new requests until it is returned, however often it is connected anew.
#[utoipa::path(post, path = "/api/v1/eject", request_body = EjectOrder, responses(
    (status = 200, body = Ejected),
    (status = 404, description = "there is no such instance", body = Problem),
    (status = 409, description = "its service has no other one that serves", body = Problem),
))]
pub(super) fn eject(of: &Administration, request: &AdminRequest) -> Answered {
    let order: EjectOrder = body(request)?;
    let _turn = of.instances_turn();
    let links: Vec<_> = of.mailboxes.ask(Question::Links)?.into_iter().flatten().collect();
    let service = service_of(&order, &links)?;
    let ejected = EjectedInstance { service, instance: order.instance };
    let others = OtherInstances::of(&ejected, &links);
    if others.has_none && !order.force {
        let EjectedInstance { service, instance } = &ejected;
        return Err(ApiRefusal::Conflict(format!(
            "no other instance of {service} serves, so without {instance} its requests would be refused with 300; \
             --force ejects it all the same"
        )));
    }
    let name = Arc::new(ejected.clone());
    let moved = of.mailboxes.ask(|reply| Question::Eject(Arc::clone(&name), reply)).map_err(|error| {
        half_done(error, "some workers may have ejected it; give the order again, or `return` undoes it")
    })?;
    json(&Ejected { ejected, requests_moved: moved.into_iter().sum(), warnings: others.warnings })
}

/// Gives an instance requests again, as well as it is.
#[utoipa::path(post, path = "/api/v1/return", request_body = ReturnOrder, responses(
    (status = 200, body = GivenBack),
    (status = 404, description = "no operator has ejected it", body = Problem),
))]
pub(super) fn give_back(of: &Administration, request: &AdminRequest) -> Answered {
    let order: Arc<ReturnOrder> = Arc::new(body(request)?);
    let _turn = of.instances_turn();
    let returned =
        of.mailboxes.ask(|reply| Question::Return(Arc::clone(&order), reply)).map_err(|error| {
            half_done(error, "some workers may have returned it; give the order again, or `eject` undoes it")
        })?;
    let services: BTreeSet<_> = returned.into_iter().flatten().collect();
    let instance = order.instance.clone();
    if services.is_empty() {
        let problem = format!("no operator has ejected {instance}; `ctl links` shows who is ejected and why");
        return Err(ApiRefusal::Absent(problem));
    }
    json(&GivenBack { instance, services: services.into_iter().collect() })
}

/// The service that is meant; it must be the only one with an instance of this id.
fn service_of(order: &EjectOrder, links: &[LinkRow]) -> Result<String, ApiRefusal> {
    let is_meant = |row: &&LinkRow| order.service.as_ref().is_none_or(|service| row.service == *service);
    let known = || links.iter().filter(is_meant);
    let services: BTreeSet<_> =
        known().filter(|row| row.instance == order.instance).map(|row| row.service.as_str()).collect();
    let mut services = services.into_iter();
    match (services.next(), services.next()) {
        (Some(service), None) => Ok(service.to_owned()),
        (Some(one), Some(other)) => Err(ApiRefusal::Asked(format!(
            "service: {one} and {other} have an instance {}; name one of them",
            order.instance
        ))),
        (None, _) => {
            let known: BTreeSet<_> = known().map(|row| row.instance.as_str()).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            Err(ApiRefusal::Absent(format!("no instance {}; known are: {known}", order.instance)))
        }
    }
}

/// Who is there in its place.
#[derive(Debug, PartialEq, Eq)]
struct OtherInstances {
    /// On some worker nobody.
    has_none: bool,
    warnings: Vec<String>,
}

impl OtherInstances {
    fn of(ejected: &EjectedInstance, links: &[LinkRow]) -> Self {
        let EjectedInstance { service, instance } = ejected;
        let of_service = || links.iter().filter(|row| row.service == *service);
        let itself = of_service().filter(|row| row.instance == *instance);
        let (mut has_none, mut warnings) = (false, BTreeSet::new());
        for row in itself {
            let others = || {
                of_service()
                    .filter(|other| other.worker == row.worker && other.instance != *instance && other.serves)
            };
            if others().next().is_none() {
                has_none = true;
                warnings.insert(format!(
                    "no other instance of {service} serves: its requests are refused with 300"
                ));
            } else if !others().any(|other| other.zone == row.zone) {
                warnings.insert(format!(
                    "zone {} has no other instance of {service} that serves: its accounts go to other zones",
                    row.zone
                ));
            }
        }
        Self { has_none, warnings: warnings.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(worker: usize, service: &str, instance: &str, zone: &str, serves: bool) -> LinkRow {
        LinkRow {
            worker,
            service: service.to_owned(),
            instance: instance.to_owned(),
            zone: zone.to_owned(),
            address: String::new(),
            dialect: String::new(),
            state: "healthy",
            serves,
            why: "alive",
            since_seconds: None,
            last_trouble: None,
            pending: 0,
            queued_packets: 0,
            queued_bytes: 0,
            connected_times: 1,
        }
    }

    fn others(instance: &str, links: &[LinkRow]) -> (bool, usize) {
        let ejected = EjectedInstance { service: "chat".to_owned(), instance: instance.to_owned() };
        let OtherInstances { has_none, warnings } = OtherInstances::of(&ejected, links);
        (has_none, warnings.len())
    }

    #[test]
    fn f17_whoever_is_the_last_on_any_worker_is_the_only_one() {
        let mut links = vec![
            link(0, "chat", "c1", "za", true),
            link(1, "chat", "c1", "za", true),
            link(0, "chat", "c2", "za", true),
            link(1, "chat", "c2", "za", true),
            link(0, "login", "l1", "za", true),
        ];
        assert_eq!(others("c1", &links), (false, 0));
        links[2].zone = "zb".to_owned();
        assert_eq!(others("c1", &links), (false, 1), "its zone misses it, on one worker");
        links[3].serves = false;
        assert_eq!(others("c1", &links), (true, 2), "nobody serves on the other one");
        links.truncate(2);
        assert_eq!(others("c1", &links), (true, 1));
    }

    #[test]
    fn f17_the_service_of_an_instance_is_found_if_there_is_one() {
        let links = [
            link(0, "chat", "s1", "za", true),
            link(0, "login", "s1", "za", true),
            link(0, "chat", "s2", "za", true),
        ];
        let service = |instance: &str, service: Option<&str>| {
            let service = service.map(str::to_owned);
            let answer =
                service_of(&EjectOrder { instance: instance.to_owned(), service, force: false }, &links);
            answer.map_err(|refusal| refusal.into_answer().body["error"].as_str().unwrap().to_owned())
        };
        assert_eq!(service("s2", None).unwrap(), "chat");
        assert_eq!(service("s1", Some("login")).unwrap(), "login");
        assert!(service("s1", None).unwrap_err().contains("chat and login have an instance s1"));
        assert!(service("s3", None).unwrap_err().contains("known are: s1, s2"));
        assert!(service("s2", Some("login")).unwrap_err().contains("known are: s1"));
    }
}
