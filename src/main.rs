//! The `gateway` program: see `gateway --help`.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

/// Small objects come and go with every packet.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An instant-messaging access gateway
#[derive(Debug, clap::Parser)]
#[command(name = "gateway", version = VERSION)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("GATEWAY_COMMIT"), ")");

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve clients with a configuration file
    Serve(cli::serve::ServeArgs),
    /// Try it out: gateway, login and chat services in one process, nothing to install
    Dev(cli::dev::DevArgs),
    /// Login and chat services in a process of their own, for gateways to try things out with
    Logic(cli::logic::LogicArgs),
    /// Talk through a gateway
    Chat(Box<cli::chat::ChatArgs>),
    /// Make a token for trying things out
    Token(cli::token::TokenArgs),
    /// Make CA, server certificate, JWT secret and QUIC keys
    Certs(cli::certs::CertsArgs),
    /// Check a configuration or a route file, and show what is in effect
    Check(cli::check::CheckArgs),
    /// Ask a running gateway whether it is well
    Health(cli::health::HealthArgs),
    /// Ask a running gateway for something over its admin socket
    #[command(subcommand)]
    Ctl(cli::ctl::CtlCommand),
    /// A running gateway at a glance, again every second
    Top(cli::ctl::args::CtlArgs),
    /// Say where accounts go, and why
    #[command(subcommand)]
    Route(cli::route::RouteCommand),
    /// Measure this gateway beside floors and peers, or one that runs
    Bench(cli::bench::BenchArgs),
}

/// Exit code for arguments that make no sense, as for a configuration that is refused: `EX_USAGE`. clap's own 2 would
/// say "login refused" to a script that runs `chat`.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Args::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
            cli::output::within_patience(move || {
                let _nobody_reads = error.print();
            });
            return code;
        }
    };
    let outcome = match arguments.command {
        Command::Serve(args) => cli::serve::run(&args),
        Command::Dev(args) => cli::dev::run(&args),
        Command::Logic(args) => cli::logic::run(&args),
        Command::Chat(args) => cli::chat::run(*args),
        Command::Token(args) => cli::token::run(&args),
        Command::Certs(args) => cli::certs::run(&args),
        Command::Check(args) => cli::check::run(&args),
        Command::Health(args) => cli::health::run(&args),
        Command::Ctl(command) => cli::ctl::run(&command),
        Command::Top(args) => cli::top::run(&args),
        Command::Route(command) => cli::route::run(&command),
        Command::Bench(args) => cli::bench::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            cli::output::complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The lines of commands in README.md and in docs/, without comments and what the shell does with them.
    fn shown_commands() -> Vec<(String, Vec<String>)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let papers = docs.chain([root.join("README.md"), root.join("README.zh-CN.md")]);
        let mut shown = Vec::new();
        for path in papers.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
            let text = std::fs::read_to_string(&path).unwrap().replace("\\\n", " ");
            let blocks = text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
            for line in blocks.flat_map(str::lines) {
                let line = line.split(" #").next().unwrap();
                for command in line.split(['|', ';', '(', ')']) {
                    let command = command.trim().trim_start_matches("docker compose exec gateway ");
                    let arguments = command
                        .strip_prefix("gateway ")
                        .or_else(|| command.strip_prefix("cargo run --release -- "));
                    if let Some(arguments) = arguments {
                        let words = arguments.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
                        shown.push((path.display().to_string(), words.map(str::to_owned).collect()));
                    }
                }
            }
        }
        shown
    }

    #[test]
    fn every_command_that_the_papers_show_is_understood() {
        let shown = shown_commands();
        assert!(shown.len() > 15, "{shown:?}");
        for (path, words) in shown {
            let parsed = Args::try_parse_from(std::iter::once("gateway".to_owned()).chain(words.clone()));
            assert!(parsed.is_ok(), "{path}: {words:?}: {}", parsed.unwrap_err());
        }
        assert!(Args::try_parse_from(["gateway", "dev", "--prot", "9000"]).is_err());
    }
}
