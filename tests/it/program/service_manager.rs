//! What a service manager hears of `gateway serve` (sd_notify(3), rows F1 and F17).

use std::os::unix::net::UnixDatagram;

use nix::time::{ClockId, clock_gettime};

use super::restart::{Serve, home};
use super::*;

/// The manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(place: &Place) -> (Self, String) {
        let path = place.0.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (Self(socket), path.display().to_string())
    }

    /// The lines of the next datagram.
    fn hears(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let len = tokio::task::block_in_place(|| self.0.recv(&mut buffer)).expect("it is told in time");
        String::from_utf8(buffer[..len].to_vec()).unwrap().lines().map(str::to_owned).collect()
    }
}

fn monotonic_micros() -> u128 {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_micros()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_f17_a_service_manager_is_told_of_the_start_reloads_and_the_end() {
    let (place, _login, _chat, config) = home();
    let (manager, socket) = Manager::listen(&place);
    let overrides =
        [("NOTIFY_SOCKET", &*socket), ("GATEWAY__DRAIN__WINDOW", "0s"), ("GATEWAY__DRAIN__HARD_STOP", "70s")];
    let serve = Serve::start(&place, &config, 1, &overrides).await;
    assert_eq!(manager.hears(), ["READY=1", "STATUS=serving"]);

    for (edited, status) in
        [(false, "STATUS=serving"), (true, "STATUS=serving; the last reload was refused: ")]
    {
        if edited {
            fs::write(place.0.join("route.json"), "{").unwrap();
        }
        let asked = monotonic_micros();
        serve.signal(Signal::SIGHUP);
        let reloading = manager.hears();
        assert_eq!(reloading[0], "RELOADING=1");
        let since: u128 = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((asked..=monotonic_micros()).contains(&since), "{asked} {since}");
        let reloaded = manager.hears();
        assert_eq!(reloaded[0], "READY=1");
        assert!(reloaded[1].starts_with(status) && (edited || reloaded[1] == status), "{reloaded:?}");
    }

    serve.signal(Signal::SIGTERM);
    assert_eq!(manager.hears(), ["STOPPING=1", "EXTEND_TIMEOUT_USEC=80000000", "STATUS=draining"]);
    assert_eq!(serve.end().await, Some(0));
}

/// Of the environment of whoever started it by hand, for instance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_manager_that_is_not_there_is_no_reason_not_to_serve() {
    let (place, _login, _chat, config) = home();
    let nowhere = place.0.join("nobody.sock").display().to_string();
    let serve =
        Serve::start(&place, &config, 1, &[("NOTIFY_SOCKET", &nowhere), ("GATEWAY__DRAIN__WINDOW", "0s")])
            .await;
    serve.signal(Signal::SIGTERM);
    assert_eq!(serve.end().await, Some(0));
}
