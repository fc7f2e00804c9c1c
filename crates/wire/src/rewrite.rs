//! Headers the gateway writes: the canonical header of a forwarded request, a push without its destinations,
//! the gateway's own answers and sign-outs (protocol §4.5, §4.6, §4.9, §9).
//!
//! A client's header is never appended to: readers disagree on which of two equal keys counts. It is written
//! anew, each known field once, in field order, defaults left out, which is what prost would write.

use bytes::Bytes;
use prost::Message as _;

use crate::command;
use crate::dialect::Dialect;
use crate::fields::{COUNTED, VARINT, key};
use crate::header::{HeaderView, MetaView, field};
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
    encode_logic(dialect, forwarded_len(view, dialect, origin), body, |out| {
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
    })
}

/// Bytes of the header that [`forward`] writes, or more where the client wrote its metas at greater length.
fn forwarded_len(view: &HeaderView<'_>, dialect: Dialect, origin: &Origin<'_>) -> usize {
    let text_len = |text: &str| bytes_len(text.as_bytes());
    let mut len = text_len(view.command) + text_len(origin.channel_id) + text_len(view.dest);
    len += 1 + varint_len(u64::from(view.sequence)) + view.kept_metas_len;
    for meta in &origin_metas(dialect, origin) {
        let meta_len = meta_len(meta);
        len += 1 + varint_len(meta_len as u64) + meta_len;
    }
    len
}

/// The header of a frame made by [`forward`] for one dialect, written again for another: a queued request moved to an
/// instance that speaks differently.
pub fn translate(view: &HeaderView<'_>, to: Dialect, body: Bytes) -> Encoded {
    let meta = |key| view.last_meta(key).unwrap_or_default();
    let gate_id =
        Dialect::ALL.iter().find_map(|dialect| view.last_meta(dialect.gateway_key())).unwrap_or_default();
    let origin = Origin { channel_id: view.channel_id, app: meta("app"), account: meta("account"), gate_id };
    forward(view, to, &origin, body)
}

/// A push or response as clients of one dialect get it: its `dest.*` metas are gone, the rest stands as it stood.
pub fn deliver(view: &HeaderView<'_>, dialect: Dialect, body: Bytes) -> Encoded {
    encode_logic(dialect, view.encoded_len().min(512), body, |out| {
        view.pieces_without_destinations(|piece| out.extend_from_slice(piece));
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
        put_meta(out, &string_meta("reason", reason));
    })
}

fn put_origin(out: &mut Vec<u8>, dialect: Dialect, origin: &Origin<'_>) {
    for meta in &origin_metas(dialect, origin) {
        put_meta(out, meta);
    }
}

fn origin_metas<'a>(dialect: Dialect, origin: &Origin<'a>) -> [MetaView<'a>; 3] {
    [
        string_meta("app", origin.app),
        string_meta("account", origin.account),
        string_meta(dialect.gateway_key(), origin.gate_id),
    ]
}

const fn string_meta<'a>(key: &'static str, value: &'a str) -> MetaView<'a> {
    MetaView { key: key.as_bytes(), value: value.as_bytes(), kind: pb::MetaType::String as i32 }
}

#[inline]
fn put_meta(out: &mut Vec<u8>, meta: &MetaView<'_>) {
    put_counted_head(out, field::META, meta_len(meta));
    put_bytes(out, field::META_KEY, meta.key);
    put_bytes(out, field::META_VALUE, meta.value);
    put_varint(out, field::META_TYPE, kind_on_the_wire(meta));
}

/// A negative enum travels as the ten-byte varint of its sign-extended value, as prost writes it.
const fn kind_on_the_wire(meta: &MetaView<'_>) -> u64 {
    meta.kind as i64 as u64
}

/// Bytes of a meta behind its length.
#[inline]
const fn meta_len(meta: &MetaView<'_>) -> usize {
    let kind = kind_on_the_wire(meta);
    bytes_len(meta.key) + bytes_len(meta.value) + if kind == 0 { 0 } else { 1 + varint_len(kind) }
}

/// Bytes of a field of bytes; none when it has its default.
#[inline]
const fn bytes_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { 1 + varint_len(bytes.len() as u64) + bytes.len() }
}

#[inline]
const fn varint_len(value: u64) -> usize {
    if value < 0x80 {
        return 1;
    }
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[inline]
fn put_text(out: &mut Vec<u8>, number: u32, text: &str) {
    put_bytes(out, number, text.as_bytes());
}

#[inline]
fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_counted_head(out, number, bytes.len());
        out.extend_from_slice(bytes);
    }
}

#[inline]
fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        let key = key_byte(number, VARINT);
        if value < 0x80 {
            out.extend_from_slice(&[key, value as u8]);
        } else {
            out.push(key);
            put_raw_varint(out, value);
        }
    }
}

/// What stands before bytes.
#[inline]
fn put_counted_head(out: &mut Vec<u8>, number: u32, len: usize) {
    let key = key_byte(number, COUNTED);
    // Nearly all of them, in one piece.
    if len < 0x80 {
        out.extend_from_slice(&[key, len as u8]);
    } else {
        out.push(key);
        put_raw_varint(out, len as u64);
    }
}

/// A key takes one byte, because our fields have numbers below 16.
const fn key_byte(number: u32, wire_type: u32) -> u8 {
    key(number, wire_type) as u8
}

#[inline(never)]
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
