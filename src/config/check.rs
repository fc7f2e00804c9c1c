//! From the file type to the checked type: every value that has a right and a wrong.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::checked::{Config, Log, LogFormat, Quic, Tls};
use super::checker::Checker;
use super::error::ConfigError;
use super::file;
use super::instances::{Instance, MAX_NAME};
use super::{bounds, read};
use crate::files;
use crate::keys::QuicKeys;
use crate::limits::{DRAIN_WINDOW, MAX_WORKERS};
use crate::route::Route;
use crate::wire::dialect::Dialect;

impl Checker<'_> {
    /// Checks everything, and reads the files that are named.
    pub(super) fn config(&mut self) -> Result<Config, ConfigError> {
        self.check_gateway_id()?;
        let workers = self.workers()?;
        self.check_gate_ids(workers)?;
        let state_file = self.state_file()?;
        let dialect = self.gateway_dialect()?;
        let quic_listen = self.addresses("quic.listen", &self.file.quic.listen)?;
        let tcp = self.addresses("tcp.listen", &self.file.tcp.listen)?;
        let tls_listen = self.addresses("tcp.tls_listen", &self.file.tcp.tls_listen)?;
        let [ws_listen, wss_listen] = self.websocket_addresses()?;
        let monitor = self.monitor()?;
        let admin = self.admin(&[&quic_listen, &tls_listen, &wss_listen])?;
        let on_tcp: [(&str, &[SocketAddr]); 6] = [
            ("tcp.listen", &tcp),
            ("tcp.tls_listen", &tls_listen),
            ("websocket.listen", &ws_listen),
            ("websocket.tls_listen", &wss_listen),
            ("monitor.listen", monitor.as_slice()),
            ("admin.listen", admin.listen.as_ref().map_or(&[], |(address, _)| std::slice::from_ref(address))),
        ];
        self.check_listeners(&quic_listen, on_tcp)?;
        let tcp_proxy = self.tcp_proxy(&[&tcp[..], &tls_listen].concat())?;
        let login_service = self.login_service(dialect)?;
        let route = self.route()?;
        let (instances, consul) = self.discovery(dialect, &login_service, &route)?;
        self.warn_of_workers_with_kim(workers, dialect, &instances);
        let log = self.log()?;
        self.check_limits()?;
        let (drain_window, drain_hard_stop) = self.drain()?;
        let token_keys = self.token_keys()?;
        let jwks = self.jwks_url()?;
        let expected_claims = self.expected_claims()?;
        let (leeway, on_expiry) = (self.leeway()?, self.on_expiry()?);
        let (webhook, tracing) = (self.webhook()?, self.tracing()?);
        let (quic, [tls, wss]) = self.encrypted(quic_listen, [tls_listen, wss_listen])?;
        let ticket_keys = self.ticket_keys(quic.is_some() || tls.is_some() || wss.is_some())?;
        let websocket = self.websocket(ws_listen, wss)?;
        Ok(Config {
            id: self.file.gateway.id.clone(),
            workers,
            state_file,
            dialect,
            quic,
            tcp,
            tls,
            tcp_proxy,
            websocket,
            ticket_keys,
            token_keys,
            jwks,
            expected_claims,
            leeway,
            on_expiry,
            login_service,
            signout_after_kick: self.file.login.signout_after_kick,
            route,
            bounded_load: self.file.route.bounded_load,
            instances,
            consul,
            monitor,
            ready_when_full: self.file.monitor.ready_when_full,
            admin,
            webhook,
            tracing,
            drain_window,
            drain_hard_stop,
            log,
            limits: self.file.limits.clone(),
        })
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let wrong = |(key, problem)| self.sources.error(&format!("limits.{key}"), problem);
        bounds::check(&self.file.limits).map_err(wrong)
    }

    fn check_gateway_id(&self) -> Result<(), ConfigError> {
        let id = &self.file.gateway.id;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !id.is_empty() && id.len() <= MAX_NAME && id.bytes().all(known) {
            return Ok(());
        }
        let problem = format!("is {id:?}; allowed are 1 to {MAX_NAME} of A-Z, a-z, 0-9, '.', '-' and '_'");
        Err(self.error("gateway.id", problem))
    }

    fn workers(&mut self) -> Result<usize, ConfigError> {
        let asked = usize::try_from(self.file.gateway.workers).unwrap_or(usize::MAX);
        if asked > MAX_WORKERS {
            let problem = format!("is {asked}; allowed are 1 to {MAX_WORKERS}, and 0 for one per core");
            return Err(self.error("gateway.workers", problem));
        }
        let workers = match asked {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_WORKERS)),
            some => some,
        };
        if workers > 1 && !cfg!(target_os = "linux") {
            let text = "gateway.workers: several workers need Linux; here one runs";
            self.warnings.push(text.to_owned());
            return Ok(1);
        }
        Ok(workers)
    }

    /// Logic services see `-` and an index behind the id, and they, too, allow 64 bytes. In channel ids, which clients may
    /// send back within `limits.max_channel_id`, an underscore takes three (protocol §4.2).
    fn check_gate_ids(&self, workers: usize) -> Result<(), ConfigError> {
        let suffix = if workers > 1 { format!("-{}", workers - 1).len() } else { 0 };
        let (allowed, id) = (MAX_NAME - suffix, &self.file.gateway.id);
        let underscores = id.matches('_').count();
        let len = id.len() + 2 * underscores;
        if len <= allowed {
            return Ok(());
        }
        let mut problem = format!("has {len} bytes");
        if underscores > 0 {
            problem += ", '_' counted as the three it takes in channel ids";
        }
        problem += &match workers {
            1 => format!("; allowed are {allowed}"),
            _ => format!(
                "; with {workers} workers at most {allowed} are allowed, because each adds its number"
            ),
        };
        Err(self.error("gateway.id", problem))
    }

    /// It need not be there, but its directory must.
    fn state_file(&self) -> Result<Option<PathBuf>, ConfigError> {
        let Some(path) = &self.file.gateway.state_file else { return Ok(None) };
        let path = self.options.base.join(path);
        if is_in_a_directory(&path) {
            return Ok(Some(path));
        }
        let problem = format!("is {}; allowed is a file in a directory that is there", path.display());
        Err(self.error("gateway.state_file", problem))
    }

    /// kim's services stop pushing after the first gateway that has one of the receivers (ARCHITECTURE §5).
    fn warn_of_workers_with_kim(&mut self, workers: usize, dialect: Dialect, instances: &[Instance]) {
        let listed = instances.iter().find(|instance| instance.dialect == Dialect::Kim);
        let who = match listed {
            Some(kim) => format!("instance {} speaks kim", kim.id),
            None if instances.is_empty() && dialect == Dialect::Kim => "gateway.dialect is kim".to_owned(),
            None => return,
        };
        if workers > 1 {
            self.warnings.push(format!(
                "gateway.workers: is {workers}, and {who}: kim's services see every worker as a \
                 gateway of its own and push to the first only, so members of a group on other workers miss messages; \
                 use 1 worker, or several gateways only if your services push to all of them"
            ));
        }
    }

    /// The dialect of instances that do not name theirs.
    pub(super) fn gateway_dialect(&self) -> Result<Dialect, ConfigError> {
        self.dialect("gateway.dialect", &self.file.gateway.dialect)
    }

    pub(super) fn dialect(&self, key: &str, text: &str) -> Result<Dialect, ConfigError> {
        text.parse().map_err(|_| self.error(key, format!("is {text:?}; allowed are \"x_im\" and \"kim\"")))
    }

    pub(super) fn addresses(&self, key: &str, listen: &file::Listen) -> Result<Vec<SocketAddr>, ConfigError> {
        listen.0.iter().map(|text| self.address(key, text)).collect()
    }

    pub(super) fn address(&self, key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
        text.trim().parse().map_err(|_| {
            let problem = format!(
                "is {text:?}; allowed is an IP address with a port, such as \"[::]:8000\" or \"127.0.0.1:8000\""
            );
            self.error(key, problem)
        })
    }

    pub(super) fn monitor(&self) -> Result<Option<SocketAddr>, ConfigError> {
        match self.file.monitor.listen.trim() {
            "" => Ok(None),
            text => self.address("monitor.listen", text).map(Some),
        }
    }

    /// The last of those on TCP is the monitor, which is not for clients.
    fn check_listeners(
        &mut self,
        quic: &[SocketAddr],
        on_tcp: [(&str, &[SocketAddr]); 6],
    ) -> Result<(), ConfigError> {
        if quic.is_empty() && on_tcp[..4].iter().all(|(_, listen)| listen.is_empty()) {
            let problem = "is not set, nor is tcp.listen, tcp.tls_listen, websocket.listen or websocket.tls_listen; allowed is \
                           at least one of them";
            return Err(self.error("quic.listen", problem));
        }
        self.check_distinct("quic.listen", quic)?;
        for (index, (key, listen)) in on_tcp.iter().enumerate() {
            self.check_distinct(key, listen)?;
            for (other_key, others) in &on_tcp[..index] {
                self.check_apart(key, listen, other_key, others)?;
            }
        }
        for (key, listen) in [on_tcp[0], on_tcp[2]] {
            if let Some(open) = listen.iter().find(|address| !address.ip().is_loopback()) {
                self.warnings.push(format!("{key}: on {open} tokens travel in clear"));
            }
        }
        Ok(())
    }

    fn check_distinct(&self, key: &str, listen: &[SocketAddr]) -> Result<(), ConfigError> {
        for (index, address) in listen.iter().enumerate() {
            if let Some(other) = listen[..index].iter().find(|other| overlap(**other, *address)) {
                let problem = format!("{address} overlaps {other}; allowed is each address once");
                return Err(self.error(key, problem));
            }
        }
        Ok(())
    }

    /// No address of the one setting may stand in the way of the other's.
    fn check_apart(
        &self,
        key: &str,
        listen: &[SocketAddr],
        other_key: &str,
        others: &[SocketAddr],
    ) -> Result<(), ConfigError> {
        for address in listen {
            if let Some(other) = others.iter().find(|other| overlap(**other, *address)) {
                let problem = format!("{address} overlaps {other_key} {other}; allowed is a port of its own");
                return Err(self.error(key, problem));
            }
        }
        Ok(())
    }

    fn login_service(&self, dialect: Dialect) -> Result<String, ConfigError> {
        let service = self.file.login.service.as_deref().unwrap_or(dialect.login_service());
        self.check_service("login.service", service)?;
        Ok(service.to_owned())
    }

    /// The route: that of the options, else the file's.
    pub(super) fn route(&self) -> Result<Arc<Route>, ConfigError> {
        if let Some(route) = &self.options.route {
            return Ok(Arc::clone(route));
        }
        let Some(path) = &self.file.route.file else {
            let problem = "is missing; allowed is the path of a route file, such as \"config/route.json\"";
            return Err(self.error("route.file", problem));
        };
        let text = files::text(&self.options.base.join(path))
            .map_err(|problem| self.error("route.file", format!("{problem}; allowed is a route file")))?;
        let route = Route::from_json(&text)
            .map_err(|error| self.error("route.file", format!("{}: {error}", path.display())))?;
        Ok(Arc::new(route))
    }

    fn log(&self) -> Result<Log, ConfigError> {
        let file::LogTable { format, level } = &self.file.log;
        let format = match format.as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => {
                let problem = format!("is {format:?}; allowed are \"text\" and \"json\"");
                return Err(self.error("log.format", problem));
            }
        };
        let level = match level.as_str() {
            "error" => tracing::Level::ERROR,
            "warn" => tracing::Level::WARN,
            "info" => tracing::Level::INFO,
            "debug" => tracing::Level::DEBUG,
            "trace" => tracing::Level::TRACE,
            _ => {
                let problem = format!(
                    "is {level:?}; allowed are \"error\", \"warn\", \"info\", \"debug\" and \"trace\""
                );
                return Err(self.error("log.level", problem));
            }
        };
        Ok(Log { format, level })
    }

    /// Window and hard stop. Nobody waits for a gateway on his desk.
    fn drain(&self) -> Result<(Duration, Duration), ConfigError> {
        let file::DrainTable { window, hard_stop } = self.file.drain;
        let usual = if self.options.dev { Duration::ZERO } else { DRAIN_WINDOW };
        let window = window.unwrap_or(usual);
        bounds::check_hard_stop(hard_stop)
            .map_err(|(key, problem)| self.error(&format!("drain.{key}"), problem))?;
        if window < hard_stop {
            return Ok((window, hard_stop));
        }
        // Said of the one that was written: the other may be the default.
        let written = self.file.drain.window.is_some();
        let [shown_window, shown_stop] = [window, hard_stop].map(humantime::format_duration);
        Err(if written {
            let problem =
                format!("is {shown_window}; allowed is less than drain.hard_stop, which is {shown_stop}");
            self.error("drain.window", problem)
        } else {
            let problem =
                format!("is {shown_stop}; allowed is more than drain.window, which is {shown_window}");
            self.error("drain.hard_stop", problem)
        })
    }

    /// The listeners that need the certificate: QUIC, and those of TLS. Without any it is not read.
    fn encrypted(
        &mut self,
        quic: Vec<SocketAddr>,
        tls: [Vec<SocketAddr>; 2],
    ) -> Result<(Option<Quic>, [Option<Tls>; 2]), ConfigError> {
        if quic.is_empty() && tls.iter().all(Vec::is_empty) {
            return Ok((None, [None, None]));
        }
        let identity = Arc::new(self.identity()?);
        let tls =
            tls.map(|listen| (!listen.is_empty()).then(|| Tls { listen, identity: Arc::clone(&identity) }));
        if quic.is_empty() {
            return Ok((None, tls));
        }
        let keys = self.quic_keys()?;
        let lb = self.quic_lb()?;
        let migration = self.file.quic.migration;
        Ok((Some(Quic { listen: quic, identity, keys, migration, lb }), tls))
    }

    fn quic_keys(&mut self) -> Result<QuicKeys, ConfigError> {
        let path = &self.file.quic.key_file;
        let keys =
            self.read_private("quic.key_file", path, "allowed is the file that `gateway certs` makes")?;
        String::from_utf8(keys)
            .map_err(|_| "is not text".to_owned())
            .and_then(|text| QuicKeys::parse(&text).map_err(|error| error.to_string()))
            .map_err(|problem| {
                let hint = read::or_remake(&self.options.base.join(path));
                self.error("quic.key_file", format!("{}: {problem}{hint}", path.display()))
            })
    }
}

pub(super) fn is_in_a_directory(path: &Path) -> bool {
    path.file_name().is_some() && path.parent().is_some_and(|dir| dir.as_os_str().is_empty() || dir.is_dir())
}

/// Returns `true` if the two cannot both be bound. The unspecified IPv6 address is dual-stack, so it covers IPv4 as
/// well.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |wide: IpAddr, other: IpAddr| match wide {
        IpAddr::V6(wide) => wide.is_unspecified(),
        IpAddr::V4(wide) => wide.is_unspecified() && other.is_ipv4(),
    };
    let same_port = a.port() == b.port() && a.port() != 0;
    same_port && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}
