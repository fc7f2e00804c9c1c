//! The program on a machine whose clock is wrong (row H19). A library that is loaded before the system's says what time
//! it is; a C compiler makes it, which the build of the gateway needs anyway.

use super::restart::{Serve, home, sign_in};
use super::*;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *t) {
    int outcome = syscall(SYS_clock_gettime, id, t);
    if (id == CLOCK_REALTIME) { t->tv_sec = atoll(getenv("CLOCK_AT")); t->tv_nsec = 0; }
    return outcome;
}
"#;

/// 2020-01-01, in the seconds of such a clock.
const EPOCH: u64 = 1_577_836_800;

/// Milliseconds by which the number of a channel may be ahead of its gateway's start.
const AHEAD: u64 = 1024;

fn library(place: &Place) -> String {
    fs::write(place.0.join("clock.c"), SOURCE).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", "clock.so", "clock.c"])
        .current_dir(&place.0)
        .status();
    assert!(made.expect("a C compiler").success());
    place.0.join("clock.so").to_str().unwrap().to_owned()
}

#[test]
fn h19_whatever_begins_with_the_time_refuses_a_clock_that_was_never_set() {
    let place = Place::new();
    let library = library(&place);
    let login = SocketAddr::from(([127, 0, 0, 1], 1));
    let config = serve_config(&place, login, SocketAddr::from(([127, 0, 0, 1], 2)));
    for arguments in [
        &["serve", "--config", &config][..],
        &["check", "--config", &config],
        &["dev", "--port", "0"],
        &["certs"],
        &["token", "--account", "alice", "--secret-file", "jwt.secret"],
    ] {
        for (at, shown) in [("0", "1970-01-01T00:00:00Z"), ("1577836799", "2019-12-31T23:59:59Z")] {
            let mut command = place.gateway(arguments);
            let child = command.env("LD_PRELOAD", &library).env("CLOCK_AT", at).spawn().unwrap();
            let output = finish(child);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
            assert!(stderr.contains(&format!("the clock of this machine says {shown}; set it")), "{stderr}");
            assert!(output.stdout.is_empty(), "{arguments:?}");
        }
    }
    assert!(!place.0.join("certs").exists(), "nothing was made");
}

/// The number at the end of the id that a new gateway gives its first client, by a clock that stands still.
async fn first_number(place: &Place, config: &str, login: &FakeLogic, at: u64, more: &[(&str, &str)]) -> u64 {
    let library = place.0.join("clock.so");
    let at = at.to_string();
    let mut overrides = vec![("LD_PRELOAD", library.to_str().unwrap()), ("CLOCK_AT", &at)];
    overrides.extend(more);
    let serve = Serve::start(place, config, 1, &overrides).await;
    let (_client, channel) = sign_in(Kind::Tcp, &serve.target(), "alice", login).await;
    channel.rsplit('_').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h19_channel_ids_do_not_come_again_when_the_clock_is_set_back_across_a_restart() {
    let (place, login, _chat, config) = home();
    library(&place);
    let now = identity::now();
    let starts_at =
        |number: u64, at: u64| ((at - EPOCH) * 1000..=(at - EPOCH) * 1000 + AHEAD).contains(&(number >> 20));
    let first = first_number(&place, &config, &login, now, &[]).await;
    let again = first_number(&place, &config, &login, now, &[]).await;
    assert_ne!(first, again, "one in 2^30");
    assert!(starts_at(first, now) && starts_at(again, now), "{first} {again}");

    let state = [("GATEWAY__GATEWAY__STATE_FILE", "gateway.state")];
    let mut last = 0;
    for at in [now, now, now - 1, now - 86_400] {
        let number = first_number(&place, &config, &login, at, &state).await;
        assert!(number > last, "at {at}: {number} after {last}");
        last = number;
    }
    let later = first_number(&place, &config, &login, now + 3000, &state).await;
    assert!(later > last && starts_at(later, now + 3000), "the clock leads again: {later}");
}
