//! `gateway route explain`: which zone and instance an account goes to, and why.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use gateway::config::{self, Instance, Options};
use gateway::dispatch::selector::{Candidates, Explanation, RouteSelector, ZoneReason};
use gateway::route::Route;
use gateway::wire::dialect::Dialect;
use gateway_net::files;

use crate::cli::check::refuse;
use crate::cli::{CONFIG_VARIABLE, DEFAULT_CONFIG, output};

/// What `gateway route` can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RouteCommand {
    /// Says which zone and instance an account goes to, and why
    Explain(ExplainArgs),
}

/// Arguments of `gateway route explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The account
    #[arg(long)]
    pub(crate) account: String,
    /// Its app
    #[arg(long)]
    pub(crate) app: String,
    /// A configuration, with its route and its instances
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, default_value = DEFAULT_CONFIG)]
    pub(crate) config: PathBuf,
    /// Only a route file, in place of a configuration; then --instances say who serves
    #[arg(long, value_name = "FILE")]
    pub(crate) route: Option<PathBuf>,
    /// Instances in place of those of the configuration, separated by commas
    #[arg(long, value_name = "ID@ZONE", value_delimiter = ',', value_parser = parse_instance)]
    pub(crate) instances: Vec<(String, String)>,
    /// Only this service; else every service of the configuration
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Prints JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Explains on stdout; 64 if a file is refused.
///
/// # Errors
/// Only a stdout that cannot be written.
pub(crate) fn run(command: &RouteCommand) -> anyhow::Result<ExitCode> {
    let RouteCommand::Explain(args) = command;
    let (route, instances) = match read(args) {
        Ok(found) => found,
        Err(problem) => return Ok(refuse(problem)),
    };
    let text = match args.json {
        true => format!("{:#}\n", to_json(args, &route, &instances)),
        false => to_text(args, &route, &instances),
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The service that instances given on the command line belong to, unless `--service` names one.
const UNNAMED_SERVICE: &str = "chat";

fn parse_instance(text: &str) -> Result<(String, String), String> {
    match text.split_once('@') {
        Some((id, zone)) if !id.is_empty() && !zone.is_empty() => Ok((id.to_owned(), zone.to_owned())),
        _ => Err("allowed is id@zone, such as chat01@zone_a".to_owned()),
    }
}

fn read(args: &ExplainArgs) -> Result<(Route, Vec<Instance>), String> {
    let (route, mut instances) = match &args.route {
        Some(path) => {
            let text = files::text(path).map_err(|error| error.to_string())?;
            let route = Route::from_json(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            (route, Vec::new())
        }
        None => {
            let options = Options::with_environment(std::env::vars_os());
            let (route, instances) =
                config::load_routing(&args.config, &options).map_err(|error| error.to_string())?;
            ((*route).clone(), instances)
        }
    };
    if !args.instances.is_empty() {
        let service = args.service.as_deref().unwrap_or(UNNAMED_SERVICE);
        let given = args.instances.iter().map(|(id, zone)| Instance {
            service: service.to_owned(),
            id: id.clone(),
            address: String::new(),
            zone: zone.clone(),
            dialect: Dialect::default(),
        });
        instances = given.collect();
    }
    for instance in &instances {
        if !route.has_zone(&instance.zone) {
            let allowed = route.zone_list();
            return Err(format!(
                "--instances: {:?} is no zone of the route; allowed are {allowed}",
                instance.zone
            ));
        }
    }
    Ok((route, instances))
}

/// The services to explain: the one that was asked for, else all there are.
fn services(args: &ExplainArgs, instances: &[Instance]) -> Vec<String> {
    match &args.service {
        Some(service) => vec![service.clone()],
        None => {
            let all: BTreeSet<_> = instances.iter().map(|instance| instance.service.clone()).collect();
            all.into_iter().collect()
        }
    }
}

fn candidates<'a>(
    selector: &RouteSelector,
    service: &str,
    instances: &'a [Instance],
) -> Candidates<&'a Instance> {
    let of_service = instances.iter().filter(|instance| instance.service == service);
    Candidates::new(selector, of_service.map(|instance| (&instance.id, &instance.zone, instance)))
}

fn to_text(args: &ExplainArgs, route: &Route, instances: &[Instance]) -> String {
    let (app, account) = (args.app.as_str(), args.account.as_str());
    let selector = RouteSelector::new(route);
    let nobody = Candidates::<&Instance>::new(&selector, std::iter::empty::<(&str, &str, _)>());
    let explained = selector.explain(app, account, &nobody);
    let mut text = String::new();
    let why = describe_zone(app, &explained);
    put(&mut text, format_args!("account {account:?}, app {app:?}"));
    put(&mut text, format_args!("zone     {}: {why}", explained.zone));
    for service in services(args, instances) {
        let candidates = candidates(&selector, &service, instances);
        let explained = selector.explain(app, account, &candidates);
        put(&mut text, format_args!("service  {service}"));
        put(&mut text, format_args!("  candidates {}", describe_candidates(&explained)));
        match selector.lookup(app, account, &candidates) {
            None => put(&mut text, format_args!("  instance none: requests are answered 300")),
            Some(choice) => {
                let Instance { id, address, zone, .. } = choice.item;
                let why = describe_position(&explained);
                let at = if address.is_empty() { String::new() } else { format!(" at {address}") };
                put(&mut text, format_args!("  instance   {id} in {zone}{at}: {why}"));
            }
        }
    }
    text
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}

fn describe_zone(app: &str, explained: &Explanation<'_>) -> String {
    match &explained.why {
        ZoneReason::Whitelist => format!("the whitelist sends app {app:?} there"),
        ZoneReason::Slot { by, key, hash, slot, slots } => {
            format!(
                "slot {slot} of {slots}, as crc32 of the {by} {key:?} is {hash} and {hash} % {slots} = {slot}"
            )
        }
    }
}

fn describe_candidates(explained: &Explanation<'_>) -> String {
    let ids =
        if explained.candidates.is_empty() { "none".to_owned() } else { explained.candidates.join(", ") };
    if explained.fallback {
        format!("{ids} (all zones: {} has no instance)", explained.zone)
    } else if explained.keyless {
        format!("{ids} (all zones: without app or account no zone is chosen)")
    } else {
        format!("{ids} (all of {})", explained.zone)
    }
}

fn describe_position(explained: &Explanation<'_>) -> String {
    if explained.keyless {
        return "the first".to_owned();
    }
    let (hash, n, position) = (explained.account_hash, explained.candidates.len(), explained.position);
    format!(
        "position {position} of {n}, as crc32 of the account is {hash} and {hash} % {} / 10 = {position}",
        10 * n
    )
}

fn to_json(args: &ExplainArgs, route: &Route, instances: &[Instance]) -> Value {
    let selector = RouteSelector::new(route);
    let services = services(args, instances).into_iter().map(|service| {
        let candidates = candidates(&selector, &service, instances);
        let explained = selector.explain(&args.app, &args.account, &candidates);
        let chosen = selector.lookup(&args.app, &args.account, &candidates).map(|choice| *choice.item);
        json!({
            "service": service,
            "candidates": explained.candidates,
            "fallback": explained.fallback,
            "position": chosen.map(|_| explained.position),
            "instance": explained.instance,
            "instance_zone": chosen.map(|instance| &instance.zone),
            "address": chosen.map(|instance| &instance.address).filter(|address| !address.is_empty()),
        })
    });
    let services: Vec<Value> = services.collect();
    let nobody = Candidates::<()>::new(&selector, std::iter::empty::<(&str, &str, ())>());
    let explained = selector.explain(&args.app, &args.account, &nobody);
    let why = match explained.why {
        ZoneReason::Whitelist => json!({ "whitelist": args.app }),
        ZoneReason::Slot { by, key, hash, slot, slots } => {
            json!({ "route_by": by.as_str(), "key": key, "crc32": hash, "slot": slot, "slots": slots })
        }
    };
    json!({
        "account": args.account,
        "app": args.app,
        "account_crc32": explained.account_hash,
        "zone": explained.zone,
        "why": why,
        "services": services,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn args(app: &str, account: &str, instances: &[&str]) -> ExplainArgs {
        ExplainArgs {
            account: account.to_owned(),
            app: app.to_owned(),
            config: PathBuf::new(),
            route: None,
            instances: instances.iter().map(|text| parse_instance(text).unwrap()).collect(),
            service: None,
            json: false,
        }
    }

    /// The route file of X_IM and its services, as in the first set of the vectors.
    fn x_im(app: &str, account: &str) -> (ExplainArgs, Route, Vec<Instance>) {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/selector.json")).unwrap();
        let set = &vectors["sets"][0];
        let ids: Vec<String> = set["services"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| format!("{}@{}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let file =
            std::env::temp_dir().join(format!("gateway-route-{}-{app}-{account}.json", std::process::id()));
        fs::write(&file, set["route"].to_string()).unwrap();
        let args = ExplainArgs { route: Some(file.clone()), ..args(app, account, &ids) };
        let (route, instances) = read(&args).unwrap();
        fs::remove_file(file).unwrap();
        (args, route, instances)
    }

    #[test]
    fn explains_the_whitelist_of_x_im() {
        let (args, route, instances) = x_im("x_im", "test1");
        assert_eq!(
            to_text(&args, &route, &instances),
            "account \"test1\", app \"x_im\"\n\
             zone     zone_ali_03: the whitelist sends app \"x_im\" there\n\
             service  chat\n\
             \x20 candidates s6 (all of zone_ali_03)\n\
             \x20 instance   s6 in zone_ali_03: position 0 of 1, \
             as crc32 of the account is 2326977762 and 2326977762 % 10 / 10 = 0\n"
        );
        let json = to_json(&args, &route, &instances);
        assert_eq!(json["zone"], "zone_ali_03");
        assert_eq!(json["why"]["whitelist"], "x_im");
        assert_eq!(json["services"][0]["instance"], "s6");
    }

    #[test]
    fn explains_a_slot_of_x_im() {
        let (args, route, instances) = x_im("kim", "test1");
        let text = to_text(&args, &route, &instances);
        assert!(
            text.contains(
                "slot 44 of 100, as crc32 of the app \"kim\" is 1023357144 and 1023357144 % 100 = 44"
            ),
            "{text}"
        );
        assert!(text.contains("candidates s1, s2, s3 (all of zone_ali_01)"), "{text}");
        assert!(text.contains("instance   s2 in zone_ali_01: position 1 of 3"), "{text}");
        let json = to_json(&args, &route, &instances);
        assert_eq!((&json["why"]["slot"], &json["services"][0]["position"]), (&json!(44), &json!(1)));
    }

    #[test]
    fn explains_an_empty_zone_and_an_empty_service() {
        let route =
            Route::from_json(r#"{"zones": [{"id": "a", "weight": 1}, {"id": "b", "weight": 1}]}"#).unwrap();
        let given = args("x_im", "alice", &[]);
        let chat = |id: &str| Instance {
            service: "chat".into(),
            id: id.into(),
            address: "h:1".into(),
            zone: "a".into(),
            dialect: Dialect::XIm,
        };
        let text = to_text(&given, &route, &[chat("c1"), chat("c2")]);
        assert!(text.contains("candidates c1, c2 (all zones: b has no instance)"), "{text}");
        assert!(text.contains(" in a at h:1: position"), "{text}");
        let login = ExplainArgs { service: Some("login".into()), ..args("x_im", "alice", &[]) };
        let text = to_text(&login, &route, &[chat("c1")]);
        assert!(text.contains("candidates none") && text.contains("instance none"), "{text}");
    }

    #[test]
    fn instances_are_id_at_zone_of_the_route() {
        for bad in ["", "a", "@z", "a@"] {
            assert!(parse_instance(bad).is_err(), "{bad}");
        }
        let file = std::env::temp_dir().join(format!("gateway-route-{}-zones.json", std::process::id()));
        fs::write(&file, r#"{"zones": [{"id": "a", "weight": 1}]}"#).unwrap();
        let given = ExplainArgs { route: Some(file.clone()), ..args("x_im", "alice", &["c1@mars"]) };
        let message = read(&given).unwrap_err();
        fs::remove_file(file).unwrap();
        assert_eq!(message, "--instances: \"mars\" is no zone of the route; allowed are \"a\"");
    }
}
