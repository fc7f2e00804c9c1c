//! A gateway whose log is on a disk that is full (row F8).

use std::path::Path;

use super::unread::{dropped_lines, until};
use super::*;

/// Mounts a small disk of this process alone, and logs to it.
const DISK: &str = "mount -t tmpfs -o size=64k tmpfs \"$0\" && exec \"$@\" 2>>\"$0/log\"";

/// A command that runs another one with a disk of its own in this directory; none where that is not permitted.
fn on_a_disk(disk: &Path, command: &Command) -> Option<Command> {
    let unshare = |program: &[&std::ffi::OsStr]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", DISK]).arg(disk).args(program);
        unshare.env_remove("RUST_LOG").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        unshare
    };
    let permitted = unshare(&["true".as_ref()]).output();
    if !permitted.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    Some(unshare(&words))
}

#[test]
fn f8_a_full_disk_costs_lines_and_nothing_else_and_the_log_goes_on_when_there_is_room() {
    let place = Place::new();
    let disk = place.0.join("disk");
    fs::create_dir(&disk).unwrap();
    let Some(mut command) = on_a_disk(&disk, &place.gateway(&["dev", "--port", "0"])) else {
        println!("skipped: no mounts of a test's own here");
        return;
    };
    command.current_dir(&place.0).env("RUST_LOG", "trace");
    let dev = Dev::run(command);
    let (quic, monitor) = (dev.address("quic"), dev.address("monitor").parse().unwrap());
    let talk = || {
        let chat = ["chat", "--account", "alice", "--server", &quic, "--to", "alice", "--expect", "1"];
        let talked = place.run(&chat, "to myself\n");
        assert_eq!(talked.0, 0, "{talked:?}");
    };
    until(|| {
        talk();
        dropped_lines(monitor) >= 1000
    });

    // As the program sees it: nobody else has this disk.
    let log =
        Path::new("/proc").join(dev.id().to_string()).join("root").join(disk.strip_prefix("/").unwrap());
    let log = log.join("log");
    fs::OpenOptions::new().write(true).truncate(true).open(&log).unwrap();
    talk();
    until(|| fs::read_to_string(&log).unwrap().contains("event=\"log_dropped\""));
    assert_eq!(dev.end(), 0);
}
