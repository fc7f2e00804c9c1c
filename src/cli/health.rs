//! `gateway health`: asks a running gateway how it is, for containers and scripts that have no HTTP client.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// More of an answer is not read, bytes: a page of the monitor that says yes or no is far shorter.
const MAX_ANSWER: u64 = 16 * 1024;

/// Arguments of `gateway health`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A page of the monitor: /health, or /ready to ask whether traffic may come
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8001/health")]
    pub(crate) url: Page,
    /// How long the connection and each read may take
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

/// Prints what the page says. Exit codes: 0 if it answers 200, 1 for anything else.
///
/// # Errors
/// Nobody answers, or not with HTTP.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Page { host, path } = &args.url;
    let answer =
        ask(&args.url, args.timeout).with_context(|| format!("no answer from http://{host}{path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).unwrap_or_default();
    let Ok(status) = status.parse::<u16>() else { bail!("http://{host}{path} does not speak HTTP") };
    writeln!(std::io::stdout(), "{status} {}", body.trim_end())?;
    Ok(if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ask(page: &Page, timeout: Duration) -> anyhow::Result<String> {
    let addresses = page.host.to_socket_addrs()?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return exchange(stream, page, timeout),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| anyhow::anyhow!("the name has no address"), Into::into))
}

fn exchange(mut stream: TcpStream, page: &Page, timeout: Duration) -> anyhow::Result<String> {
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let Page { host, path } = page;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
