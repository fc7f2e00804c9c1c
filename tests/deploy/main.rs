//! What starts the gateway elsewhere agrees with itself and with the gateway: Dockerfile, docker-compose.yml,
//! prometheus.yml, alerts.yml, the Grafana files, the chart, the unit
//! and the Debian package, config/ and docs/operations.md. Nothing here needs Docker or a cluster.
//!
//! Each check is shown to find a fault that was planted for it.

#![allow(unreachable_pub)] // the modules below are private to this test

mod alerts;
mod compose;
mod dashboard;
mod files;
mod image;
mod kubernetes;
mod query;
mod scrape;
mod systemd;

use files::Files;
use rstest::rstest;

/// Everything that is wrong with these files.
fn problems(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    compose::check(files, &mut found);
    image::check(files, &mut found);
    dashboard::check(files, scrape::families(), &mut found);
    alerts::check(files, scrape::families(), &mut found);
    kubernetes::check(files, scrape::families(), &mut found);
    systemd::check(files, &mut found);
    found
}

#[test]
fn the_files_agree() {
    let found = problems(&Files::read());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[rstest]
#[case::published_port("docker-compose.yml", "\"8443:8443/tcp\"", "\"8443:8445/tcp\"", "8445/tcp")]
#[case::port_not_published("docker-compose.yml", "- \"8000:8000/udp\"", "- \"8000:8000/tcp\"", "8000/udp")]
#[case::monitor_published("docker-compose.yml", "\"8443:8443/tcp\"", "\"8001:8001/tcp\"", "monitor")]
#[case::plain_tcp_published("docker-compose.yml", "127.0.0.1:8000:8000/tcp", "8000:8000/tcp", "plain")]
#[case::logic_port(
    "docker-compose.yml",
    "chat@zone_b=0.0.0.0:9003",
    "chat@zone_b=0.0.0.0:9004",
    "logic:9003"
)]
#[case::logic_zone("docker-compose.yml", "chat@zone_b=0", "chat@zone_a=0", "logic:9003")]
#[case::logic_loopback("docker-compose.yml", "zone_b=0.0.0.0", "zone_b=127.0.0.1", "logic:9003")]
#[case::logic_name("config/compose.toml", "\"logic:9001\"", "\"logics:9001\"", "logics")]
#[case::health_url(
    "docker-compose.yml",
    "\"--ready\"",
    "\"--url\", \"http://127.0.0.1:8002/ready\"",
    "healthcheck"
)]
#[case::grace("docker-compose.yml", "stop_grace_period: 40s", "stop_grace_period: 5s", "stop_grace_period")]
#[case::nofile("docker-compose.yml", "soft: 131072", "soft: 1024", "nofile")]
#[case::open_network("docker-compose.yml", "    internal: true\n", "", "internal")]
#[case::config_file("docker-compose.yml", "config/compose.toml", "config/other.toml", "other.toml")]
#[case::certs_elsewhere("docker-compose.yml", "certs:/srv/gateway/certs/dev:ro", "certs:/certs:ro", "certs")]
#[case::gone("docker-compose.yml", "./prometheus.yml:", "./prometheus.yaml:", "./prometheus.yaml")]
#[case::image("docker-compose.yml", "prom/prometheus:v3.13.2", "prom/prometheus", "prom/prometheus")]
#[case::latest("docker-compose.yml", "grafana/grafana:12.3.1", "grafana/grafana:latest", "latest")]
#[case::data("docker-compose.yml", "~/data/prometheus:", "~/data/prom:", "~/data/prometheus")]
#[case::target_port("prometheus.yml", "gateway:8001", "gateway:8000", "gateway:8000")]
#[case::target_host("prometheus.yml", "gateway:8001", "gate:8001", "gate:8001")]
#[case::monitor_moved("config/compose.toml", "0.0.0.0:8001", "0.0.0.0:8009", "8009")]
#[case::monitor_hidden("config/compose.toml", "0.0.0.0:8001", "127.0.0.1:8001", "loopback")]
#[case::toolchain("Dockerfile", "rust:1.95.0-slim", "rust:1.80.0-slim", "rust-version")]
#[case::scratch("Dockerfile", "FROM scratch", "FROM debian:bookworm-slim", "put together")]
#[case::assembled(
    "Dockerfile",
    "target/dist/gateway /image",
    "target/dist/gateway /other",
    "put into /image"
)]
#[case::labels("Dockerfile", "image.version=\"0.1.0\"", "image.version=\"0.0.9\"", "label version")]
#[case::label("Dockerfile", "image.licenses", "image.license", "no label")]
#[case::record_metric(
    "alerts.yml",
    "gateway_logins_total{",
    "gateway_signins_total{",
    "gateway_signins_total"
)]
#[case::record_name(
    "alerts.yml",
    "record: instance:gateway_connections",
    "record: gateway_connections",
    "not named"
)]
#[case::record_job(
    "alerts.yml",
    "gateway_connections{job=\"gateway\"}",
    "gateway_connections{}",
    "without job"
)]
#[case::root("Dockerfile", "USER 10001:10001", "USER root", "root")]
#[case::profile("Dockerfile", "--profile dist", "--release", "dist")]
#[case::health("Dockerfile", "[\"gateway\", \"health\"]", "[\"curl\", \"localhost\"]", "HEALTHCHECK")]
#[case::health_config("Dockerfile", "ENV GATEWAY_CONFIG", "ENV CONFIG", "GATEWAY_CONFIG")]
#[case::health_other(
    "Dockerfile",
    "CMD [\"serve\"]",
    "CMD [\"serve\", \"--config\", \"a.toml\"]",
    "GATEWAY_CONFIG"
)]
#[case::exposed("Dockerfile", "8443/tcp", "8445/tcp", "EXPOSE")]
#[case::ignored(".dockerignore", "!crates", "# crates", "crates")]
#[case::datasource(
    "grafana/provisioning/datasources/prometheus.yml",
    "prometheus:9090",
    "prom:9090",
    "prom:9090"
)]
#[case::datasource_uid(
    "grafana/provisioning/datasources/prometheus.yml",
    "uid: prometheus",
    "uid: other",
    "other"
)]
#[case::dashboards(
    "grafana/provisioning/dashboards/gateway.yml",
    "/etc/grafana/dashboards",
    "/etc/x",
    "/etc/x"
)]
#[case::metric("grafana/dashboards/gateway.json", "gateway_connections{", "gateway_conns{", "gateway_conns")]
#[case::metric_bare(
    "grafana/dashboards/gateway.json",
    "gateway_connections{",
    "gateway_connections({",
    "gateway_connections"
)]
#[case::label("grafana/dashboards/gateway.json", "sum by (transport)", "sum by (carrier)", "carrier")]
#[case::instance(
    "grafana/dashboards/gateway.json",
    "by (service, exported_instance, zone)",
    "by (service, exported, zone)",
    "exported"
)]
#[case::value("grafana/dashboards/gateway.json", "direction=\\\"in\\\"", "direction=\\\"into\\\"", "into")]
#[case::legend("grafana/dashboards/gateway.json", "{{transport}}", "{{carrier}}", "carrier")]
#[case::state("grafana/dashboards/gateway.json", "healthy|warming", "healthy|yuong", "yuong")]
#[case::alert_metric(
    "alerts.yml",
    "gateway_webhook_queued{",
    "gateway_webhook_waiting{",
    "gateway_webhook_waiting"
)]
#[case::alert_value("alerts.yml", "event=\"overload\"", "event=\"overlaod\"", "never has event=\"overlaod\"")]
#[case::alert_state("alerts.yml", "healthy|warming", "up|warming", "never has state=\"up\"")]
#[case::alert_label(
    "alerts.yml",
    "job=\"gateway\",outcome=",
    "job=\"gateway\",result=",
    "has no label result"
)]
#[case::alert_job("alerts.yml", "up{job=\"gateway\"}", "up", "asks for no metric")]
#[case::alert_bare(
    "alerts.yml",
    "gateway_webhook_queued{job=\"gateway\"}",
    "gateway_webhook_queued",
    "without job"
)]
#[case::alert_group(
    "alerts.yml",
    "by (instance, service, exported_instance, zone)",
    "by (instance, service)",
    "names exported_instance"
)]
#[case::alert_text("alerts.yml", "$labels.instance }} sheds", "$labels.gateway }} sheds", "names gateway")]
#[case::alert_severity("alerts.yml", "severity: info", "severity: low", "its severity is")]
#[case::alert_missing("alerts.yml", "event: drain", "event: overload", "no alert tells of the event drain")]
#[case::alert_of_nothing("alerts.yml", "event: drain", "event: drained", "no event drained")]
#[case::alert_twice("alerts.yml", "GatewayCertificateEnds", "GatewayCertificateEnding", "a name of its own")]
#[case::alerts_unread("prometheus.yml", "  - alerts.yml", "  - other.yml", "rule_files")]
#[case::alerts_elsewhere(
    "docker-compose.yml",
    "/etc/prometheus/alerts.yml",
    "/etc/alerts.yml",
    "not mounted beside"
)]
#[case::chart_port(kubernetes::RENDERED, "containerPort: 8443", "containerPort: 8445", "8445/tcp")]
#[case::chart_protocol(
    kubernetes::RENDERED,
    "name: quic, containerPort: 8000, protocol: UDP",
    "name: quic, containerPort: 8000, protocol: TCP",
    "8000/udp"
)]
#[case::chart_service(kubernetes::RENDERED, "targetPort: wss", "targetPort: wsss", "where nobody listens")]
#[case::chart_not_offered(kubernetes::RENDERED, "targetPort: quic", "targetPort: tls", "no Service offers")]
#[case::chart_monitor_offered(
    kubernetes::RENDERED,
    "clusterIP: None",
    "type: ClusterIP",
    "the monitor is offered"
)]
#[case::chart_policy(
    kubernetes::RENDERED,
    "{port: tls, protocol: TCP}",
    "{port: tcp, protocol: TCP}",
    "keeps out"
)]
#[case::chart_id(
    kubernetes::RENDERED,
    "fieldPath: metadata.name",
    "fieldPath: metadata.uid",
    "not the pod's name"
)]
#[case::chart_live(
    kubernetes::RENDERED,
    "/health, port: monitor",
    "/ready, port: monitor",
    "livenessProbe asks"
)]
#[case::chart_ready(
    kubernetes::RENDERED,
    "/ready, port: monitor",
    "/ready, port: tls",
    "readinessProbe asks"
)]
#[case::chart_grace(
    kubernetes::RENDERED,
    "terminationGracePeriodSeconds: 45",
    "terminationGracePeriodSeconds: 30",
    "too short for a drain"
)]
#[case::chart_pre_stop(kubernetes::RENDERED, "preStop: {sleep: {seconds: 5}}", "preStop: {}", "no preStop")]
#[case::chart_user(kubernetes::RENDERED, "runAsUser: 10001", "runAsUser: 1000", "the image as")]
#[case::chart_root(kubernetes::RENDERED, "runAsNonRoot: true", "runAsNonRoot: false", "may run as root")]
#[case::chart_seccomp(kubernetes::RENDERED, "RuntimeDefault", "Unconfined", "without seccomp")]
#[case::chart_writable(
    kubernetes::RENDERED,
    "readOnlyRootFilesystem: true",
    "readOnlyRootFilesystem: false",
    "more rights"
)]
#[case::chart_token(
    kubernetes::RENDERED,
    "automountServiceAccountToken: false",
    "automountServiceAccountToken: true",
    "token of the API server"
)]
#[case::chart_path(
    kubernetes::RENDERED,
    "mountPath: /etc/gateway/tls",
    "mountPath: /etc/gateway/cert",
    "which no volume holds"
)]
#[case::chart_bans(
    kubernetes::RENDERED,
    "- {name: GATEWAY__ADMIN__BANS_FILE, value: /var/lib/gateway/bans}",
    "",
    "bans end with the pod"
)]
#[case::chart_governing(kubernetes::RENDERED, "serviceName: gateway", "serviceName: gateways", "headless")]
#[case::chart_scaled(
    kubernetes::RENDERED,
    "kind: StatefulSet\n    name: gateway",
    "kind: StatefulSet\n    name: gate",
    "the autoscaler scales"
)]
#[case::chart_metric(
    kubernetes::RENDERED,
    "{name: gateway_connections}",
    "{name: gateway_conns}",
    "gateway_conns"
)]
#[case::chart_job(
    kubernetes::RENDERED,
    "jobLabel: app.kubernetes.io/name",
    "jobLabel: app.kubernetes.io/version",
    "the job is"
)]
#[case::chart_labels(kubernetes::RENDERED, "regex: service}", "regex: pod}", "its label service")]
#[case::chart_scraped(
    kubernetes::RENDERED,
    "port: monitor\n      path",
    "port: admin\n      path",
    "the ServiceMonitor asks"
)]
#[case::chart_version("deploy/helm/gateway/Chart.yaml", "appVersion: ", "appVersion: 9", "appVersion")]
#[case::unit_type("deploy/systemd/gateway.service", "Type=notify-reload", "Type=simple", "Type")]
#[case::unit_program(
    "deploy/systemd/gateway.service",
    "ExecStart=/usr/bin/gateway",
    "ExecStart=/opt/gateway",
    "which the package does not bring"
)]
#[case::unit_command(
    "deploy/systemd/gateway.service",
    "certs --quic-keys",
    "certs --quic-key",
    "ExecStartPre"
)]
#[case::unit_config(
    "deploy/systemd/gateway.service",
    "--config /etc/gateway/gateway.toml",
    "--config /etc/gateway.toml",
    "which the package does not bring"
)]
#[case::unit_state(
    "deploy/systemd/gateway.service",
    "StateDirectory=gateway",
    "StateDirectory=gate",
    "no directory that the unit keeps"
)]
#[case::unit_made_before(
    "deploy/debian/postinst",
    "gateway -m 0700 /var/lib/gateway",
    "gateway -m 0755 /var/lib/gateway",
    "-m 0700 /var/lib/gateway"
)]
#[case::unit_keys_before(
    "deploy/debian/postinst",
    "certs --quic-keys",
    "certs",
    "is not in deploy/debian/postinst"
)]
#[case::unit_start_limit(
    "deploy/systemd/gateway.service",
    "StartLimitIntervalSec=0",
    "StartLimitIntervalSec=10",
    "StartLimitIntervalSec"
)]
#[case::unit_files("deploy/systemd/gateway.service", "LimitNOFILE=131072", "LimitNOFILE=1024", "LimitNOFILE")]
#[case::unit_stop(
    "deploy/systemd/gateway.service",
    "TimeoutStopSec=45s",
    "TimeoutStopSec=20s",
    "TimeoutStopSec"
)]
#[case::unit_user("deploy/systemd/gateway.service", "User=gateway", "User=gate", "User")]
#[case::unit_restart(
    "deploy/systemd/gateway.service",
    "RestartPreventExitStatus=64",
    "RestartPreventExitStatus=1",
    "64"
)]
#[case::sysctl(
    "deploy/systemd/sysctl.d/60-gateway.conf",
    "rmem_max = 4194304",
    "rmem_max = 2097152",
    "rmem_max"
)]
#[case::package_asset("Cargo.toml", "deploy/debian/gateway.toml", "deploy/debian/gate.toml", "is not there")]
#[case::package_conf(
    "Cargo.toml",
    "\"/etc/gateway/gateway.toml\", \"/etc/gateway/route.json\"",
    "\"/etc/gateway/gateway.toml\"",
    "no conf-file"
)]
#[case::package_unread(
    "deploy/debian/gateway.toml",
    "/etc/gateway/route.json",
    "/etc/gateway/config/route.json",
    "which the package does not bring"
)]
#[case::package_socket(
    "deploy/debian/gateway.toml",
    "/var/lib/gateway/admin.sock",
    "/run/gateway/admin.sock",
    "no directory that the unit keeps"
)]
#[case::package_bans("deploy/debian/gateway.toml", "bans_file", "# bans_file", "bans end with the process")]
#[case::runbook_missing(
    "docs/runbooks.md",
    "## GatewayDraining",
    "### GatewayDraining",
    "GatewayDraining has no"
)]
#[case::runbook_of_nothing(
    "docs/runbooks.md",
    "## GatewayDraining",
    "## GatewayDrains",
    "no alert GatewayDrains"
)]
#[case::runbook_short("docs/runbooks.md", "**Do:** report them", "Report them", "does not say **Do:**")]
#[case::runbook_link("alerts.yml", "#gatewaydraining", "#gatewaydown", "runbook_url is not")]
#[case::operations_logic(
    "docs/operations.md",
    "--serve chat@zone_b=127.0.0.1:9003",
    "--serve chat@zone_b=127.0.0.1:9009",
    "127.0.0.1:9003"
)]
#[case::operations_owner("docs/operations.md", "65534", "1000", "65534")]
fn a_planted_fault_is_found(#[case] file: &str, #[case] from: &str, #[case] to: &str, #[case] says: &str) {
    let found = problems(&Files::read().with(file, from, to));
    assert!(found.iter().any(|problem| problem.contains(says)), "{says}: {found:?}");
}
