//! `gateway health`: asks a running gateway how it is, for containers and scripts that have no HTTP client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use gateway::config::{self, Options};
use gateway::http_client::{Endpoint, HttpResponse};
use gateway_net::resolve::{Resolver, host_and_port};
use hyper::Method;

use crate::cli::check::refuse;
use crate::cli::{CONFIG_VARIABLE, DEFAULT_CONFIG, output};

/// The longest page that is read, bytes: one of the monitor that says yes or no is far shorter.
const MAX_PAGE: usize = 1024 * 1024;

/// Arguments of `gateway health`.
#[derive(Debug, clap::Args)]
pub(crate) struct HealthArgs {
    /// The configuration of the gateway that is asked: it says where the monitor listens, as do variables like
    /// GATEWAY__MONITOR__LISTEN
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, default_value = DEFAULT_CONFIG)]
    pub(crate) config: PathBuf,
    /// Asks whether traffic may come (/ready), not only whether it lives (/health)
    #[arg(long, conflicts_with = "url")]
    pub(crate) ready: bool,
    /// A page of the monitor of any gateway, in place of the configuration
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<Page>,
    /// How long the whole answer may take, however many addresses the name has; the connection at most 3s of it
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

/// `http://HOST:PORT/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    host: String,
    path: String,
}

impl FromStr for Page {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = || "allowed is http://HOST:PORT/PATH, such as http://127.0.0.1:8001/ready".to_owned();
        let rest = text.strip_prefix("http://").ok_or_else(allowed)?;
        let (host, path) = rest.split_once('/').ok_or_else(allowed)?;
        let with_port =
            host.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok());
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
        if !with_port || !plain(host) || !plain(path) {
            return Err(allowed());
        }
        Ok(Self { host: host.to_owned(), path: format!("/{path}") })
    }
}

/// Prints what the page says. Exit codes: 0 if it answers 200, 64 for a configuration that is refused or has no monitor,
/// 1 for anything else.
///
/// # Errors
/// Nobody answers, or not with HTTP.
pub(crate) fn run(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    let page = match args.url.clone().map_or_else(|| configured(args), Ok) {
        Ok(page) => page,
        Err(problem) => return Ok(refuse(problem)),
    };
    let Page { host, path } = &page;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime
        .block_on(ask(&page, args.timeout, Resolver::default()))
        .with_context(|| format!("no answer from http://{host}{path}"))?;
    let body = String::from_utf8_lossy(&answer.body);
    output::tell(format!("{} {}\n", answer.status, body.trim_end()));
    Ok(if answer.status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The page of the monitor that the configuration sets up.
fn configured(args: &HealthArgs) -> Result<Page, String> {
    let options = Options::with_environment(std::env::vars_os());
    // Without any file, as beside `gateway dev`, the usual address is asked.
    let absent = args.config == Path::new(DEFAULT_CONFIG) && !args.config.exists();
    let path = (!absent).then_some(args.config.as_path());
    let shown = args.config.display();
    let listen = match config::load_monitor(path, &options).map_err(|error| error.to_string())? {
        None if absent => USUAL,
        None => return Err(format!("{shown}: monitor.listen is not set, so there is nobody to ask")),
        Some(address) if address.port() == 0 => {
            return Err(format!("{shown}: monitor.listen has port 0, so --url must say which one it got"));
        }
        Some(address) => address,
    };
    let path = if args.ready { "/ready" } else { "/health" };
    Ok(Page { host: reachable(listen).to_string(), path: path.to_owned() })
}

/// Where `gateway dev` and the example configuration have the monitor.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);

/// Where this machine reaches one that listens there: on loopback, if that is on every address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(page: &Page, timeout: Duration, resolver: Resolver) -> anyhow::Result<HttpResponse> {
    let (host, port) = host_and_port(&page.host)?;
    let endpoint = Endpoint::new(host, port, None, resolver)?;
    Ok(endpoint.send(Method::GET, &page.path, &[], Vec::new(), MAX_PAGE, timeout).await?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::time::Instant;

    use super::*;
    use gateway_net::resolve::testing::{both, silent_and_listening};

    /// The first address of the name takes connections to nowhere.
    #[tokio::test]
    async fn h14_a_gateway_whose_first_address_is_silent_is_asked_at_its_second() {
        /// Tried one after the other, the first address would use all of it up.
        const LONG: Duration = Duration::from_secs(20);
        let (_silent, listener) = silent_and_listening();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(false).unwrap();
        let monitor = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 9];
            stream.read_exact(&mut head).unwrap();
            stream.write_all(b"HTTP/1.1 503 Unwell\r\ncontent-length: 4\r\n\r\nbody").unwrap();
            head
        });
        let page = format!("http://gate.example.org:{port}/ready").parse().unwrap();
        let begun = Instant::now();
        let answer = ask(&page, LONG, Resolver::new(|_: &str| Ok(both()))).await.unwrap();
        assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
        assert_eq!((answer.status, &answer.body[..]), (503, &b"body"[..]));
        assert_eq!(&monitor.join().unwrap(), b"GET /read");
    }

    #[test]
    fn a_page_has_a_host_a_port_and_a_path() {
        let page: Page = "http://gateway:8001/ready".parse().unwrap();
        assert_eq!(page, Page { host: "gateway:8001".to_owned(), path: "/ready".to_owned() });
        assert_eq!("http://[::1]:8001/".parse::<Page>().unwrap().path, "/");
        let bad = ["", "gateway:8001/ready", "https://gateway:8001/ready", "http://gateway/ready"];
        for text in bad.into_iter().chain(["http://gateway:8001", "http://:1/x", "http://a:1/x y"]) {
            assert!(text.parse::<Page>().unwrap_err().contains("such as"), "{text}");
        }
    }
}
