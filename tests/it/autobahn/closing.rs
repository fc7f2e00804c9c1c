//! Group 7: how a WebSocket is closed.

use rstest::rstest;

use super::Carried::{First, Second, This};
use super::{AutobahnCase, BEGINNING, CLOSE, Chop, END, FrameToSend, MESSAGE, PING};
use crate::support::websocket::masked_frame;

/// The payload of an orderly end.
const NORMAL: &[u8] = &1000u16.to_be_bytes();

const GOODBYE: FrameToSend = (CLOSE, This(NORMAL));

/// The client's end is answered once, by the bare code 1000, and nothing behind it counts.
#[rstest]
#[case::autobahn_7_1_1(&[MESSAGE, GOODBYE], 1)]
#[case::autobahn_7_1_2(&[GOODBYE, GOODBYE], 0)]
#[case::autobahn_7_1_3(&[GOODBYE, (PING, This(b""))], 0)]
#[case::autobahn_7_1_4(&[GOODBYE, MESSAGE], 0)]
#[case::autobahn_7_1_5(&[(BEGINNING, First), GOODBYE, (END, Second)], 0)]
#[case::autobahn_7_3_1(&[(CLOSE, This(b""))], 0)]
#[case::autobahn_7_3_3(&[GOODBYE], 0)]
#[case::autobahn_7_3_4(&[(CLOSE, This(b"\x03\xe8Hello World!"))], 0)]
#[tokio::test]
async fn an_orderly_end_is_answered(#[case] frames: &[FrameToSend], #[case] requests: usize) {
    let mut case = AutobahnCase::start().await;
    case.send(frames, Chop::None).await;
    // What a frame pong is on any other connection does not come either.
    case.ends(0, "bye", requests).await;
}

#[tokio::test]
async fn autobahn_7_1_6_a_message_of_256_kib_is_carried_out_before_the_end() {
    let mut case = AutobahnCase::with_limits(|limits| limits.max_frame = 256 << 10).await;
    let message = case.request_of(256 << 10);
    let frames =
        [masked_frame(super::BINARY, &message), masked_frame(CLOSE, NORMAL), masked_frame(PING, b"")];
    case.write(&frames, Chop::None).await;
    case.ends(0, "bye", 1).await;
}

/// The longest there is room for, and one byte more.
#[rstest]
#[case::autobahn_7_3_5(123, true)]
#[case::autobahn_7_3_6(124, false)]
#[tokio::test]
async fn the_reason_of_a_client_may_be_123_bytes(#[case] len: usize, #[case] is_valid: bool) {
    let mut case = AutobahnCase::start().await;
    let payload = [NORMAL, &vec![b'*'; len]].concat();
    case.write(&[masked_frame(CLOSE, &payload)], Chop::None).await;
    if is_valid {
        case.ends(0, "bye", 0).await;
    } else {
        case.fails("bad_websocket_frame", 0).await;
    }
}

#[rstest]
#[case::autobahn_7_3_2(b"a")]
#[case::autobahn_7_5_1(b"\x03\xe8\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited")]
#[tokio::test]
async fn a18_an_end_that_cannot_be_read_fails_the_connection(#[case] payload: &[u8]) {
    let mut case = AutobahnCase::start().await;
    case.write(&[masked_frame(CLOSE, payload)], Chop::None).await;
    case.fails("bad_websocket_frame", 0).await;
}

/// 1000, 1001 and those of applications are the client's wish; with others it says that it cannot go on.
#[rstest]
#[case::autobahn_7_7_1(1000, "bye")]
#[case::autobahn_7_7_2(1001, "bye")]
#[case::autobahn_7_7_3(1002, "peer_closed")]
#[case::autobahn_7_7_4(1003, "peer_closed")]
#[case::autobahn_7_7_5(1007, "peer_closed")]
#[case::autobahn_7_7_6(1008, "peer_closed")]
#[case::autobahn_7_7_7(1009, "peer_closed")]
#[case::autobahn_7_7_8(1010, "peer_closed")]
#[case::autobahn_7_7_9(1011, "peer_closed")]
#[case::autobahn_7_7_10(3000, "bye")]
#[case::autobahn_7_7_11(3999, "bye")]
#[case::autobahn_7_7_12(4000, "bye")]
#[case::autobahn_7_7_13(4999, "bye")]
#[tokio::test]
async fn codes_that_may_be_sent_end_the_session(#[case] code: u16, #[case] reason: &str) {
    let mut case = AutobahnCase::start().await;
    case.write(&[masked_frame(CLOSE, &code.to_be_bytes())], Chop::None).await;
    case.ends(0, reason, 0).await;
}

#[rstest]
#[case::autobahn_7_9_1(0)]
#[case::autobahn_7_9_2(999)]
#[case::autobahn_7_9_3(1004)]
#[case::autobahn_7_9_4(1005)]
#[case::autobahn_7_9_5(1006)]
#[case::autobahn_7_9_6(1016)]
#[case::autobahn_7_9_7(1100)]
#[case::autobahn_7_9_8(2000)]
#[case::autobahn_7_9_9(2999)]
#[case::autobahn_7_13_1(5000)]
#[case::autobahn_7_13_2(65_535)]
#[tokio::test]
async fn a18_codes_that_may_not_be_sent_fail_the_connection(#[case] code: u16) {
    let mut case = AutobahnCase::start().await;
    case.write(&[masked_frame(CLOSE, &code.to_be_bytes())], Chop::None).await;
    case.fails("bad_websocket_frame", 0).await;
}
