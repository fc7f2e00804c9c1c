//! Headers the gateway writes: the canonical header of a forwarded request, a push without its destinations,
//! the gateway's own answers and sign-outs (protocol §4.5, §4.6, §4.9, §9).
//!
//! A client's header is never appended to: readers disagree on which of two equal keys counts. It is written
//! anew, each known field once, in field order, defaults left out, which is what prost would write.

use bytes::Bytes;
use prost::Message as _;

use crate::command;
use crate::dialect::Dialect;
use crate::header::{HeaderView, MetaView, TRACEPARENT, field};
use crate::packet::{Encoded, encode_logic};
use crate::pb;

/// Who a request comes from: always the gateway's own knowledge (G7).
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Of the channel.
    pub channel_id: &'a str,
    /// From the token.
    pub app: &'a str,
    /// From the token.
    pub account: &'a str,
    /// Of the worker that holds the channel.
    pub gate_id: &'a str,
}

/// What a client's header claimed that it must not; counted, never closed upon (rows A16, B1–B4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgeries {
    /// A reserved meta key was present.
    pub meta: bool,
    /// A channel id other than the channel's was present.
    pub channel: bool,
    /// Flag or status were not those of a request.
    pub normalised: bool,
}

/// What [`forward`] is going to overwrite.
pub fn forgeries(view: &HeaderView<'_>, channel_id: &str) -> Forgeries {
    Forgeries {
        meta: view.has_reserved_meta,
        channel: !view.channel_id.is_empty() && view.channel_id != channel_id,
        normalised: view.flag != pb::Flag::Request as i32 || view.status != pb::Status::Success as i32,
    }
}

/// A client's request as a logic service gets it.
pub fn forward(view: &HeaderView<'_>, dialect: Dialect, origin: &Origin<'_>, body: Bytes) -> Encoded {
    forward_traced(view, dialect, origin, "", body)
}

/// The same, with the trace it belongs to where that is not empty.
pub fn forward_traced(
    view: &HeaderView<'_>,
    dialect: Dialect,
    origin: &Origin<'_>,
    traceparent: &str,
    body: Bytes,
) -> Encoded {
    let own = origin.channel_id.len() + origin.app.len() + origin.account.len() + origin.gate_id.len();
    encode_logic(dialect, view.encoded_len() + own + 64 + 2 * traceparent.len(), body, |out| {
        put_text(out, field::COMMAND, view.command);
        put_text(out, field::CHANNEL_ID, origin.channel_id);
        put_varint(out, field::SEQUENCE, u64::from(view.sequence));
        put_text(out, field::DEST, view.dest);
        // Most headers hold none: no second pass for them.
        if view.meta_count > 0 {
            for meta in view.metas().filter(|meta| !meta.is_reserved()) {
                put_meta(out, &meta);
            }
        }
        put_origin(out, dialect, origin);
        if !traceparent.is_empty() {
            put_string_meta(out, TRACEPARENT, traceparent);
        }
    })
}

/// The header of a frame made by [`forward`] for one dialect, written again for another: a queued request moved to an
/// instance that speaks differently.
pub fn translate(view: &HeaderView<'_>, to: Dialect, body: Bytes) -> Encoded {
    let meta = |key| view.last_meta(key).unwrap_or_default();
    let gate_id =
        Dialect::ALL.iter().find_map(|dialect| view.last_meta(dialect.gateway_key())).unwrap_or_default();
    let origin = Origin { channel_id: view.channel_id, app: meta("app"), account: meta("account"), gate_id };
    forward_traced(view, to, &origin, meta(TRACEPARENT), body)
}

/// A push or response as clients of one dialect get it: its `dest.*` metas and those of a trace are gone, the rest stands as it stood.
pub fn deliver(view: &HeaderView<'_>, dialect: Dialect, body: Bytes) -> Encoded {
    encode_logic(dialect, view.encoded_len().min(512), body, |out| {
        for item in view.fields().filter(|item| !item.is_for_services()) {
            out.extend_from_slice(item.raw);
        }
    })
}

/// Longest command echoed in an answer, bytes.
const MAX_ECHO: usize = 256;

/// An answer the gateway makes itself: command, sequence, channel id and dest of the request, no metas, and an
/// `ErrorResp` with a short fixed text.
pub fn answer(view: &HeaderView<'_>, dialect: Dialect, status: pb::Status, message: &'static str) -> Encoded {
    let body: Bytes = pb::ErrorResp { message: message.to_owned() }.encode_to_vec().into();
    encode_logic(dialect, view.encoded_len().min(1024) + 16, body, |out| {
        put_text(out, field::COMMAND, echo(view.command));
        put_text(out, field::CHANNEL_ID, view.channel_id);
        put_varint(out, field::SEQUENCE, u64::from(view.sequence));
        put_varint(out, field::FLAG, pb::Flag::Response as u64);
        put_varint(out, field::STATUS, status as u64);
        put_text(out, field::DEST, view.dest);
    })
}

/// Tells the login service that a channel ended (protocol §4.9).
pub fn signout(dialect: Dialect, origin: &Origin<'_>, reason: &str) -> Encoded {
    encode_logic(dialect, 256, Bytes::new(), |out| {
        put_text(out, field::COMMAND, command::LOGIN_SIGNOUT);
        put_text(out, field::CHANNEL_ID, origin.channel_id);
        put_origin(out, dialect, origin);
        put_string_meta(out, "reason", reason);
    })
}

fn put_origin(out: &mut Vec<u8>, dialect: Dialect, origin: &Origin<'_>) {
    put_string_meta(out, "app", origin.app);
    put_string_meta(out, "account", origin.account);
    put_string_meta(out, dialect.gateway_key(), origin.gate_id);
}

fn put_string_meta(out: &mut Vec<u8>, key: &str, value: &str) {
    put_meta(out, &MetaView { key, value, kind: pb::MetaType::String as i32 });
}

fn put_meta(out: &mut Vec<u8>, meta: &MetaView<'_>) {
    // A negative enum travels as the ten-byte varint of its sign-extended value, as prost writes it.
    let kind = meta.kind as i64 as u64;
    let len = text_len(meta.key) + text_len(meta.value) + if kind == 0 { 0 } else { 1 + varint_len(kind) };
    put_key(out, field::META, 2);
    put_raw_varint(out, len as u64);
    put_text(out, field::META_KEY, meta.key);
    put_text(out, field::META_VALUE, meta.value);
    put_varint(out, field::META_TYPE, kind);
}

/// Bytes of a string field with a one-byte key; none when it has its default.
fn text_len(text: &str) -> usize {
    if text.is_empty() { 0 } else { 1 + varint_len(text.len() as u64) + text.len() }
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_text(out: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        put_key(out, number, 2);
        put_raw_varint(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_key(out, number, 0);
        put_raw_varint(out, value);
    }
}

fn put_key(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    put_raw_varint(out, u64::from(number << 3 | wire_type));
}

fn put_raw_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The command, cut at a character boundary where it is longer than may be echoed.
fn echo(command: &str) -> &str {
    let mut end = command.len().min(MAX_ECHO);
    while !command.is_char_boundary(end) {
        end -= 1;
    }
    &command[..end]
}
