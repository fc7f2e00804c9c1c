//! `gateway certs`: makes the CA, the server certificate, the JWT secret and the QUIC keys; rotates the keys of TLS tickets.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use gateway::certs;

use crate::cli::output;

/// Arguments of `gateway certs`.
#[derive(Debug, clap::Args)]
pub(crate) struct CertsArgs {
    /// Where the files go
    #[arg(long, value_name = "DIR", default_value = "certs/dev")]
    pub(crate) dir: PathBuf,
    /// Host names and IP addresses of the server, beside localhost, 127.0.0.1 and ::1
    #[arg(long = "name", value_name = "HOST", num_args = 1..)]
    pub(crate) names: Vec<String>,
    /// Makes everything anew, over what is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Makes only the key that gateways share with a balancer (quic.lb.key_file)
    #[arg(long, conflicts_with = "names")]
    pub(crate) quic_lb_key: bool,
    /// Makes only the keys that one gateway keeps over restarts (quic.key_file)
    #[arg(long, conflicts_with_all = ["names", "quic_lb_key"])]
    pub(crate) quic_keys: bool,
    /// Puts a new key into ticket.keys, where the newest three stand, and makes nothing else
    #[arg(long, conflicts_with_all = ["force", "names", "quic_lb_key", "quic_keys"])]
    pub(crate) rotate_tickets: bool,
}

/// Makes the files and says which.
///
/// # Errors
/// [`certs::CertsError`], or stdout that cannot be written.
pub(crate) fn run(args: &CertsArgs) -> anyhow::Result<ExitCode> {
    let report = if args.quic_lb_key {
        certs::generate_quic_lb_key(&args.dir, args.force)?
    } else if args.quic_keys {
        certs::generate_quic_keys(&args.dir, args.force)?
    } else if args.rotate_tickets {
        certs::rotate_tickets(&args.dir)?
    } else {
        certs::generate(&args.dir, &args.names, args.force)?
    };
    let mut out = String::new();
    for path in &report.made {
        writeln!(out, "made {}", path.display())?;
    }
    for path in &report.kept {
        writeln!(out, "kept {}", path.display())?;
    }
    let kept = report.kept.iter().find(|path| path.ends_with(certs::name::SERVER));
    if let Some(server) = kept.filter(|_| !args.names.is_empty()) {
        let server = server.display();
        writeln!(
            out,
            "the names are not in the certificate that was kept; move {server} and its key away to have one made with them"
        )?;
    }
    output::print(&out)?;
    Ok(ExitCode::SUCCESS)
}
