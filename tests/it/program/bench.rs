//! `gateway bench SCENARIO`: that it measures and says what it found, however short the time.

use std::path::Path;
use std::thread;
use std::time::Instant;

use super::*;

#[test]
fn a_scenario_is_measured_beside_its_floor_and_shown_as_a_table() {
    let place = Place::new();
    let mut bench = place.gateway(&["bench", "b1", "--rounds", "1", "--seconds", "0.2"]);
    let output = bench.stdin(Stdio::null()).output().unwrap();
    let (table, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{table}{errors}");
    for row in
        ["B1  TCP echo", "  TCP, 64 clients ", "  TCP, 1000 clients ", "    gateway ", "    epoll echo "]
    {
        assert!(table.lines().any(|line| line.starts_with(row)), "{row:?} is not in\n{table}");
    }
    let verdict = "    CPU, gateway / epoll echo: target ≤ 1.45 ×, measured ";
    assert_eq!(table.lines().filter(|line| line.starts_with(verdict)).count(), 2, "{table}");
}

#[test]
fn a_scenario_that_is_none_is_refused_with_those_there_are() {
    let output = Place::new().gateway(&["bench", "b99"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{errors}");
    assert!(errors.contains("b1 ") && errors.contains("TCP echo"), "{errors}");
}

#[test]
fn what_a_run_started_ends_with_it_however_it_ends() {
    for how in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL] {
        let place = Place::new();
        let mut bench = place.gateway(&["bench", "b1", "--rounds", "1", "--seconds", "60"]);
        let mut run = bench.env("TMPDIR", &place.0).stdin(Stdio::null()).spawn().unwrap();
        await_that("the gateway of the run starts", || serves_in(&place.0));
        kill(Pid::from_raw(run.id().cast_signed()), how).unwrap();
        let status = run.wait().unwrap();
        await_that("it ends", || !serves_in(&place.0));
        if how == Signal::SIGKILL {
            continue;
        }
        assert_eq!(status.code(), Some(1), "{how}");
        let left: Vec<_> = fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{how} left {left:?}");
    }
}

/// Whether `gateway serve` runs in a directory below this one.
fn serves_in(place: &Path) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let serves = fs::read(process.path().join("cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"serve"));
        serves && fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(place))
    })
}

fn await_that(what: &str, is_so: impl Fn() -> bool) {
    let by = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < by, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
