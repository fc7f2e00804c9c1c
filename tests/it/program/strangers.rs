//! A process that strangers fill: its memory, its files, its monitor (rows H11, H21).

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use super::memory_group::MemoryGroup;
use super::pressure::status;
use super::restart::{Serve, home, sign_in};
use super::*;

/// A connection that is on its way and says nothing; from one of many addresses, so that ports do not run out.
fn silent(to: SocketAddr, number: usize) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.set_nonblocking(true).unwrap();
    socket.set_reuse_address(true).unwrap();
    let from = Ipv4Addr::new(127, 9, (number / 200 % 200) as u8, (number % 200 + 1) as u8);
    socket.bind(&SocketAddr::from((from, 0)).into()).ok()?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => None,
        _ => Some(socket),
    }
}

/// How long `/health` took to say 200.
fn health(monitor: SocketAddr) -> io::Result<Duration> {
    let asked = Instant::now();
    let mut stream = TcpStream::connect(monitor)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: gateway\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(asked.elapsed())
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h11_thousands_of_idle_strangers_in_a_small_memory_group_cost_nobody_signed_in_anything() {
    const LIMIT: u64 = 96 << 20;
    const SIGNED_IN: usize = 20;
    const PER_SECOND: usize = 2_000;
    const FOR: Duration = Duration::from_secs(7);
    let group = match MemoryGroup::of(LIMIT) {
        Ok(group) => group,
        Err(why) => return println!("skipped: no memory group can be made here ({why})"),
    };
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let count = PER_SECOND * FOR.as_secs() as usize;
    if most < count as u64 + 2_000 {
        return println!("skipped: only {most} files may be open");
    }
    let (place, login, _chat, config) = home();
    let mut serve = Serve::run(group.confine(&place.gateway(&["serve", "--config", &config])), 1, &[]).await;
    let target = serve.target();
    let mut members = Vec::new();
    for n in 0..SIGNED_IN {
        let kind = Kind::ALL[n % Kind::ALL.len()];
        members.push(sign_in(kind, &target, &format!("user{n}"), &login).await.0);
    }

    let flood = std::thread::spawn(move || {
        let (begun, mut held) = (Instant::now(), Vec::with_capacity(count));
        let mut tried = 0;
        while tried < count {
            let due = ((begun.elapsed().as_secs_f64() * PER_SECOND as f64) as usize).min(count);
            for number in tried..due {
                held.extend(silent(target.tcp, number));
            }
            tried = due;
            std::thread::sleep(Duration::from_millis(1));
        }
        held
    });
    let (mut newcomers, mut got_in, mut peak) = (0, 0, 0);
    while !flood.is_finished() {
        newcomers += 1;
        let arriving = async {
            let options = gateway_client::ConnectOptions::tcp(target.tcp.to_string());
            let (client, _pushes) = gateway_client::Client::connect(options).await.ok()?;
            client.login(&identity::token(&format!("newcomer{newcomers}"))).await.ok()?;
            client.close().await;
            Some(())
        };
        got_in += usize::from(arriving.await.is_some());
        peak = peak.max(status(&serve, "VmRSS"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let held = flood.join().unwrap();
    println!(
        "{} idle connections were made; {got_in} of {newcomers} newcomers got in; {peak} kB resident at most, of {} kB",
        held.len(),
        LIMIT >> 10
    );
    assert_eq!(group.oom_kills(), 0);
    assert!(got_in * 100 >= newcomers * 99, "newcomers are kept out");
    for member in &mut members {
        let sequence = member.request("chat.user.list", "somebody", b"anything").await;
        assert_eq!(member.response(sequence).await.header.status, 0);
    }
    let line = serve.line("event=\"overload\"").await;
    assert!(line.contains("have not signed in"), "{line}");
    let levels =
        std::iter::from_fn(|| serve.log.try_recv().ok()).filter(|line| line.contains("overload_level"));
    assert_eq!(levels.collect::<Vec<_>>(), [""; 0], "nobody else is refused for it");
    assert!(
        login.packets("login.signout").iter().all(|signout| signout.meta("account").starts_with("newcomer"))
    );
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h21_with_80_files_and_more_clients_than_that_health_answers_within_a_second() {
    let (place, _login, _chat, config) = home();
    let plain = place.gateway(&["serve", "--config", &config]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 80 && exec \"$@\"", "sh"]).arg(plain.get_program()).args(plain.get_args());
    command.current_dir(&place.0).env_remove("RUST_LOG");
    let serve = Serve::run(command, 1, &[]).await;
    let clients: Vec<_> = (0..200).filter_map(|n| silent(serve.target().tcp, n)).collect();
    let visitors: Vec<_> = (0..128).filter_map(|n| silent(serve.monitor, n)).collect();
    assert_eq!((clients.len(), visitors.len()), (200, 128));
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let monitor = serve.monitor;
        let took = tokio::task::spawn_blocking(move || health(monitor)).await.unwrap().unwrap();
        slowest = slowest.max(took);
    }
    println!("the slowest health check took {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

/// The number of files a process has open.
#[cfg(target_os = "linux")]
fn open_files(process: u32) -> u64 {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count() as u64
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h21_d5_a_process_without_files_says_so_once_in_ten_seconds_and_health_answers() {
    let (place, login, _chat, config) = home();
    let mut serve = Serve::start(&place, &config, 1, &[]).await;
    let target = serve.target();
    health(serve.monitor).unwrap();
    let process = serve.child.id();
    let limit = |files: u64| {
        // The soft one alone, which can be raised again.
        let limit = format!("--nofile={files}:");
        let done = Command::new("prlimit").args(["--pid", &process.to_string(), &limit]).status();
        done.is_ok_and(|status| status.success())
    };
    if !limit(open_files(process)) {
        return println!("skipped: prlimit is not here");
    }
    let begun = Instant::now();
    let waiting: Vec<_> = (0..10).filter_map(|n| silent(target.tcp, n)).collect();
    let first = serve.line("event=\"accept_failed\"").await;
    assert!(first.contains("open-file limit"), "{first}");
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < Duration::from_secs(4) {
        let monitor = serve.monitor;
        let took = tokio::task::spawn_blocking(move || health(monitor)).await.unwrap().unwrap();
        slowest = slowest.max(took);
        // One that leaves makes room for a moment, and the next fails again: no line for each.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let again =
        std::iter::from_fn(|| serve.log.try_recv().ok()).filter(|line| line.contains("accept_failed"));
    assert_eq!(again.collect::<Vec<_>>(), [""; 0], "once in ten seconds");
    assert!(limit(1_000));
    drop(waiting);
    sign_in(Kind::Tcp, &target, "alice", &login).await;
}
