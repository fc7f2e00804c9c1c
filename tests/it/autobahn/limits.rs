//! Group 9: large messages, many fragments, small writes, many messages.

use rstest::rstest;

use super::{AutobahnCase, BINARY, Chop, fragments};
use crate::support::websocket::masked_frame;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Of a gateway that takes the largest frames that can be configured.
async fn large() -> AutobahnCase {
    AutobahnCase::with_limits(|limits| limits.max_frame = MIB).await
}

#[rstest]
#[case::autobahn_9_2_1(64 * KIB)]
#[case::autobahn_9_2_2(256 * KIB)]
#[case::autobahn_9_2_3(MIB)]
#[tokio::test]
async fn large_messages(#[case] len: usize) {
    let mut case = large().await;
    let message = case.request_of(len);
    case.write(&[masked_frame(BINARY, &message)], Chop::None).await;
    case.echoed().await;
    case.goes_on().await;
}

/// At the head, so that nothing need be sent behind it.
#[rstest]
#[case::one_byte(MIB + 1)]
#[case::autobahn_9_2_4(4 * MIB)]
#[case::autobahn_9_2_5(8 * MIB)]
#[case::autobahn_9_2_6(16 * MIB)]
#[tokio::test]
async fn messages_above_the_limit_are_refused_by_their_head(#[case] len: usize) {
    let mut case = large().await;
    let whole = masked_frame(BINARY, &vec![0; len]);
    case.write(&[whole[..14].to_vec()], Chop::None).await;
    case.ends(3504, "frame_too_big", 0).await;
}

#[rstest]
#[case::autobahn_9_4_2(256)]
#[case::autobahn_9_4_3(KIB)]
#[case::autobahn_9_4_4(4 * KIB)]
#[case::autobahn_9_4_5(16 * KIB)]
#[case::autobahn_9_4_6(64 * KIB)]
#[case::autobahn_9_4_7(256 * KIB)]
#[case::autobahn_9_4_8(MIB)]
#[tokio::test]
async fn a_large_message_in_fragments(#[case] len: usize) {
    let mut case = large().await;
    let message = case.request_of(MIB);
    case.write(&fragments(&message, len), Chop::None).await;
    case.echoed().await;
    case.goes_on().await;
}

/// A message of few bytes and many heads costs as much as one of many bytes.
#[tokio::test]
async fn a19_autobahn_9_4_1_more_fragments_than_any_client_needs_are_refused() {
    let mut case = large().await;
    let message = case.request_of(MIB);
    case.write(&fragments(&message, 64), Chop::None).await;
    case.ends(3504, "frame_too_big", 0).await;
}

/// The sum counts, at the head with which it is too much.
#[tokio::test]
async fn a19_autobahn_9_4_9_fragments_that_are_too_much_together_are_refused() {
    let mut case = large().await;
    let frames = fragments(&vec![0; 4 * MIB], 512 * KIB);
    case.write(&[frames[..2].concat(), frames[2][..14].to_vec()], Chop::Frames).await;
    case.ends(3504, "frame_too_big", 0).await;
}

#[rstest]
#[case::autobahn_9_6_1(64)]
#[case::autobahn_9_6_2(128)]
#[case::autobahn_9_6_3(256)]
#[case::autobahn_9_6_4(512)]
#[case::autobahn_9_6_5(KIB)]
#[case::autobahn_9_6_6(2 * KIB)]
#[tokio::test]
async fn a_large_message_in_small_writes(#[case] len: usize) {
    let mut case = large().await;
    let message = case.request_of(MIB);
    case.write(&[masked_frame(BINARY, &message)], Chop::Bytes(len)).await;
    case.echoed().await;
    case.goes_on().await;
}

/// From the shortest request there is.
#[rstest]
#[case::autobahn_9_8_3(64)]
#[case::autobahn_9_8_4(256)]
#[case::autobahn_9_8_5(KIB)]
#[case::autobahn_9_8_6(4 * KIB)]
#[tokio::test]
async fn a_thousand_round_trips(#[case] len: usize) {
    let mut case = AutobahnCase::start().await;
    for _ in 0..1000 {
        let message = case.request_of(len);
        case.write(&[masked_frame(BINARY, &message)], Chop::None).await;
        let sequence = *case.begun.last().unwrap();
        assert_eq!(case.client.response(sequence).await.header.status, 0);
    }
    assert_eq!(case.harness.chat.packets(super::TALK).len(), 1000);
    case.goes_on().await;
}
