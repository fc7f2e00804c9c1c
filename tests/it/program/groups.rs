//! The chat's commands about groups, piped in, against `gateway dev`.

use super::*;

/// A chat whose events are read while it runs.
struct Listening {
    child: Option<Child>,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Listening {
    /// Starts it and waits until it is online.
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut child = place.gateway(arguments).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut listening = Self { child: Some(child), lines, seen: Vec::new() };
        listening.event("online");
        listening
    }

    /// The event that begins like this, seen already or still to come.
    fn event(&mut self, start: &str) -> String {
        loop {
            if let Some(at) = self.seen.iter().position(|line| line.starts_with(start)) {
                return self.seen.remove(at);
            }
            let line = self.lines.recv_timeout(PATIENCE);
            self.seen.push(line.unwrap_or_else(|_| panic!("no {start} in {:?}", self.seen)));
        }
    }

    /// Ends its input and awaits its end; the exit code.
    fn end(&mut self) -> i32 {
        let mut child = self.child.take().unwrap();
        drop(child.stdin.take());
        finish(child).status.code().unwrap()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

/// The value of ` key=` in a line.
#[track_caller]
fn value<'a>(line: &'a str, key: &str) -> &'a str {
    let value = line.split_once(&format!(" {key}=")).unwrap_or_else(|| panic!("no {key} in {line}")).1;
    value.split(' ').next().unwrap()
}

#[track_caller]
fn line<'a>(output: &'a str, start: &str) -> &'a str {
    let found = output.lines().find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no {start} in:\n{output}"))
}

#[test]
fn groups_are_made_joined_left_and_talked_to_by_lines_of_input() {
    let place = Place::new();
    let dev = Dev::start(&place);
    let (quic, tcp) = (dev.address("quic"), dev.address("tcp"));
    let chat = |account: &str, more: &[&str], input: &str| {
        place.run(&[&["chat", "--account", account, "--server", &quic], more].concat(), input)
    };
    let bob = ["chat", "--account", "bob", "--transport", "tcp", "--server", &tcp, "--expect", "2"];
    let mut bob = Listening::start(&place, &bob);

    let input = "/create fun bob,carol\n#fun hello\n/members fun\n/groups\n";
    let (code, out, err) = chat("alice", &[], input);
    assert_eq!(code, 0, "{out}{err}");
    let made = line(&out, "group id=");
    assert!(made.ends_with(" name=fun owner=alice members=alice,bob,carol"), "{out}");
    let id = value(made, "id");
    let stored = value(line(&out, &format!("stored group={id} id=")), "id");
    assert_eq!(line(&out, "members"), format!("members group={id} count=3 accounts=alice,bob,carol"));
    assert!(out.lines().any(|line| line == format!("group id={id} name=fun")), "{out}");
    assert_eq!(line(&out, "done"), "done sent=1 stored=1 received=0");

    // Bob is there, and learns the name; carol finds it when she comes. Both have the id alice was told.
    assert_eq!(bob.event("group id="), made);
    let heard = bob.event("message");
    assert!(heard.starts_with(&format!("message from=alice group={id} id={stored} time=")), "{heard}");
    assert!(heard.ends_with("via=push text=hello"), "{heard}");
    let (code, out, err) = chat("carol", &["--expect", "1"], "");
    assert_eq!(code, 0, "{out}{err}");
    let missed = line(&out, "message");
    assert!(missed.starts_with(&format!("message from=alice group={id} id={stored} time=")), "{missed}");
    assert!(missed.ends_with("via=offline text=hello"), "{missed}");

    // Dave has to join first.
    let (code, out, err) = chat("dave", &[], &format!("#{id} let me in\n"));
    assert_eq!(code, 1, "{out}{err}");
    let failed = line(&out, "failed");
    assert!(failed.starts_with(&format!("failed group={id} status=100 reason=\"you are not in")), "{out}");
    assert!(failed.ends_with("text=let me in"), "{failed}");
    assert!(err.contains("was not shown here"), "{err}");
    let input = format!("/join {id}\n#fun hi all\n/quit #fun\n/detail fun\n");
    let (code, out, err) = chat("dave", &[], &input);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(line(&out, "joined"), format!("joined group={id} account=dave name=fun"));
    assert_eq!(line(&out, "quit"), format!("quit group={id} account=dave"));
    assert_eq!(line(&out, "group id="), made, "who is left");
    assert_eq!(bob.event("joined"), format!("joined group={id} account=dave"));
    assert!(bob.event("message from=dave").ends_with("via=push text=hi all"));
    assert_eq!(bob.event("quit"), format!("quit group={id} account=dave"));

    assert_eq!(bob.end(), 0);
    assert_eq!(bob.event("done"), "done sent=0 stored=0 received=2");
}

#[test]
fn group_commands_that_cannot_be_say_so_and_end_with_1() {
    let place = Place::new();
    let dev = Dev::start(&place);
    let quic = dev.address("quic");
    let chat = |more: &[&str], input: &str| {
        place.run(&[&["chat", "--account", "alice", "--server", &quic], more].concat(), input)
    };
    for (input, says) in [
        ("/join\n", "write `/join GROUP`"),
        ("/dance\n", "there is no /dance"),
        ("#fun\n", "write `#GROUP text`"),
        ("/create fun bob\n/create fun carol\n#fun hello\n", "several groups named fun"),
    ] {
        let (code, out, err) = chat(&[], input);
        assert_eq!(code, 1, "{input}: {out}{err}");
        assert!(err.contains(says), "{input}: {err}");
        assert!(line(&out, "done").starts_with("done sent=0"), "{out}");
    }
    let (code, out, err) = chat(&[], "/members nothing\n");
    assert_eq!(code, 1, "{err}");
    let failed = "failed command=/members group=nothing status=100 reason=\"there is no such group\"";
    assert_eq!(line(&out, "failed"), failed);

    let (code, _, err) = chat(&[], "/help\n");
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("/create NAME a,b") && err.contains("#GROUP text"), "{err}");
    // With --to a line is a message, whatever it looks like.
    let (code, out, err) = chat(&["--to", "bob"], "/join fun\n");
    assert_eq!(code, 0, "{err}");
    assert!(line(&out, "stored to=bob").ends_with("text=/join fun"), "{out}");
}
