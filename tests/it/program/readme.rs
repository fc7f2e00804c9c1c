//! The commands of the README, as they stand there.

use super::*;

/// What the README calls the program.
const PROGRAM: &str = "cargo run --release -- ";

/// Started first; the others run beside it.
const DEV: &str = "cargo run --release -- dev";

/// Runs these very tests.
const NOT_RUN: &[&str] = &["cargo test"];

/// The lines of the blocks of commands, without comments.
fn lines(readme: &str) -> Vec<&str> {
    let blocks = readme.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let lines = blocks.flat_map(str::lines).map(|line| line.split(" #").next().unwrap().trim());
    lines.filter(|line| !line.is_empty()).collect()
}

/// Runs one line by the shell, with nothing more to read on its standard input.
fn run(place: &Place, line: &str) -> (i32, String, String) {
    let mut command = Command::new("sh");
    let line = line.replace(PROGRAM, "\"$GATEWAY\" ");
    command.args(["-c", &line]).current_dir(&place.0).env("GATEWAY", env!("CARGO_BIN_EXE_gateway"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("RUST_LOG");
    let output = finish(command.spawn().unwrap());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_command_of_the_readme_works() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let lines = lines(&readme);
    assert!(lines.contains(&DEV), "{lines:?}");

    let place = Place::new();
    fs::create_dir(place.0.join("config")).unwrap();
    for file in ["config/gateway.toml", "config/route.json"] {
        fs::copy(root.join(file), place.0.join(file)).unwrap();
    }
    // On free ports: those of the README may be taken, so chats are told where it is.
    let dev = Dev::start(&place);
    let (server, tcp, tls) = (dev.address("quic"), dev.address("tcp"), dev.address("tls"));
    let tls_port = tls.rsplit(':').next().unwrap();
    let mut seen = String::new();
    for line in lines.iter().filter(|line| **line != DEV && !NOT_RUN.contains(line)) {
        assert!(line.contains(PROGRAM), "`{line}`: run it here, or say in NOT_RUN why not");
        let mut line = (*line).to_owned();
        if line.contains(" chat ") {
            let server = if line.contains("--transport tcp") { &tcp } else { &server };
            line += &format!(" --server {server} --tls-port {tls_port}");
        }
        let (code, output, errors) = run(&place, &line);
        assert_eq!(code, 0, "{line}\n{output}{errors}");
        assert!(!output.is_empty(), "{line} says nothing");
        seen += &output;
    }
    assert_eq!(dev.end(), 0);
    for shown in ["online account=alice", "online account=bob", "stored to=bob", "chat02"] {
        assert!(seen.contains(shown), "no {shown} in:\n{seen}");
    }
}
