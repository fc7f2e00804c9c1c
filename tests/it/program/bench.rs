//! `gateway bench SCENARIO`: that it measures and says what it found, however short the time.

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
