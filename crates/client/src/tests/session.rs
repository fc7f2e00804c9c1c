//! Login, requests, answers, heartbeats.

use super::*;
use rstest::rstest;

#[rstest]
#[tokio::test]
async fn login_talk_push_and_bye(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicOne, Kind::QuicMany)] kind: Kind,
) {
    let mut pair = Pair::signed_in(kind, |_| {}).await;
    let client = pair.client.clone();
    let talk = tokio::spawn(async move { client.talk("bob", "hello").await });
    let mut own = pair.messages(kind).await;
    let pipe = own.as_mut().unwrap_or(&mut pair.login);
    let (header, body) = pipe.request().await;
    assert_eq!((header.command.as_str(), header.dest.as_str()), (command::CHAT_USER_TALK, "bob"));
    assert_eq!((header.sequence, header.flag), (2, pb::Flag::Request as i32));
    assert_eq!(pb::MessageReq::decode(body).unwrap().body, "hello");
    pipe.answer(&header, 0, pb::MessageResp { message_id: 7, send_time: 8 }.encode_to_vec()).await;
    assert_eq!(soon(talk).await.unwrap().unwrap(), pb::MessageResp { message_id: 7, send_time: 8 });

    if pair.quic.is_some() {
        let mut uni = pair.connection().open_uni().await.unwrap();
        uni.write_all(&push(9, "hi")).await.unwrap();
    } else {
        pair.login.write(&push(9, "hi")).await;
    }
    let message = soon(pair.pushes.recv()).await.unwrap().message().unwrap();
    assert_eq!((message.message_id, message.sender.as_str(), message.body.as_str()), (9, "bob", "hi"));

    let (reason, ()) = tokio::join!(pair.client.close(), async {
        if let Some((_, connection)) = &pair.quic {
            let quinn::ConnectionError::ApplicationClosed(close) = soon(connection.closed()).await else {
                panic!("an application close")
            };
            assert_eq!((close.error_code, &close.reason[..]), (VarInt::from_u32(0), &b"bye"[..]));
        } else {
            let close = pair.login.frame().await.unwrap();
            assert_eq!(CloseReason::from_payload(&close.payload), Some(CloseReason::Bye));
            assert_eq!((close.opcode, pair.login.frame().await), (Opcode::Close, None));
        }
    });
    assert_eq!(reason, CloseReason::Bye);
    assert_eq!(soon(pair.pushes.recv()).await, None);
    assert_eq!(pair.client.talk("bob", "late").await.unwrap_err().to_string(), "the connection is over: bye");
}

#[rstest]
#[tokio::test]
async fn a_refused_login_tells_status_and_text_and_then_the_close_code(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicOne, Kind::QuicMany)] kind: Kind,
) {
    let mut pair = Pair::of(kind, |_| {}).await;
    let client = pair.client.clone();
    let login = tokio::spawn(async move { client.login("token").await });
    let (header, _) = pair.login.request().await;
    pair.login
        .answer(&header, 105, pb::ErrorResp { message: "token refused".to_owned() }.encode_to_vec())
        .await;
    let Err(LoginError::Refused { status: 105, message }) = soon(login).await.unwrap() else {
        panic!("refused")
    };
    assert_eq!(message, "token refused");
    pair.close(CloseReason::Unauthenticated).await;
    assert_eq!(soon(pair.client.closed()).await, CloseReason::Unauthenticated);
    assert_eq!(soon(pair.pushes.recv()).await, None);
}

#[rstest]
#[tokio::test]
async fn requests_are_pipelined_behind_the_login_and_answered_in_any_order(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicOne)] kind: Kind,
) {
    let mut pair = Pair::of(kind, |_| {}).await;
    let login = pb::LoginReq { token: "token".to_owned(), ..Default::default() };
    let login = pair.client.send_login(&login).await.unwrap();
    let mut pending = Vec::new();
    for number in 0..5 {
        pending.push(pair.client.send_talk("bob", &number.to_string()).await.unwrap());
    }
    pair.login.sign_in().await;
    assert!(soon(login).await.unwrap().is_success());
    let mut headers = Vec::new();
    for number in 0..5 {
        let (header, body) = pair.login.request().await;
        assert_eq!(pb::MessageReq::decode(body).unwrap().body, number.to_string());
        headers.push(header);
    }
    // A wrong command, then every answer twice, the last request first.
    let wrong = pb::Header { command: command::CHAT_TALK_ACK.to_owned(), ..headers[0].clone() };
    pair.login.answer(&wrong, 0, Vec::new()).await;
    for header in headers.iter().rev() {
        let id = i64::from(header.sequence);
        let body = pb::MessageResp { message_id: id, send_time: 0 }.encode_to_vec();
        pair.login.answer(header, 0, body.clone()).await;
        pair.login.answer(header, 0, body).await;
    }
    for (pending, header) in pending.into_iter().zip(&headers) {
        assert_eq!(pending.sequence(), header.sequence);
        let answer = soon(pending).await.unwrap().decode::<pb::MessageResp>().unwrap();
        assert_eq!(answer.message_id, i64::from(header.sequence));
    }
    pair.login.write(&push(1, "behind")).await;
    soon(pair.pushes.recv()).await.unwrap();
    assert_eq!(pair.client.counts().unmatched, 6);
}

#[rstest]
#[tokio::test]
async fn a_session_delivered_byte_by_byte(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicMany)] kind: Kind,
) {
    let mut pair = Pair::of(kind, |_| {}).await;
    let client = pair.client.clone();
    let login = tokio::spawn(async move { client.login("token").await });
    let (header, _) = pair.login.request().await;
    let mut bytes = response(&header, 0, login_resp()).to_vec();
    bytes.extend_from_slice(&push(1, "one"));
    bytes.extend_from_slice(&frame::encode(Opcode::Ping, b"are you there"));
    bytes.extend_from_slice(&push(2, "two"));
    for byte in bytes {
        pair.login.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    soon(login).await.unwrap().unwrap();
    for id in 1..=2 {
        assert_eq!(soon(pair.pushes.recv()).await.unwrap().message().unwrap().message_id, id);
    }
    let pong = pair.login.frame().await.unwrap();
    assert_eq!((pong.opcode, &pong.payload[..]), (Opcode::Pong, &b"are you there"[..]));
}

#[rstest]
#[tokio::test]
async fn both_heartbeats_of_the_gateway_are_answered_on_their_stream(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicOne, Kind::QuicMany)] kind: Kind,
) {
    let mut pair = Pair::signed_in(kind, |_| {}).await;
    pair.login.write(&frame::encode(Opcode::Ping, &[])).await;
    assert_eq!(pair.login.frame().await.unwrap().opcode, Opcode::Pong);
    pair.login.write(&encode_basic(Dialect::XIm, BASIC_PING)).await;
    let pong = Packet::decode(&pair.login.frame().await.unwrap().payload).unwrap();
    assert!(matches!(pong, Packet::Basic { code: BASIC_PONG, .. }));
    assert_eq!(pair.client.counts().pings_answered, 2);
}

#[rstest]
#[tokio::test]
async fn heartbeats_are_sent_by_themselves_and_a_silent_gateway_is_lost(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicMany)] kind: Kind,
) {
    let mut pair = Pair::signed_in(kind, |options| {
        options.heartbeat = Some(Duration::from_millis(100));
        options.heartbeat_kind = Heartbeat::Both;
    })
    .await;
    let mut own = match kind {
        Kind::QuicMany => Some(accept_pipe(pair.connection()).await),
        Kind::Tcp | Kind::Tls | Kind::Ws | Kind::Wss | Kind::QuicOne => None,
    };
    let pipe = own.as_mut().unwrap_or(&mut pair.login);
    for _ in 0..3 {
        assert_eq!(pipe.frame().await.unwrap().opcode, Opcode::Ping);
        pipe.write(&frame::encode(Opcode::Pong, &[])).await;
        let ping = Packet::decode(&pipe.frame().await.unwrap().payload).unwrap();
        assert!(matches!(ping, Packet::Basic { code: BASIC_PING, .. }));
        pipe.write(&encode_basic(Dialect::XIm, BASIC_PONG)).await;
    }
    assert_eq!(soon(pair.client.closed()).await, CloseReason::PeerLost);
    assert!(pair.client.counts().frame_pongs >= 2 && pair.client.counts().basic_pongs >= 2);
}

#[rstest]
#[tokio::test]
async fn a_ping_by_hand_waits_for_its_pong(#[values(Heartbeat::Frame, Heartbeat::Basic)] kind: Heartbeat) {
    let mut pair =
        Pair::signed_in(Kind::Tcp, |options| options.request_timeout = Duration::from_millis(300)).await;
    let (round_trip, ()) = tokio::join!(pair.client.ping(kind), async {
        let ping = pair.login.frame().await.unwrap();
        let pong = match ping.opcode {
            Opcode::Ping => frame::encode(Opcode::Pong, &[]),
            _ => encode_basic(Dialect::XIm, BASIC_PONG),
        };
        pair.login.write(&pong).await;
    });
    assert!(round_trip.is_ok());
    assert_eq!(soon(pair.client.ping(kind)).await, Err(RequestError::TimedOut));
}

#[tokio::test]
async fn a_request_without_an_answer_times_out_and_a_late_answer_is_counted() {
    let mut pair =
        Pair::signed_in(Kind::Tcp, |options| options.request_timeout = Duration::from_millis(50)).await;
    let pending = pair.client.send_talk("bob", "slow").await.unwrap();
    assert_eq!(soon(pending).await.unwrap_err(), RequestError::TimedOut);
    let (header, _) = pair.login.request().await;
    pair.login.answer(&header, 0, Vec::new()).await;
    pair.login.write(&push(1, "behind")).await;
    soon(pair.pushes.recv()).await.unwrap();
    assert_eq!(pair.client.counts().unmatched, 1);
}

#[tokio::test]
async fn refusals_of_typed_calls_carry_status_and_text() {
    let mut pair = Pair::signed_in(Kind::Tcp, |_| {}).await;
    let (talked, ()) = tokio::join!(pair.client.talk("bob", "hello"), async {
        let (header, _) = pair.login.request().await;
        let body = pb::ErrorResp { message: "no chat service".to_owned() }.encode_to_vec();
        pair.login.answer(&header, 300, body).await;
    });
    assert!(
        matches!(talked, Err(CallError::Refused { status: 300, message }) if message == "no chat service")
    );
}

#[tokio::test]
async fn a_reset_stream_fails_its_requests_and_leaves_the_session() {
    let mut pair = Pair::signed_in(Kind::QuicMany, |_| {}).await;
    let pending = pair.client.send_talk("bob", "hello").await.unwrap();
    let _heartbeat = accept_pipe(pair.connection()).await;
    let (mut to, _from) = soon(pair.connection().accept_bi()).await.unwrap();
    to.reset(VarInt::from_u32(3008)).unwrap();
    assert_eq!(soon(pending).await.unwrap_err(), RequestError::StreamEnded);
    assert_eq!(pair.client.close_reason(), None);
    pair.login.write(&frame::encode(Opcode::Ping, &[])).await;
    assert_eq!(pair.login.frame().await.unwrap().opcode, Opcode::Pong);
}
