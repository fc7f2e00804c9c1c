//! The chart, as rendered.yaml shows it with values.yaml: ports, probes, names and times are those of the configuration that the
//! gateway itself would read in such a pod. Where helm is, what it makes is compared and decoded into the types of Kubernetes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway::config::Config;
use serde_json::Value;

use super::compose::listeners;
use super::files::{self, Files, root};
use super::scrape::Families;

/// What `helm template` makes of the chart with [`VALUES`].
pub const RENDERED: &str = "tests/deploy/rendered.yaml";
const VALUES: &str = "tests/deploy/values.yaml";
const CHART: &str = "deploy/helm/gateway";

/// The first pod, and a server id of 8 bytes as the controller of AWS would give it.
const POD: &str = "gateway-0";
const SERVER_ID: &str = "AAAAAAAAAAE=";

/// What the end of a process may take behind its hard stop.
const MARGIN: Duration = Duration::from_secs(5);

/// The documents of one rendering.
struct Documents(Vec<Value>);

impl Documents {
    fn parse(text: &str) -> Self {
        let documents = text.split("\n---\n").map(|part| {
            serde_saphyr::from_str::<Value>(part)
                .unwrap_or_else(|error| panic!("{RENDERED}: {error}\n{part}"))
        });
        Self(documents.filter(|document| !document.is_null()).collect())
    }

    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |document| document["kind"] == kind)
    }

    fn only<'a>(&'a self, kind: &'a str) -> &'a Value {
        let mut found = self.of(kind);
        let (Some(one), None) = (found.next(), found.next()) else {
            panic!("{RENDERED}: one {kind} is wanted")
        };
        one
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub fn check(files: &Files, families: &Families, found: &mut Vec<String>) {
    let documents = Documents::parse(files.text(RENDERED));
    let mut fail = |problem: String| found.push(format!("{RENDERED}: {problem}"));
    let pod = &documents.only("StatefulSet")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let config = config(&documents, &mut fail);
    if config.id != POD {
        fail(format!("the gateway's id is {}, not the pod's name", config.id));
    }
    if !files::keeps_bans(&config) {
        fail("bans end with the pod".to_owned());
    }
    ports(&documents, container, &config, &mut fail);
    probes_and_end(pod, container, &config, &mut fail);
    security(files, pod, &mut fail);
    selectors(&documents, &mut fail);
    scaling(&documents, families, &mut fail);
    scraping(&documents, families, &mut fail);
    versions(files, &mut fail);
}

/// The configuration of the first pod: its ConfigMap and its variables, over a copy of its mounts.
fn config(documents: &Documents, fail: &mut impl FnMut(String)) -> Config {
    let pod = &documents.only("StatefulSet")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let map = documents.of("ConfigMap").find(|map| map["data"]["gateway.toml"].is_string());
    let map = map.unwrap_or_else(|| panic!("{RENDERED}: no ConfigMap has gateway.toml"));
    let place = files::system("pod", text(&map["data"]["route.json"]));
    let mounted: Vec<&str> =
        list(&container["volumeMounts"]).iter().map(|mount| text(&mount["mountPath"])).collect();
    let mut overrides = vec![("AWS_LBC_QUIC_SERVER_ID".to_owned(), SERVER_ID.to_owned())];
    for variable in list(&container["env"]) {
        let (name, value) = (text(&variable["name"]), text(&variable["value"]));
        let is_path = value.starts_with('/');
        if is_path && !mounted.iter().any(|mount| value.starts_with(&format!("{mount}/"))) {
            fail(format!("{name} names {value}, which no volume holds"));
        }
        // A socket's path may not be as long as that of a test's directory.
        if name == "GATEWAY__ADMIN__SOCKET" {
            continue;
        }
        let value = match text(&variable["valueFrom"]["fieldRef"]["fieldPath"]) {
            "metadata.name" => POD.to_owned(),
            "" if is_path => format!("{}{value}", place.display()),
            "" => value.to_owned(),
            other => other.to_owned(),
        };
        overrides.push((name.to_owned(), value));
    }
    let etc = format!("{}/etc/gateway/", place.display());
    let written = text(&map["data"]["gateway.toml"]).replace("/etc/gateway/", &etc);
    let overrides: Vec<(&str, &str)> = overrides.iter().map(|(name, value)| (&**name, &**value)).collect();
    files::config(&written, "gateway.toml", &overrides)
}

/// What is listened on is what the container, the Services and the NetworkPolicy name, and the monitor is for Prometheus alone.
fn ports(documents: &Documents, container: &Value, config: &Config, fail: &mut impl FnMut(String)) {
    let shown =
        |port: &Value| format!("{}/{}", port["containerPort"], text(&port["protocol"]).to_lowercase());
    let (monitor, clients): (Vec<&Value>, Vec<&Value>) =
        list(&container["ports"]).iter().partition(|port| port["name"] == "monitor");
    let declared: BTreeSet<String> = clients.iter().map(|port| shown(port)).collect();
    let wanted: BTreeSet<String> = listeners(config).into_iter().collect();
    if declared != wanted {
        fail(format!("the container's ports are {declared:?}, the configuration listens on {wanted:?}"));
    }
    let monitor: Vec<String> = monitor.into_iter().map(shown).collect();
    if monitor != config.monitor.map(|address| format!("{}/tcp", address.port())).as_slice() {
        fail(format!("the port monitor is {monitor:?}, the configuration says {:?}", config.monitor));
    }
    let known: BTreeSet<(&str, &str)> =
        clients.iter().map(|port| (text(&port["name"]), text(&port["protocol"]))).collect();
    let mut offered = BTreeSet::new();
    for service in documents.of("Service") {
        let name = text(&service["metadata"]["name"]);
        for port in list(&service["spec"]["ports"]) {
            let target = (text(&port["targetPort"]), text(&port["protocol"]));
            let is_monitor = target == ("monitor", "TCP");
            if is_monitor && service["spec"]["clusterIP"] != "None" {
                fail(format!("the monitor is offered by {name}"));
            } else if !is_monitor && !known.contains(&target) {
                fail(format!("{name} leads to {target:?}, where nobody listens"));
            }
            offered.insert(target);
        }
    }
    let policy = documents.only("NetworkPolicy");
    let let_in: BTreeSet<(&str, &str)> = list(&policy["spec"]["ingress"])
        .iter()
        .flat_map(|rule| list(&rule["ports"]))
        .map(|port| (text(&port["port"]), text(&port["protocol"])))
        .collect();
    for (what, those) in [("no Service offers", &offered), ("the NetworkPolicy keeps out", &let_in)] {
        for port in known.iter().chain([&("monitor", "TCP")]).filter(|port| !those.contains(*port)) {
            fail(format!("{what} {port:?}"));
        }
    }
    for rule in list(&policy["spec"]["ingress"]) {
        let has_monitor = list(&rule["ports"]).iter().any(|port| port["port"] == "monitor");
        if has_monitor && list(&rule["from"]).is_empty() {
            fail("the NetworkPolicy lets everybody to the monitor".to_owned());
        }
    }
}

/// The kubelet asks the right pages, and waits for a drain.
fn probes_and_end(pod: &Value, container: &Value, config: &Config, fail: &mut impl FnMut(String)) {
    for (probe, page) in
        [("startupProbe", "/health"), ("livenessProbe", "/health"), ("readinessProbe", "/ready")]
    {
        let get = &container[probe]["httpGet"];
        if get["path"] != page || get["port"] != "monitor" {
            fail(format!("{probe} asks {get}, {page} of monitor is wanted"));
        }
    }
    let seconds = |value: &Value| Duration::from_secs(value.as_u64().unwrap_or_default());
    let (before, grace) = (
        seconds(&container["lifecycle"]["preStop"]["sleep"]["seconds"]),
        seconds(&pod["terminationGracePeriodSeconds"]),
    );
    if before.is_zero() {
        fail("no preStop: the drain begins before balancers know".to_owned());
    }
    let wanted = before + config.drain_hard_stop + MARGIN;
    if grace < wanted {
        fail(format!("terminationGracePeriodSeconds {grace:?} is too short for a drain: {wanted:?}"));
    }
}

/// As little as the gateway needs, with the user of the image.
fn security(files: &Files, pod: &Value, fail: &mut impl FnMut(String)) {
    let context = &pod["securityContext"];
    let user = files.text("Dockerfile").lines().filter_map(|line| line.strip_prefix("USER ")).next_back();
    let ids = [&context["runAsUser"], &context["runAsGroup"]].map(Value::to_string).join(":");
    if user != Some(&ids) || context["fsGroup"] != context["runAsGroup"] {
        fail(format!("it runs as {ids}, the image as {user:?}"));
    }
    if context["runAsNonRoot"] != true || context["seccompProfile"]["type"] != "RuntimeDefault" {
        fail("it may run as root, or without seccomp".to_owned());
    }
    if pod["automountServiceAccountToken"] != false {
        fail("it gets a token of the API server, which it has no use for".to_owned());
    }
    for container in list(&pod["containers"]).iter().chain(list(&pod["initContainers"])) {
        let context = &container["securityContext"];
        let is_least = context["allowPrivilegeEscalation"] == false
            && context["readOnlyRootFilesystem"] == true
            && context["capabilities"]["drop"] == serde_json::json!(["ALL"]);
        if !is_least {
            fail(format!("{} has more rights than it needs: {context}", container["name"]));
        }
    }
}

/// Whatever chooses pods chooses those of the StatefulSet.
fn selectors(documents: &Documents, fail: &mut impl FnMut(String)) {
    let set = documents.only("StatefulSet");
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    for document in &documents.0 {
        let spec = &document["spec"];
        let selector = match text(&document["kind"]) {
            "Service" => &spec["selector"],
            "NetworkPolicy" => &spec["podSelector"]["matchLabels"],
            "StatefulSet" | "PodDisruptionBudget" => &spec["selector"]["matchLabels"],
            _ => continue,
        };
        let chosen = selector.as_object().filter(|pairs| !pairs.is_empty());
        if !chosen.is_some_and(|pairs| pairs.iter().all(|(key, value)| labels.get(key) == Some(value))) {
            fail(format!("{} {} chooses other pods", document["kind"], document["metadata"]["name"]));
        }
    }
    let governing =
        documents.of("Service").find(|service| service["metadata"]["name"] == set["spec"]["serviceName"]);
    if governing.is_none_or(|service| service["spec"]["clusterIP"] != "None") {
        fail("serviceName is no headless Service".to_owned());
    }
}

/// The autoscaler scales the StatefulSet by a metric of the gateway.
fn scaling(documents: &Documents, families: &Families, fail: &mut impl FnMut(String)) {
    let (set, scaler) = (documents.only("StatefulSet"), &documents.only("HorizontalPodAutoscaler")["spec"]);
    let target = &scaler["scaleTargetRef"];
    if target["kind"] != "StatefulSet" || target["name"] != set["metadata"]["name"] {
        fail(format!("the autoscaler scales {target}"));
    }
    if !set["spec"]["replicas"].is_null() {
        fail("replicas stands beside an autoscaler, which every update would undo".to_owned());
    }
    for metric in list(&scaler["metrics"]) {
        let name = text(&metric["pods"]["metric"]["name"]);
        if !families.contains_key(name) {
            fail(format!("the autoscaler asks for {name:?}, which is no metric"));
        }
    }
}

/// Prometheus finds the monitor, under the job of the alerts, and puts none of its labels in the place of one of the gateway's.
fn scraping(documents: &Documents, families: &Families, fail: &mut impl FnMut(String)) {
    let monitor = &documents.only("ServiceMonitor")["spec"];
    let wanted = monitor["selector"]["matchLabels"].as_object().expect("matchLabels");
    let has = |service: &&Value| {
        wanted.iter().all(|(key, value)| service["metadata"]["labels"].get(key) == Some(value))
    };
    let found: Vec<&Value> = documents.of("Service").filter(has).collect();
    let [service] = found.as_slice() else {
        return fail(format!("the ServiceMonitor finds {} Services", found.len()));
    };
    let job = &service["metadata"]["labels"][text(&monitor["jobLabel"])];
    if job != "gateway" {
        fail(format!("the job is {job}, the alerts ask for gateway"));
    }
    let [endpoint] = list(&monitor["endpoints"]) else { return fail("one endpoint is wanted".to_owned()) };
    let ports = list(&service["spec"]["ports"]);
    if !ports.iter().any(|port| port["name"] == endpoint["port"]) || endpoint["path"] != "/metrics" {
        fail(format!("the ServiceMonitor asks {endpoint}"));
    }
    // The operator's labels of a target; `instance` is said by ours as exported_instance everywhere.
    let dropped: Vec<&str> = list(&endpoint["relabelings"])
        .iter()
        .filter(|rule| rule["action"] == "labeldrop")
        .map(|rule| text(&rule["regex"]))
        .collect();
    for label in ["namespace", "service", "pod", "container", "endpoint"] {
        let own = families.iter().find(|(_, labels)| labels.contains_key(label));
        if let Some((metric, _)) = own.filter(|_| !dropped.contains(&label)) {
            fail(format!("Prometheus puts its label {label} in the place of {metric}'s"));
        }
    }
}

fn versions(files: &Files, fail: &mut impl FnMut(String)) {
    let (chart, manifest) = (files.yaml("deploy/helm/gateway/Chart.yaml"), files.toml("Cargo.toml"));
    let version = manifest["workspace"]["package"]["version"].as_str();
    if chart["appVersion"].as_str() != version {
        fail(format!("the chart's appVersion is {}, the program is {version:?}", chart["appVersion"]));
    }
}

#[cfg(test)]
mod with_helm {
    use std::fs;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// Runs a program to its end with something to read, and gives what it printed.
    fn run(program: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        // Whoever ends without reading says why on stderr.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).expect("text")),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    struct Tools(PathBuf);

    impl Tools {
        /// None where they are not, which is said.
        fn find() -> Option<Self> {
            let dir = std::env::var_os("KUBE_TOOLS").filter(|dir| !dir.is_empty()).map(PathBuf::from);
            if dir.is_none() {
                eprintln!("skipped: no helm; set KUBE_TOOLS to what tests/tools/get-kube-tools prints");
            }
            dir.map(Self)
        }

        fn render(&self, arguments: &[&str]) -> Result<String, String> {
            let all = ["template", "gateway", CHART, "--namespace", "im", "--kube-version", "1.34.0"];
            run(&self.0.join("helm"), &[&all, arguments].concat(), "")
        }

        fn decode(&self, rendered: &str) -> Result<String, String> {
            run(&self.0.join("kube-check"), &[], rendered)
        }
    }

    #[test]
    fn the_rendering_is_that_of_the_chart() {
        let Some(tools) = Tools::find() else { return };
        let rendered = tools.render(&["--values", VALUES]).unwrap();
        let path = root().join(RENDERED);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &rendered).unwrap();
        }
        let held = fs::read_to_string(&path).unwrap();
        assert!(rendered == held, "{RENDERED} is behind; UPDATE=1 writes it anew");
    }

    #[test]
    fn what_is_rendered_decodes_strictly_into_the_types_of_kubernetes() {
        let Some(tools) = Tools::find() else { return };
        let everything =
            ["--set", "prometheusRule.enabled=true,dashboard.enabled=true,serviceMonitor.enabled=true"];
        let plain =
            ["--set", "persistence.enabled=false,listeners.quic.enabled=false,networkPolicy.enabled=false"];
        for arguments in [&[][..], &["--values", VALUES], &everything, &plain] {
            let rendered = tools.render(arguments).unwrap();
            let verdict = tools.decode(&rendered).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
            let count = Documents::parse(&rendered).0.len();
            assert_eq!(verdict.lines().count(), count, "{verdict}");
            println!("{arguments:?}:\n{verdict}");
        }
        let rendered = tools.render(&[]).unwrap();
        for (from, to, says) in [
            ("preStop:", "preStopp:", "unknown field"),
            ("minReadySeconds: 30", "minReadySeconds: soon", "cannot unmarshal string"),
            ("name: monitor, containerPort", "name: monitor_, containerPort", "must contain only"),
            ("mountPath: /run/gateway}", "mountPath: /run/gateway, name: other}", "already set"),
            ("{name: run, mount", "{name: runs, mount", "a volume that is not there: runs"),
        ] {
            assert!(rendered.contains(from), "{from}");
            let error = tools.decode(&rendered.replace(from, to)).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
        }
    }

    #[test]
    fn the_alerts_and_the_dashboard_are_those_of_the_repository() {
        let Some(tools) = Tools::find() else { return };
        let rendered =
            tools.render(&["--set", "prometheusRule.enabled=true,dashboard.enabled=true"]).unwrap();
        let (documents, files) = (Documents::parse(&rendered), Files::read());
        assert_eq!(documents.only("PrometheusRule")["spec"], files.yaml("alerts.yml"));
        let dashboard =
            documents.of("ConfigMap").find_map(|map| map["data"]["gateway.json"].as_str()).unwrap();
        let dashboard: Value = serde_json::from_str(dashboard).unwrap();
        assert_eq!(dashboard, files.json("grafana/dashboards/gateway.json"));
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        let Some(tools) = Tools::find() else { return };
        for (values, says) in [
            ("replica=3", "replica"),
            ("listeners.quic.port=80", "listeners"),
            ("drain.windowSeconds=60", "drain.hardStopSeconds must be above drain.windowSeconds"),
            ("services.quic.listeners={udp}", "services"),
            ("quicLb.nonceLength=3", "nonceLength"),
        ] {
            let error = tools.render(&["--set", values]).unwrap_err();
            assert!(error.contains(says), "{values}: {error}");
        }
    }
}
