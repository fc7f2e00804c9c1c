//! Groups 1 to 6, 10, 12 and 13: lengths, pings, reserved bits and opcodes, fragments, text, compression.

use rstest::rstest;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::Carried::{First, Request, Second, This};
use super::{
    AutobahnCase, BEGINNING, BINARY, CLOSE, Chop, END, FrameToSend, MESSAGE, MIDDLE, PING, PONG, TEXT,
};
use crate::support::soon;
use crate::support::websocket::{masked_frame, read_head, upgrade_request};

const OCTETS: Chop = Chop::Bytes(1);

/// The longest that a control frame may carry, and one byte more.
const LONGEST: &[u8] = &[0xfe; 125];
const TOO_LONG: &[u8] = &[0xfe; 126];

#[rstest]
#[case::autobahn_1_2_2(125, Chop::None)]
#[case::autobahn_1_2_3(126, Chop::None)]
#[case::autobahn_1_2_4(127, Chop::None)]
#[case::autobahn_1_2_5(128, Chop::None)]
#[case::autobahn_1_2_6(65_535, Chop::None)]
#[case::autobahn_1_2_7(65_536, Chop::None)]
#[case::autobahn_1_2_8(65_536, Chop::Bytes(997))]
#[tokio::test]
async fn messages_of_each_form_of_length(#[case] len: usize, #[case] chop: Chop) {
    let mut case = AutobahnCase::start().await;
    let message = case.request_of(len);
    case.write(&[masked_frame(BINARY, &message)], chop).await;
    case.echoed().await;
    case.goes_on().await;
}

#[tokio::test]
async fn autobahn_1_2_1_a_message_of_nothing_is_ignored() {
    let mut case = AutobahnCase::start().await;
    case.send(&[(BINARY, This(b""))], Chop::None).await;
    case.harness.metric_is("gateway_reject_total", &["empty_frame"], 1.0).await;
    case.goes_on().await;
}

/// It is refused by its head: whether the rest is UTF-8, or comes at all, does not matter.
#[rstest]
#[case::autobahn_1_1_1(b"", 0)]
#[case::autobahn_1_1_2(&[b'*'; 125], 125)]
#[case::autobahn_1_1_7(&[b'*'; 10], 65_536)]
#[case::autobahn_6_1_1(b"", 0)]
#[case::autobahn_6_2_1("Hello-µ@ßöäüàá-UTF-8!!".as_bytes(), 30)]
#[case::autobahn_6_3_1(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", 22)]
#[case::autobahn_6_4_1(b"\xce\xba\xe1\xbd\xb9\xcf\x83", 50)]
#[tokio::test]
async fn text_is_refused_at_its_head(#[case] begun: &[u8], #[case] len: usize) {
    let mut case = AutobahnCase::start().await;
    let whole = masked_frame(TEXT, &vec![b' '; len]);
    let head = &whole[..whole.len() - len];
    case.write(&[[head, begun].concat()], Chop::None).await;
    case.fails("bad_opcode", 0).await;
}

/// Ten frames like this.
fn ten(frame: FrameToSend) -> Vec<FrameToSend> {
    vec![frame; 10]
}

#[rstest]
#[case::autobahn_2_1(vec![(PING, This(b""))], Chop::None, vec![b"".as_slice()])]
#[case::autobahn_2_2(vec![(PING, This(b"Hello, world!"))], Chop::None, vec![b"Hello, world!".as_slice()])]
#[case::autobahn_2_3(
    vec![(PING, This(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"))],
    Chop::None,
    vec![b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff".as_slice()],
)]
#[case::autobahn_2_4(vec![(PING, This(LONGEST))], Chop::None, vec![LONGEST])]
#[case::autobahn_2_6(vec![(PING, This(LONGEST))], OCTETS, vec![LONGEST])]
#[case::autobahn_2_7(vec![(PONG, This(b""))], Chop::None, vec![])]
#[case::autobahn_2_8(vec![(PONG, This(b"unsolicited"))], Chop::None, vec![])]
#[case::autobahn_2_9(vec![(PONG, This(b"unsolicited")), (PING, This(b"ping"))], Chop::None, vec![b"ping".as_slice()])]
#[case::autobahn_2_10(ten((PING, This(b"payload"))), Chop::None, vec![b"payload".as_slice(); 10])]
#[case::autobahn_2_11(ten((PING, This(b"payload"))), OCTETS, vec![b"payload".as_slice(); 10])]
#[tokio::test]
async fn pings_are_answered_and_pongs_are_not(
    #[case] frames: Vec<FrameToSend>,
    #[case] chop: Chop,
    #[case] pongs: Vec<&'static [u8]>,
) {
    let mut case = AutobahnCase::start().await;
    case.send(&frames, chop).await;
    case.pongs(&pongs).await;
    case.goes_on().await;
}

const BAD_FRAME: &str = "bad_websocket_frame";
const BAD_OPCODE: &str = "bad_opcode";

/// With the requests that are carried out before.
#[rstest]
#[case::autobahn_2_5(&[(PING, This(TOO_LONG))], Chop::None, BAD_FRAME, 0)]
#[case::autobahn_3_1(&[(BINARY | 0x10, Request)], Chop::None, BAD_FRAME, 0)]
#[case::autobahn_3_2(&[MESSAGE, (BINARY | 0x20, Request), (PING, This(b""))], Chop::None, BAD_FRAME, 1)]
#[case::autobahn_3_3(&[MESSAGE, (BINARY | 0x30, Request), (PING, This(b""))], Chop::Frames, BAD_FRAME, 1)]
#[case::autobahn_3_4(&[MESSAGE, (BINARY | 0x40, Request), (PING, This(b""))], OCTETS, BAD_FRAME, 1)]
#[case::autobahn_3_5(&[(BINARY | 0x50, This(b"\x00\xff\xfe\xfd"))], Chop::None, BAD_FRAME, 0)]
#[case::autobahn_3_6(&[(PING | 0x60, This(b"\x00\xff\xfe\xfd"))], Chop::None, BAD_FRAME, 0)]
#[case::autobahn_3_7(&[(CLOSE | 0x70, This(b""))], Chop::None, BAD_FRAME, 0)]
#[case::autobahn_4_1_1(&[(0x83, This(b""))], Chop::None, BAD_OPCODE, 0)]
#[case::autobahn_4_1_2(&[(0x84, This(b"reserved opcode payload"))], Chop::None, BAD_OPCODE, 0)]
#[case::autobahn_4_1_3(&[MESSAGE, (0x85, This(b"")), (PING, This(b""))], Chop::None, BAD_OPCODE, 1)]
#[case::autobahn_4_1_4(&[MESSAGE, (0x86, This(b"payload")), (PING, This(b""))], Chop::None, BAD_OPCODE, 1)]
#[case::autobahn_4_1_5(&[MESSAGE, (0x87, This(b"payload")), (PING, This(b""))], OCTETS, BAD_OPCODE, 1)]
#[case::autobahn_4_2_1(&[(0x8b, This(b""))], Chop::None, BAD_OPCODE, 0)]
#[case::autobahn_4_2_2(&[(0x8c, This(b"reserved opcode payload"))], Chop::None, BAD_OPCODE, 0)]
#[case::autobahn_4_2_3(&[MESSAGE, (0x8d, This(b"")), (PING, This(b""))], Chop::None, BAD_OPCODE, 1)]
#[case::autobahn_4_2_4(&[MESSAGE, (0x8e, This(b"payload")), (PING, This(b""))], Chop::None, BAD_OPCODE, 1)]
#[case::autobahn_4_2_5(&[MESSAGE, (0x8f, This(b"payload")), (PING, This(b""))], OCTETS, BAD_OPCODE, 1)]
#[case::autobahn_5_1(&[(0x09, This(b"frag")), (END, This(b"ment"))], Chop::None, BAD_FRAME, 0)]
#[case::autobahn_5_2(&[(0x0a, This(b"frag")), (END, This(b"ment"))], Chop::None, BAD_FRAME, 0)]
#[case::autobahn_5_9(&[(END, Request), MESSAGE], Chop::None, BAD_FRAME, 0)]
#[case::autobahn_5_10(&[(END, Request), MESSAGE], Chop::Frames, BAD_FRAME, 0)]
#[case::autobahn_5_11(&[(END, Request), MESSAGE], OCTETS, BAD_FRAME, 0)]
#[case::autobahn_5_12(&[(MIDDLE, Request), MESSAGE], Chop::None, BAD_FRAME, 0)]
#[case::autobahn_5_13(&[(MIDDLE, Request), MESSAGE], Chop::Frames, BAD_FRAME, 0)]
#[case::autobahn_5_14(&[(MIDDLE, Request), MESSAGE], OCTETS, BAD_FRAME, 0)]
#[case::autobahn_5_15(&[(BEGINNING, First), (END, Second), (MIDDLE, Request), MESSAGE], Chop::None, BAD_FRAME, 1)]
#[case::autobahn_5_16(&[(MIDDLE, Request), (BEGINNING, First), (END, Second)], Chop::None, BAD_FRAME, 0)]
#[case::autobahn_5_17(&[(END, Request), (BEGINNING, First), (END, Second)], Chop::None, BAD_FRAME, 0)]
#[case::autobahn_5_18(&[(BEGINNING, First), (BINARY, Second)], Chop::None, BAD_FRAME, 0)]
#[tokio::test]
async fn a18_what_no_client_may_send_fails_the_connection(
    #[case] frames: &[FrameToSend],
    #[case] chop: Chop,
    #[case] counter: &str,
    #[case] requests: usize,
) {
    let mut case = AutobahnCase::start().await;
    case.send(frames, chop).await;
    case.fails(counter, requests).await;
}

#[tokio::test]
async fn a18_a_frame_without_a_mask_fails_the_connection() {
    let mut case = AutobahnCase::start().await;
    case.client.write_as_is(0, &[BINARY, 0]).await;
    case.fails(BAD_FRAME, 0).await;
}

#[rstest]
#[case::autobahn_5_3(&[(BEGINNING, First), (END, Second)], Chop::None, &[])]
#[case::autobahn_5_4(&[(BEGINNING, First), (END, Second)], Chop::Frames, &[])]
#[case::autobahn_5_5(&[(BEGINNING, First), (END, Second)], OCTETS, &[])]
#[case::autobahn_5_6(&[(BEGINNING, First), (PING, This(b"between")), (END, Second)], Chop::None, &[b"between".as_slice()])]
#[case::autobahn_5_7(&[(BEGINNING, First), (PING, This(b"between")), (END, Second)], Chop::Frames, &[b"between".as_slice()])]
#[case::autobahn_5_8(&[(BEGINNING, First), (PING, This(b"between")), (END, Second)], OCTETS, &[b"between".as_slice()])]
#[case::autobahn_5_20(
    &[
        (BEGINNING, First), (MIDDLE, This(b"")), (PING, This(b"one")), (MIDDLE, This(b"")), (MIDDLE, This(b"")),
        (PING, This(b"two")), (END, Second),
    ],
    Chop::None,
    &[b"one".as_slice(), b"two"],
)]
#[tokio::test]
async fn a19_fragments_are_put_together(
    #[case] frames: &[FrameToSend],
    #[case] chop: Chop,
    #[case] pongs: &[&'static [u8]],
) {
    let mut case = AutobahnCase::start().await;
    case.send(frames, chop).await;
    case.pongs(pongs).await;
    case.echoed().await;
    case.goes_on().await;
}

#[tokio::test]
async fn a19_autobahn_5_19_pings_between_fragments_are_answered_before_the_message_ends() {
    let mut case = AutobahnCase::start().await;
    case.send(&[(BEGINNING, First), (MIDDLE, This(b"")), (PING, This(b"one"))], Chop::None).await;
    case.pongs(&[b"one"]).await;
    case.send(&[(MIDDLE, This(b"")), (MIDDLE, This(b"")), (PING, This(b"two"))], Chop::None).await;
    case.pongs(&[b"two"]).await;
    assert!(case.harness.chat.packets(super::TALK).is_empty());
    case.send(&[(END, Second)], Chop::None).await;
    case.echoed().await;
    case.goes_on().await;
}

/// The suite's client cuts what its user sends.
#[tokio::test]
async fn autobahn_10_1_1_a_message_in_fragments_of_1300_bytes() {
    let mut case = AutobahnCase::start().await;
    let message = case.request_of(65_536);
    let frames = super::fragments(&message, 1300);
    case.write(&frames, Chop::Frames).await;
    case.echoed().await;
    case.goes_on().await;
}

/// Whoever offers compression is served without, and one who compresses all the same is refused.
#[rstest]
#[case::autobahn_12_1("permessage-deflate")]
#[case::autobahn_13_1("permessage-deflate; client_no_context_takeover; client_max_window_bits")]
#[tokio::test]
async fn compression_is_not_negotiated(#[case] offer: &str) {
    let case = AutobahnCase::start().await;
    let mut socket = TcpStream::connect(case.harness.target.ws).await.unwrap();
    let request = upgrade_request("/", &format!("Sec-WebSocket-Extensions: {offer}\r\n"));
    socket.write_all(request.as_bytes()).await.unwrap();
    let answer = soon("the answer", read_head(&mut socket)).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
    socket.write_all(&masked_frame(BINARY | 0x40, b"compressed")).await.unwrap();
    case.harness.metric_is("gateway_reject_total", &[BAD_FRAME], 1.0).await;
    case.goes_on().await;
}
