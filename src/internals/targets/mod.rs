//! What is fuzzed: one function for each input that somebody else writes, which panics when a property does not hold.
//!
//! `fuzz/` feeds them with what libFuzzer thinks of. The tests below feed them with what is kept in `fuzz/corpus`, on stable
//! Rust; whatever was found is kept there.

pub mod config;
pub mod consul;
pub mod dialect;
pub mod frame;
pub mod header;
mod input;
pub mod packet;
pub mod proxy_header;
pub mod request;
pub mod rewrite;
pub mod route;
pub mod token;
pub mod upgrade;
pub mod websocket;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use rstest::rstest;

    use super::*;

    fn fuzz() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    /// The names in a directory, sorted, without what stands behind a dot.
    fn stems(directory: &Path) -> Vec<String> {
        let entries =
            fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut stems: Vec<_> = entries.map(|entry| stem(entry.unwrap().path())).collect();
        stems.sort();
        stems
    }

    /// Those that were named by a person, in their order: what a fuzzer found here has no extension, and is not checked in.
    fn corpus(name: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(fuzz().join("corpus").join(name)).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some());
        files.sort();
        files
    }

    #[rstest]
    #[case::config("config", config::target)]
    #[case::consul("consul", consul::target)]
    #[case::dialect("dialect", dialect::target)]
    #[case::frame("frame", frame::target)]
    #[case::header("header", header::target)]
    #[case::packet("packet", packet::target)]
    #[case::proxy_header("proxy_header", proxy_header::target)]
    #[case::request("request", request::target)]
    #[case::rewrite("rewrite", rewrite::target)]
    #[case::route("route", route::target)]
    #[case::token("token", token::target)]
    #[case::upgrade("upgrade", upgrade::target)]
    #[case::websocket("websocket", websocket::target)]
    fn the_corpus_holds(#[case] name: &str, #[case] target: fn(&[u8])) {
        let files = corpus(name);
        assert!(!files.is_empty());
        for file in files {
            // Shown only where one fails.
            println!("{}", file.display());
            target(&fs::read(file).unwrap());
        }
        target(b"");
    }

    #[test]
    fn every_target_has_a_module_a_program_and_a_corpus() {
        let targets = stems(&fuzz().join("corpus"));
        let mut modules = stems(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/internals/targets"));
        modules.retain(|module| !matches!(module.as_str(), "mod" | "input"));
        assert_eq!((&modules, &stems(&fuzz().join("fuzz_targets"))), (&targets, &targets));
        let manifest: toml::Table = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap().parse().unwrap();
        let programs = manifest["bin"].as_array().unwrap().iter();
        let mut programs: Vec<_> = programs.map(|program| program["name"].as_str().unwrap()).collect();
        programs.sort_unstable();
        assert_eq!(programs, targets);
    }
}
