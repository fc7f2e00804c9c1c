//! A session that lasts, against a scripted gateway.

use super::*;
use crate::resilient::*;
use crate::{Backoff, GO_AWAY_TAG, NotSent};
use bytes::BufMut as _;
use gateway_wire::packet::BASIC_GO_AWAY;
use rstest::rstest;
use std::sync::Mutex;

/// Pauses that tests need not wait for.
const SHORT: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(20));

/// A plain listener that takes one client after the other.
struct Gate {
    listener: TcpListener,
}

impl Gate {
    async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions::tcp(self.listener.local_addr().unwrap().to_string())
    }

    async fn accept(&self) -> Pipe {
        Pipe::new(soon(self.listener.accept()).await.unwrap().0)
    }

    /// The next client, signed in.
    async fn signed_in(&self) -> Pipe {
        let mut pipe = self.accept().await;
        pipe.sign_in().await;
        pipe
    }
}

fn options(gate: &Gate) -> ResilientOptions {
    ResilientOptions { backoff: SHORT, ..ResilientOptions::new(gate.options()) }
}

fn token() -> String {
    "token".to_owned()
}

pub(super) fn go_away(seconds: u16, code: u16) -> Bytes {
    go_away_to(seconds, code, "")
}

/// With the `host:port` of a gateway behind it.
fn go_away_to(seconds: u16, code: u16, to: &str) -> Bytes {
    let mut payload = BytesMut::new();
    payload.put_slice(&Dialect::XIm.basic_magic());
    payload.put_u16(BASIC_GO_AWAY);
    payload.put_u16(4 + u16::try_from(to.len()).unwrap());
    payload.put_u16(seconds);
    payload.put_u16(code);
    payload.put_slice(to.as_bytes());
    frame::encode(Opcode::Binary, &payload)
}

fn close(reason: CloseReason) -> Bytes {
    frame::encode(Opcode::Close, &reason.payload())
}

/// Takes events up to one for which `wanted` gives something.
async fn event<T>(events: &mut Events, wanted: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        let event = soon(events.recv()).await.expect("an event");
        if let Some(found) = wanted(&event) {
            return found;
        }
    }
}

async fn connected(events: &mut Events) {
    event(events, |event| matches!(event, Event::Connected(_)).then_some(())).await;
}

/// The texts of the next talks that arrive.
async fn talks(pipe: &mut Pipe, count: usize) -> Vec<(pb::Header, String)> {
    let mut talks = Vec::new();
    for _ in 0..count {
        let (header, body) = pipe.request().await;
        talks.push((header, pb::MessageReq::decode(body).unwrap().body));
    }
    talks
}

fn texts(talks: &[(pb::Header, String)]) -> Vec<&str> {
    talks.iter().map(|(_, text)| text.as_str()).collect()
}

#[tokio::test]
async fn the_login_of_the_library_says_that_it_understands_go_away() {
    let gate = Gate::new().await;
    let mut options = options(&gate);
    options.login =
        pb::LoginReq { zone: "zone_b".to_owned(), tags: vec!["beta".to_owned()], ..Default::default() };
    let (_client, _pushes, _events) = ResilientClient::start(options, token());
    let mut pipe = gate.accept().await;
    let login = pb::LoginReq::decode(pipe.request().await.1).unwrap();
    assert_eq!((login.token.as_str(), login.zone.as_str()), ("token", "zone_b"));
    assert_eq!(login.tags, ["beta", GO_AWAY_TAG]);

    let pair = Pair::of(Kind::Tcp, |_| {}).await;
    let Pair { client, mut login, .. } = pair;
    let (_done, (header, body)) = tokio::join!(client.login("token"), async {
        let request = login.request().await;
        login.answer(&request.0, 0, login_resp()).await;
        request
    });
    assert_eq!(header.command, command::LOGIN_SIGNIN);
    assert_eq!(pb::LoginReq::decode(body).unwrap().tags, [GO_AWAY_TAG]);
}

#[tokio::test]
async fn g4_what_was_handed_over_is_never_sent_again_and_what_waited_goes_out_in_order() {
    let gate = Gate::new().await;
    let (client, _pushes, mut events) = ResilientClient::start(options(&gate), token());
    let mut first = gate.signed_in().await;
    connected(&mut events).await;
    let unknown = client.send_talk("bob", "handed over").await.unwrap();
    assert_eq!(texts(&talks(&mut first, 1).await), ["handed over"]);
    drop(first);
    let reason = event(&mut events, |event| match event {
        Event::Lost(reason) => Some(*reason),
        _ => None,
    });
    assert_eq!(reason.await, CloseReason::PeerClosed);
    let error = soon(unknown).await.unwrap_err();
    assert_eq!(error, RequestError::Closed(CloseReason::PeerClosed));
    assert!(error.is_outcome_unknown());

    // Nobody is there: three wait.
    let mut replies = Vec::new();
    for text in ["one", "two", "three"] {
        replies.push(client.send_talk("bob", text).await.unwrap());
    }
    assert!(client.session().is_none());
    let mut second = gate.signed_in().await;
    let sent = talks(&mut second, 3).await;
    assert_eq!(texts(&sent), ["one", "two", "three"]);
    for ((header, _), reply) in sent.iter().zip(replies) {
        second.answer(header, 0, Vec::new()).await;
        assert!(soon(reply).await.unwrap().is_success());
    }
    connected(&mut events).await;
    assert_eq!(client.account().as_deref(), Some("alice"));
}

/// A gateway that does not read: what its socket does not take has not been handed over.
#[tokio::test]
async fn g4_what_was_queued_and_not_written_is_sent_on_the_next_connection() {
    const BODY: usize = 64 * 1024;
    let gate = Gate::new().await;
    let (client, _pushes, mut events) = ResilientClient::start(options(&gate), token());
    let stuck = gate.signed_in().await;
    connected(&mut events).await;
    let mut replies = Vec::new();
    for n in 0..200u32 {
        let mut body = vec![0; BODY];
        body[..4].copy_from_slice(&n.to_be_bytes());
        replies.push(client.send("chat.user.talk", "bob", body).await.unwrap());
    }
    // All that the sockets take is written: the last of them cannot have been.
    timeout(Duration::from_millis(200), std::future::pending::<()>()).await.unwrap_err();
    drop(stuck);
    let mut second = gate.signed_in().await;
    let resent = async {
        let mut seen = Vec::new();
        while seen.last() != Some(&199) {
            let (header, body) = second.request().await;
            seen.push(u32::from_be_bytes(*body.first_chunk().unwrap()));
            second.answer(&header, 0, Vec::new()).await;
        }
        seen
    };
    let seen = soon(resent).await;
    let first = seen[0];
    assert!(first > 0, "something was written");
    assert_eq!(seen, (first..200).collect::<Vec<_>>(), "in order, and each once");
    for (n, reply) in (0..).zip(replies) {
        let result = soon(reply).await;
        assert_eq!(result.is_ok(), n >= first, "{n}: {result:?}");
        assert!(result.is_ok() || result.unwrap_err().is_outcome_unknown());
    }
}

#[tokio::test]
async fn g6_a_request_waits_for_a_connection_until_its_deadline_and_no_longer() {
    let gate = Gate::new().await;
    let options = ResilientOptions { request_deadline: Duration::from_millis(50), ..options(&gate) };
    let (client, _pushes, _events) = ResilientClient::start(options, token());
    let error = soon(client.talk("bob", "too late")).await.unwrap_err();
    assert!(matches!(error, CallError::Request(RequestError::NotSent(NotSent::TimedOut))), "{error:?}");
    let CallError::Request(error) = error else { unreachable!() };
    assert!(!error.is_outcome_unknown());
    let mut pipe = gate.signed_in().await;
    client.online().await.unwrap();
    let (talked, sent) = tokio::join!(client.talk("bob", "in time"), async {
        let sent = talks(&mut pipe, 1).await;
        pipe.answer(&sent[0].0, 0, Vec::new()).await;
        sent
    });
    assert_eq!(texts(&sent), ["in time"]);
    talked.unwrap();
}

#[tokio::test]
async fn g6_the_queue_is_bounded_and_says_so() {
    let gate = Gate::new().await;
    let (client, _pushes, _events) = ResilientClient::start(options(&gate), token());
    let mut waiting = Vec::new();
    let full = loop {
        match soon(client.send("chat.user.talk", "bob", Bytes::new())).await {
            Ok(reply) => waiting.push(reply),
            Err(error) => break error,
        }
    };
    assert_eq!((waiting.len(), full), (1024, RequestError::NotSent(NotSent::QueueFull)));
    let mut pipe = gate.signed_in().await;
    soon(client.online()).await.unwrap();
    // With a connection it is waited for.
    let (last, ()) = tokio::join!(client.request("chat.user.talk", "bob", Bytes::new()), async {
        for _ in 0..1025 {
            let (header, _) = pipe.request().await;
            pipe.answer(&header, 0, Vec::new()).await;
        }
    });
    assert!(last.unwrap().is_success());
    for reply in waiting {
        assert!(soon(reply).await.unwrap().is_success());
    }
    let huge = client.send("chat.user.talk", "bob", vec![0; 17 << 20]).await;
    assert!(matches!(huge, Err(RequestError::TooLarge(_))));
}

#[tokio::test]
async fn an_answer_300_is_tried_again_until_the_deadline() {
    let gate = Gate::new().await;
    let (client, _pushes, _events) = ResilientClient::start(options(&gate), token());
    let mut pipe = gate.signed_in().await;
    let reply = client.send_talk("bob", "try").await.unwrap();
    for _ in 0..3 {
        let sent = talks(&mut pipe, 1).await;
        pipe.answer(&sent[0].0, 300, Vec::new()).await;
    }
    let sent = talks(&mut pipe, 1).await;
    pipe.answer(&sent[0].0, 210, Vec::new()).await;
    assert_eq!(soon(reply).await.unwrap().status, 210, "which is not tried again");

    let gate = Gate::new().await;
    let short = ResilientOptions { request_deadline: Duration::from_millis(400), ..options(&gate) };
    let (client, _pushes, _events) = ResilientClient::start(short, token());
    let mut pipe = gate.signed_in().await;
    let refusing = async {
        loop {
            let (header, _) = pipe.request().await;
            pipe.answer(&header, 300, Vec::new()).await;
        }
    };
    let refused = async { client.send_talk("bob", "never").await.unwrap().await };
    tokio::select! {
        () = refusing => {}
        refused = soon(refused) => assert_eq!(refused.unwrap().status, 300),
    }

    let gate = Gate::new().await;
    let plain = ResilientOptions { retry_refused: false, ..options(&gate) };
    let (client, _pushes, _events) = ResilientClient::start(plain, token());
    let mut pipe = gate.signed_in().await;
    let reply = client.send_talk("bob", "once").await.unwrap();
    let sent = talks(&mut pipe, 1).await;
    pipe.answer(&sent[0].0, 300, Vec::new()).await;
    assert_eq!(soon(reply).await.unwrap().status, 300);
}

#[tokio::test]
async fn f1_on_go_away_answers_are_waited_for_and_new_requests_go_to_the_other_gateway() {
    let (old, new) = (Gate::new().await, Gate::new().await);
    let (client, mut pushes, mut events) = ResilientClient::start(options(&old).or(new.options()), token());
    let mut first = old.signed_in().await;
    connected(&mut events).await;
    first.write(&push(1, "from the old one")).await;
    let owed = client.send_talk("bob", "owed").await.unwrap();
    let owed_header = talks(&mut first, 1).await.remove(0).0;
    first.write(&go_away(0, 3000)).await;
    let told = event(&mut events, |event| match event {
        Event::Draining(told) => Some(*told),
        _ => None,
    });
    assert_eq!(told.await.reason, CloseReason::Draining);
    // The handshake comes first, the login only when the old session is over.
    let mut second = new.accept().await;
    tokio::task::yield_now().await;
    let moved = client.send_talk("bob", "moved").await.unwrap();
    first.answer(&owed_header, 0, Vec::new()).await;
    assert!(soon(owed).await.unwrap().is_success());
    let bye = first.frame().await.expect("a close");
    assert_eq!(bye.opcode, Opcode::Close, "the close is near: nothing new is sent here");
    assert_eq!(CloseReason::from_payload(&bye.payload), Some(CloseReason::Bye));
    drop(first);
    second.sign_in().await;
    connected(&mut events).await;
    let serve = async {
        loop {
            let (header, _) = second.request().await;
            second.answer(&header, 0, Vec::new()).await;
        }
    };
    tokio::select! {
        () = serve => {}
        result = soon(moved) => assert!(result.unwrap().is_success()),
    }
    second.write(&push(2, "from the new one")).await;
    for id in [1, 2] {
        assert_eq!(soon(pushes.recv()).await.unwrap().message().unwrap().message_id, id);
    }
}

/// The list has one gateway: it is named another.
#[tokio::test]
async fn f1_who_is_told_where_to_go_goes_there_once_and_back_to_its_own_list() {
    let (old, new) = (Gate::new().await, Gate::new().await);
    let (_client, _pushes, mut events) = ResilientClient::start(options(&old), token());
    let mut first = old.signed_in().await;
    connected(&mut events).await;
    let to = new.listener.local_addr().unwrap().to_string();
    first.write(&go_away_to(0, 3000, &to)).await;
    let mut second = new.accept().await;
    assert_eq!(first.frame().await.expect("a close").opcode, Opcode::Close);
    drop(first);
    let server = |event: &Event| match event {
        Event::Reconnecting { server, .. } => Some(server.clone()),
        _ => None,
    };
    assert_eq!(event(&mut events, server).await, to);
    second.sign_in().await;
    let online = event(&mut events, |event| match event {
        Event::Connected(online) => Some(online.server.clone()),
        _ => None,
    });
    assert_eq!(online.await, to);
    // Lost there, it comes back to what it was given.
    drop(second);
    let mut third = old.signed_in().await;
    connected(&mut events).await;

    // Nobody takes connections where it is told to go.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    third.write(&go_away_to(0, 3000, &taken.local_addr().unwrap().to_string())).await;
    let _fourth = old.signed_in().await;
    connected(&mut events).await;
}

/// What is no address is as good as nothing, and what is said for another reason names nobody.
#[tokio::test]
async fn f1_what_is_no_address_of_a_gateway_is_not_gone_to() {
    for (code, to) in [(3000, "nowhere"), (3000, "a b:1"), (3003, "127.0.0.1:1")] {
        let gate = Gate::new().await;
        let (_client, _pushes, mut events) = ResilientClient::start(options(&gate), token());
        let mut first = gate.signed_in().await;
        connected(&mut events).await;
        first.write(&go_away_to(0, code, to)).await;
        event(&mut events, |event| matches!(event, Event::Draining(_)).then_some(())).await;
        first.write(&close(CloseReason::from_any_code(code.into()))).await;
        drop(first);
        let server = event(&mut events, |event| match event {
            Event::Reconnecting { server, .. } => Some(server.clone()),
            _ => None,
        });
        assert_eq!(server.await, gate.options().server, "{to}");
        let _second = gate.signed_in().await;
    }
}

#[tokio::test]
async fn f1_who_finds_no_other_gateway_in_time_has_nothing_under_way_when_the_close_comes() {
    let gate = Gate::new().await;
    // Bound, so that nobody else gets the port, and nobody listens.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = ConnectOptions::tcp(taken.local_addr().unwrap().to_string());
    let (client, _pushes, mut events) = ResilientClient::start(options(&gate).or(nobody), token());
    let mut first = gate.signed_in().await;
    connected(&mut events).await;
    let before = client.send_talk("bob", "before").await.unwrap();
    let header = talks(&mut first, 1).await.remove(0).0;
    first.write(&go_away(0, 3000)).await;
    event(&mut events, |event| matches!(event, Event::Draining(_)).then_some(())).await;
    let after = client.send_talk("bob", "after").await.unwrap();
    first.write(&frame::encode(Opcode::Ping, &[])).await;
    // Had it been sent, it would stand before this.
    assert_eq!(first.frame().await.unwrap().opcode, Opcode::Pong);
    first.answer(&header, 0, Vec::new()).await;
    assert!(soon(before).await.unwrap().is_success(), "what it owes is still taken");
    first.write(&close(CloseReason::Draining)).await;
    let mut second = gate.signed_in().await;
    let sent = talks(&mut second, 1).await;
    assert_eq!(texts(&sent), ["after"]);
    second.answer(&sent[0].0, 0, Vec::new()).await;
    assert!(soon(after).await.unwrap().is_success());
}

#[rstest]
#[tokio::test]
async fn go_away_is_understood_over_every_transport(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicOne, Kind::QuicMany)] kind: Kind,
) {
    let mut pair = Pair::signed_in(kind, |_| {}).await;
    pair.login.write(&go_away(20, 3000)).await;
    let told = soon(pair.client.going_away()).await;
    assert_eq!((told.within, told.reason), (Duration::from_secs(20), CloseReason::Draining));
    pair.login.write(&go_away(30, 3003)).await;
    pair.login.write(&frame::encode(Opcode::Ping, &[])).await;
    assert_eq!(pair.login.frame().await.unwrap().opcode, Opcode::Pong);
    assert_eq!(soon(pair.client.going_away()).await, told, "the nearer close counts");
    pair.login.write(&go_away(1, 3000)).await;
    assert_eq!(soon(pair.client.going_away_after(Some(told))).await.within, Duration::from_secs(1));
    assert_eq!(pair.client.close_reason(), None);
}

#[tokio::test]
async fn a_kick_ends_the_session_with_everything_that_waits() {
    let gate = Gate::new().await;
    let (client, mut pushes, mut events) = ResilientClient::start(options(&gate), token());
    let mut pipe = gate.signed_in().await;
    connected(&mut events).await;
    let lost = client.send_talk("bob", "lost").await.unwrap();
    talks(&mut pipe, 1).await;
    pipe.write(&close(CloseReason::Kicked)).await;
    event(&mut events, |event| matches!(event, Event::Kicked).then_some(())).await;
    let end = soon(client.over()).await;
    assert!(matches!(*end, End::Closed(CloseReason::Kicked)), "{end}");
    assert_eq!(soon(lost).await.unwrap_err(), RequestError::Closed(CloseReason::Kicked));
    assert_eq!(soon(pushes.recv()).await, None);
    let late = client.send_talk("bob", "late").await.unwrap_err();
    assert_eq!(late, RequestError::NotSent(NotSent::Over));
    event(&mut events, |event| matches!(event, Event::Over(_)).then_some(())).await;
    assert!(soon(events.recv()).await.is_none());
    let knocks = timeout(Duration::from_millis(100), gate.listener.accept()).await;
    assert!(knocks.is_err(), "it came back");
}

/// A code of the forbidding half that this version does not know.
#[tokio::test]
async fn an_unknown_code_of_the_forbidding_half_is_obeyed() {
    for (code, comes_back) in [(3999u16, false), (3499, true)] {
        let gate = Gate::new().await;
        let (client, _pushes, _events) = ResilientClient::start(options(&gate), token());
        let mut pipe = gate.signed_in().await;
        pipe.write(&frame::encode(Opcode::Close, &code.to_be_bytes())).await;
        if comes_back {
            gate.signed_in().await;
        } else {
            assert!(matches!(*soon(client.over()).await, End::Closed(CloseReason::ProtocolError)));
        }
    }
}

#[tokio::test]
async fn a_refused_token_is_asked_for_again_once() {
    for good in [true, false] {
        let gate = Gate::new().await;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let tokens = move |need| {
            log.lock().unwrap().push(need);
            let token = if good && need == Need::Renewed { "token" } else { "old" };
            async move { Ok(token.to_owned()) }
        };
        let (client, _pushes, _events) = ResilientClient::start(options(&gate), tokens);
        let refuse = async || {
            let mut pipe = gate.accept().await;
            let (header, body) = pipe.request().await;
            assert_eq!(pb::LoginReq::decode(body).unwrap().token, "old");
            pipe.answer(&header, 105, Vec::new()).await;
            pipe.write(&close(CloseReason::Unauthenticated)).await;
        };
        refuse().await;
        if good {
            let _pipe = gate.signed_in().await;
            soon(client.online()).await.unwrap();
        } else {
            refuse().await;
            let end = soon(client.over()).await;
            assert!(matches!(*end, End::Login(LoginError::Refused { status: 105, .. })), "{end}");
        }
        assert_eq!(*asked.lock().unwrap(), [Need::Login, Need::Renewed]);
    }
}

#[tokio::test]
async fn a_beginning_that_must_succeed_says_what_it_failed_with() {
    let gate = Gate::new().await;
    let refuse = async {
        let mut pipe = gate.accept().await;
        let (header, _) = pipe.request().await;
        pipe.answer(&header, 105, Vec::new()).await;
        pipe.write(&close(CloseReason::Unauthenticated)).await;
        pipe
    };
    let (end, _pipe) = tokio::join!(ResilientClient::connect(options(&gate), token()), refuse);
    let end = end.err().unwrap();
    assert!(matches!(*end, End::Login(LoginError::Refused { status: 105, .. })), "{end}");

    // The first server is gone, the second takes it.
    let gone = Gate::new().await.options();
    let two = ResilientOptions { backoff: SHORT, ..ResilientOptions::new(gone.clone()) }.or(gate.options());
    let (client, _pipe) = tokio::join!(ResilientClient::connect(two, token()), gate.signed_in());
    let (client, _pushes, mut events) = client.unwrap();
    let server = event(&mut events, |event| match event {
        Event::Connected(online) => Some(online.server.clone()),
        _ => None,
    });
    assert_eq!(server.await, gate.options().server);
    assert!(matches!(*soon(client.close()).await, End::Stopped));

    let end = soon(ResilientClient::connect(ResilientOptions::new(gone), token())).await.err().unwrap();
    assert!(matches!(*end, End::Connect(ConnectError::Tcp { .. })), "{end}");
}

#[tokio::test]
async fn a_program_that_ends_the_session_says_bye() {
    let gate = Gate::new().await;
    let (client, _pushes, _events) = ResilientClient::start(options(&gate), token());
    let mut pipe = gate.signed_in().await;
    soon(client.online()).await.unwrap();
    let (end, bye) = tokio::join!(client.close(), async {
        let frame = pipe.frame().await.unwrap();
        drop(pipe);
        frame
    });
    assert!(matches!(*end, End::Stopped));
    assert_eq!(CloseReason::from_payload(&bye.payload), Some(CloseReason::Bye));

    let (client, _pushes, _events) = ResilientClient::start(options(&gate), token());
    let mut pipe = gate.signed_in().await;
    soon(client.online()).await.unwrap();
    drop(client);
    assert!(pipe.frame().await.is_none(), "the last handle is gone");
}

#[tokio::test]
async fn a_stream_that_the_gateway_reset_is_no_place_to_stay() {
    let gate = QuicGate::new(b"x-im/1");
    let options =
        ResilientOptions { backoff: SHORT, ..ResilientOptions::new(gate.options(Streams::Separate)) };
    let (client, _pushes, _events) = ResilientClient::start(options, token());
    let first = gate.accept().await;
    let mut login = accept_pipe(&first).await;
    login.sign_in().await;
    let reply = client.send_talk("bob", "hello").await.unwrap();
    let _heartbeat = soon(first.accept_bi()).await.unwrap();
    let (mut to, _from) = soon(first.accept_bi()).await.unwrap();
    to.reset(VarInt::from_u32(3008)).unwrap();
    assert_eq!(soon(reply).await.unwrap_err(), RequestError::StreamEnded);
    let second = gate.accept().await;
    let mut login = accept_pipe(&second).await;
    login.sign_in().await;
    assert!(first.close_reason().is_some());
}

/// A token that says when it ends, and nothing else.
fn ending(exp: std::time::SystemTime) -> String {
    use base64::Engine as _;
    let exp = exp.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let claims = format!("{{\"exp\":{exp}}}");
    format!("e30.{}.x", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
}

/// Takes the next packet, which must be a renewal, and returns its token.
async fn renewal(pipe: &mut Pipe) -> (pb::Header, String) {
    let (header, body) = pipe.request().await;
    assert_eq!(header.command, command::LOGIN_RENEW);
    (header, pb::LoginReq::decode(body).unwrap().token)
}

#[tokio::test]
async fn a_token_is_renewed_in_place_before_it_ends_and_so_is_the_next_one() {
    let gate = Gate::new().await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let needs = Arc::clone(&asked);
    let tokens = move |need| {
        needs.lock().unwrap().push(need);
        // Half of the time of each is a second, which is the least there is between two renewals.
        let token = ending(std::time::SystemTime::now() + Duration::from_secs(2));
        async move { Ok(token) }
    };
    let (_client, _pushes, _events) = ResilientClient::start(options(&gate), tokens);
    let mut pipe = gate.accept().await;
    let (header, body) = pipe.request().await;
    let mut last = pb::LoginReq::decode(body).unwrap().token;
    pipe.answer(&header, 0, login_resp()).await;
    for _ in 0..2 {
        let (header, token) = renewal(&mut pipe).await;
        assert_ne!(token, last, "another token");
        last = token;
        pipe.answer(&header, 0, Vec::new()).await;
    }
    assert_eq!(asked.lock().unwrap()[..3], [Need::Login, Need::Renewal, Need::Renewal]);
}

#[tokio::test]
async fn a_renewal_that_is_refused_is_tried_again_and_the_session_goes_on() {
    let gate = Gate::new().await;
    let options = ResilientOptions { token_lifetime: Some(Duration::from_secs(2)), ..options(&gate) };
    let (client, _pushes, _events) = ResilientClient::start(options, |_| async { Ok("token".to_owned()) });
    let mut pipe = gate.signed_in().await;
    for status in [105, 300, 105] {
        let (header, _) = renewal(&mut pipe).await;
        pipe.answer(&header, status, Vec::new()).await;
    }
    let (talk, _) = tokio::join!(client.talk("bob", "hello"), async {
        loop {
            let (header, _) = pipe.request().await;
            let body = pb::MessageResp::default().encode_to_vec();
            pipe.answer(&header, 0, body).await;
            if header.command == command::CHAT_USER_TALK {
                return;
            }
        }
    });
    talk.unwrap();
}

#[tokio::test]
async fn nothing_is_renewed_without_an_end_a_source_or_a_wish() {
    let long = ending(std::time::SystemTime::now() + Duration::from_secs(2));
    let unknown = (None, Some("token".to_owned()));
    let never = (Some(Duration::ZERO), Some(long.clone()));
    // A string is the only token there is.
    let only = (None, None);
    for (change, closure) in [unknown, never, only] {
        let gate = Gate::new().await;
        let mut options = options(&gate);
        options.renew_before = change.unwrap_or(options.renew_before);
        let (client, _pushes, _events) = match closure {
            Some(token) => ResilientClient::start(options, move |_| {
                let token = token.clone();
                async move { Ok(token) }
            }),
            None => ResilientClient::start(options, long.clone()),
        };
        let mut pipe = gate.accept().await;
        let (header, _) = pipe.request().await;
        pipe.answer(&header, 0, login_resp()).await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let (_, (header, _)) = tokio::join!(client.send_talk("bob", "first"), pipe.request());
        assert_eq!(header.command, command::CHAT_USER_TALK, "nothing else came before");
    }
}

#[tokio::test]
async fn a_gateway_that_knows_no_renewal_is_not_asked_again() {
    let gate = Gate::new().await;
    let tokens = |_| async { Ok(ending(std::time::SystemTime::now() + Duration::from_secs(2))) };
    let (client, _pushes, _events) = ResilientClient::start(options(&gate), tokens);
    let mut pipe = gate.accept().await;
    let (header, _) = pipe.request().await;
    pipe.answer(&header, 0, login_resp()).await;
    let (header, _) = renewal(&mut pipe).await;
    pipe.answer(&header, 103, Vec::new()).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (_, (header, _)) = tokio::join!(client.send_talk("bob", "next"), pipe.request());
    assert_eq!(header.command, command::CHAT_USER_TALK);
}
