//! [`DevGateway`]: a process `gateway dev`, with its certificates in a directory of its own.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// See the module. Killed, and its directory removed, when it is dropped.
pub(crate) struct DevGateway {
    directory: PathBuf,
    child: Child,
    /// Open as long as the process, which would get an error for what it prints.
    _stdout: BufReader<ChildStdout>,
    page: String,
}

impl DevGateway {
    /// Starts it and waits until it is ready.
    pub(crate) fn start() -> io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("gateway-stacks-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(["dev", "--port", "0"]).current_dir(&directory);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut page = String::new();
        while !page.lines().any(|line| line.starts_with("ready")) {
            if stdout.read_line(&mut page)? == 0 {
                return Err(io::Error::other(format!("the gateway ended before it was ready:\n{page}")));
            }
        }
        Ok(Self { directory, child, _stdout: stdout, page })
    }

    /// Where it listens for `what`: `quic` or `tcp`.
    pub(crate) fn address(&self, what: &str) -> SocketAddr {
        let start = format!("listening {what} ");
        let line = self.page.lines().find_map(|line| line.strip_prefix(&start));
        line.and_then(|address| address.parse().ok()).expect("it prints where it listens")
    }

    /// The authority that signed its certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.join("certs/dev/ca.pem")
    }

    /// A token for this account.
    pub(crate) fn token(&self, account: &str) -> io::Result<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(["token", "--account", account]).current_dir(&self.directory);
        let output = command.output()?;
        String::from_utf8(output.stdout).map(|text| text.trim().to_owned()).map_err(io::Error::other)
    }
}

impl Drop for DevGateway {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        let _left_behind = fs::remove_dir_all(&self.directory);
    }
}
