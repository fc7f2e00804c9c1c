//! `chat` without a transport named, and `bench talk` over all of them.

use std::net::UdpSocket;

use super::*;

/// The commands on the page of `gateway dev`, as they stand there.
#[test]
fn the_commands_of_the_start_page_work_on_any_port() {
    let place = Place::new();
    let dev = Dev::start(&place);
    let line = dev.page.lines().find(|line| line.starts_with("in a second terminal:")).unwrap();
    let command = line.split_once(" chat ").unwrap().1;
    assert!(command.contains("--tls-port") && !command.contains("--transport"), "{line}");
    let mut arguments = vec!["chat"];
    arguments.extend(command.split_whitespace());
    let (code, stdout, stderr) = place.run(&arguments, "alice a note to myself\n");
    assert_eq!(code, 0, "{stdout} {stderr}");
    assert!(stdout.contains("transport=quic"), "{stdout} {stderr}");
}

#[test]
fn c22_a_chat_finds_a_way_where_udp_is_blocked_and_says_which() {
    let place = Place::new();
    let dev = Dev::start(&place);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = silent.local_addr().unwrap().to_string();
    let tls = dev.address("tls");
    let port = tls.rsplit(':').next().unwrap();
    let chat = ["chat", "--account", "alice", "--server", &server, "--tls-port", port];
    let (code, stdout, stderr) = place.run(&chat, "alice a note to myself\n");
    assert_eq!(code, 0, "{stdout} {stderr}");
    assert!(stdout.contains(&format!("transport=tls server={tls}")), "{stdout}");

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let nobody = ["chat", "--account", "alice", "--server", &server, "--tls-port", &closed];
    let (code, _, stderr) = place.run(&nobody, "");
    assert_eq!(code, 3, "{stderr}");
    for part in
        ["quic: no answer in time", "; tls: cannot connect to", "; tcp: cannot connect to", "--tls-port"]
    {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let (code, _, stderr) = place.run(&["chat", "--account", "alice", "--transport", "udp"], "");
    assert_eq!(code, 64, "{stderr}");
    assert!(stderr.contains("is none of \"auto\", \"quic\""), "{stderr}");
}

/// The scripted gateway of these tests has neither QUIC nor TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c22_a_chat_takes_plain_tcp_on_this_machine_in_so_many_words() {
    let place = Place::new();
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    let config = serve_config(&place, login.address, chat.address);
    let mut child = place.gateway(&["serve", "--config", &config]).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let _gateway = Dev { child: Some(child), _stdout: stdout, page: String::new() };
    let tcp = started(&mut log).to_string();
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    fs::write(place.0.join("ca.pem"), pem(&identity::CERTIFICATES.ca)).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let ran = tokio::task::spawn_blocking(move || {
        let chat = ["chat", "--account", "bob", "--server", &tcp, "--tls-port", &closed, "--ca", "ca.pem"];
        place.run(&[&chat[..], &["--secret-file", "jwt.secret"]].concat(), "")
    });
    let (_, stdout, stderr) = ran.await.unwrap();
    assert!(stdout.contains("online account=bob") && stdout.contains("transport=tcp"), "{stdout} {stderr}");
    assert!(stderr.contains("Connected over tcp, and the token travels in clear"), "{stderr}");
    assert_eq!(login.packets("login.signin").len(), 1);
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[test]
fn a_bench_uses_every_transport_and_has_a_row_for_each() {
    let place = Place::new();
    let dev = Dev::start(&place);
    let (server, tls) = (dev.address("quic"), dev.address("tls"));
    let port = tls.rsplit(':').next().unwrap();
    let load = ["bench", "talk", "--clients", "6", "--rate", "5", "--seconds", "1", "--server", &server];
    let (code, stdout, stderr) = place.run(&[&load[..], &["--tls-port", port]].concat(), "");
    assert_eq!(code, 0, "{stdout} {stderr}");
    assert!(stdout.contains("2 over QUIC, 2 over TCP, 2 over TLS"), "{stdout}");
    for over in ["quic", "tcp", "tls"] {
        let row = stdout.lines().find(|line| line.starts_with(&format!("over {over} "))).unwrap();
        assert!(row.contains("sent 10, answered 0 10") && row.contains("missing 0"), "{stdout}");
    }
    // Where there is no TLS, nobody asked for it.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let (code, stdout, stderr) = place.run(&[&load[..], &["--tls-port", &closed]].concat(), "");
    assert_eq!(code, 0, "{stdout} {stderr}");
    assert!(stdout.contains("3 over QUIC, 3 over TCP,"), "{stdout}");
}
