//! `gateway health` asks the gateway of the configuration.

use super::*;

/// A monitor that gives this answer to everybody, and says what it was asked for.
pub(super) fn monitor(status: &'static str) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, pages) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            while lines.read_line(&mut head).is_ok_and(|length| length > 2) {}
            let page = head.split(' ').nth(1).unwrap().to_owned();
            let _nobody = asked.send(page);
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nbody").unwrap();
        }
    });
    (address, pages)
}

#[test]
fn health_follows_the_configuration_and_the_environment() {
    let place = Place::new();
    let (address, pages) = monitor("200 OK");
    let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let write = |name: &str, listen: &str| {
        fs::write(
            place.0.join(name),
            format!("[gateway]\nid = \"gate01\"\n[monitor]\nlisten = \"{listen}\"\n"),
        )
        .unwrap();
    };
    let ask = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = place.gateway(&[&["health"], arguments].concat());
        let output = finish(command.envs(environment.iter().copied()).spawn().unwrap());
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    write("here.toml", &address.to_string());
    write("elsewhere.toml", &other.to_string());
    write("everywhere.toml", &format!("0.0.0.0:{}", address.port()));
    write("nowhere.toml", "");
    write("any.toml", "127.0.0.1:0");
    let listen = address.to_string();

    assert_eq!(ask(&["--config", "here.toml"], &[]).0, 0);
    assert_eq!(pages.recv_timeout(PATIENCE).unwrap(), "/health");
    assert_eq!(ask(&["--config", "everywhere.toml", "--ready"], &[]).0, 0);
    assert_eq!(pages.recv_timeout(PATIENCE).unwrap(), "/ready");
    assert_eq!(ask(&[], &[("GATEWAY_CONFIG", "here.toml")]).0, 0, "as in a container");
    let overriding = [("GATEWAY__MONITOR__LISTEN", listen.as_str())];
    assert_eq!(ask(&["--config", "elsewhere.toml"], &overriding).0, 0);
    assert_eq!(ask(&[], &overriding).0, 0, "without a file");
    let (code, says) = ask(&["--config", "elsewhere.toml"], &[]);
    assert_eq!(code, 1);
    assert!(says.contains(&other.to_string()), "{says}");
    for (file, reason) in [
        ("nowhere.toml", "monitor.listen is not set"),
        ("any.toml", "monitor.listen has port 0"),
        ("none.toml", "none.toml"),
    ] {
        let (code, says) = ask(&["--config", file], &[]);
        assert_eq!(code, 64, "{says}");
        assert!(says.contains(reason), "{says}");
    }
}
