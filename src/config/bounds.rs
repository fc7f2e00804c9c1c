//! Which values `[limits]` may take: what keeps the gateway able to serve at all, and clients able to rely on it.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::limits::{KIB, Limits, MAX_FRAME_HARD, NEWCOMER_QUIC_HANDSHAKE};

/// Clients give up after 5 s: what the gateway answers for others must be there before.
const BELOW_CLIENT_PATIENCE: Duration = Duration::from_millis(4999);

/// Longest time that can be set: a day. It keeps every deadline far from the end of the clock.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Largest count that can be set; what is counted is held in tables.
const MOST: usize = 100_000_000;

/// Most streams per QUIC client: quinn sets memory aside for each that is permitted.
const MOST_STREAMS: usize = 256;

/// Smallest receive or send window that moves data at all, bytes.
const SMALLEST_WINDOW: usize = KIB;

/// Largest window and largest frame of a logic service, bytes.
const LARGEST_BUFFER: usize = 256 * KIB * KIB;

/// Smallest memory budget, bytes: less does not hold an idle gateway.
const SMALLEST_MEMORY: usize = 32 * KIB * KIB;

/// Longest account that can be allowed, bytes: it becomes labels and keys elsewhere.
const LONGEST_ACCOUNT: usize = KIB;

/// Ten clients that shake hands over QUIC: less would keep honest ones out.
const SMALLEST_BEFORE_LOGIN: usize = 10 * NEWCOMER_QUIC_HANDSHAKE;

/// The first limit that is out of bounds: its key without the section, and what is wrong.
pub(super) fn check(limits: &Limits) -> Result<(), (&'static str, String)> {
    check_client_sizes(limits)?;
    check_counts(limits)?;
    check_durations(limits)?;
    check_quic_and_links(limits)?;
    check_process(limits)?;
    if limits.backoff_first > limits.backoff_max {
        return Err(("backoff_first", above_other("limits.backoff_max")));
    }
    if limits.backend_ejected > limits.backend_ejected_max {
        return Err(("backend_ejected", above_other("limits.backend_ejected_max")));
    }
    Ok(())
}

type Checked = Result<(), (&'static str, String)>;

fn check_client_sizes(limits: &Limits) -> Checked {
    number("max_frame", limits.max_frame, KIB..=MAX_FRAME_HARD)?;
    number("max_frame_before_login", limits.max_frame_before_login, 128..=limits.max_frame)?;
    number("max_header", limits.max_header, 64..=limits.max_frame)?;
    number("max_metas", limits.max_metas, 1..=KIB)?;
    number("max_string", limits.max_string, 16..=limits.max_header)?;
    number("max_channel_id", limits.max_channel_id, 16..=limits.max_header)?;
    number("max_token", limits.max_token, 64..=limits.max_frame_before_login)?;
    number("max_account", limits.max_account, 1..=LONGEST_ACCOUNT)?;
    number("max_queued_messages", limits.max_queued_messages, 1..=MOST)?;
    number("max_queued_bytes", limits.max_queued_bytes, 1..=LARGEST_BUFFER)?;
    let hard = limits.max_queued_messages_hard;
    number("max_queued_messages_hard", hard, limits.max_queued_messages..=MOST)?;
    let hard = limits.max_queued_bytes_hard;
    number("max_queued_bytes_hard", hard, limits.max_queued_bytes..=LARGEST_BUFFER)
}

fn check_counts(limits: &Limits) -> Checked {
    for (key, value) in [
        ("max_logins_waiting", limits.max_logins_waiting),
        ("max_connections", limits.max_connections),
        ("max_handshakes", limits.max_handshakes),
        ("max_pending", limits.max_pending),
        ("backend_max_channels", limits.backend_max_channels),
        ("backend_queued_packets", limits.backend_queued_packets),
    ] {
        number(key, value, 1..=MOST)?;
    }
    // With one, a link would be dead before it is asked.
    number("backend_misses", limits.backend_misses as usize, 2..=MOST)
}

fn check_durations(limits: &Limits) -> Checked {
    for (key, value) in [("login_answer", limits.login_answer), ("request_deadline", limits.request_deadline)]
    {
        duration(key, value, BELOW_CLIENT_PATIENCE, " (clients give up at 5s)")?;
    }
    for (key, value) in [
        ("login_deadline", limits.login_deadline),
        ("handshake_deadline", limits.handshake_deadline),
        ("handshake_deadline_crowded", limits.handshake_deadline_crowded),
        ("frame_deadline", limits.frame_deadline),
        ("read_idle", limits.read_idle),
        ("write_stall", limits.write_stall),
        ("max_queued_time", limits.max_queued_time),
        ("tcp_user_timeout", limits.tcp_user_timeout),
        ("quic_idle", limits.quic_idle),
        ("backend_ping", limits.backend_ping),
        ("backend_frame_deadline", limits.backend_frame_deadline),
        ("backend_dial", limits.backend_dial),
        ("backend_warming", limits.backend_warming),
        ("backend_returned_within", limits.backend_returned_within),
        ("backend_ejected", limits.backend_ejected),
        ("backend_ejected_max", limits.backend_ejected_max),
        ("backoff_first", limits.backoff_first),
        ("backoff_max", limits.backoff_max),
        ("signout_retry", limits.signout_retry),
    ] {
        duration(key, value, LONGEST, "")?;
    }
    Ok(())
}

fn check_quic_and_links(limits: &Limits) -> Checked {
    number("quic_streams", limits.quic_streams as usize, 1..=MOST_STREAMS)?;
    for (key, value) in [
        ("quic_stream_window", limits.quic_stream_window as usize),
        ("quic_connection_window", limits.quic_connection_window as usize),
        ("quic_send_window", limits.quic_send_window as usize),
        ("backend_max_frame", limits.backend_max_frame),
        ("backend_queued_bytes", limits.backend_queued_bytes),
    ] {
        number(key, value, SMALLEST_WINDOW..=LARGEST_BUFFER)?;
    }
    number("max_push", limits.max_push, KIB..=limits.backend_max_frame)
}

/// What bounds the process as a whole; 0 leaves a size to the machine and switches a rate off.
fn check_process(limits: &Limits) -> Checked {
    if limits.memory != 0 {
        number("memory", limits.memory, SMALLEST_MEMORY..=usize::MAX)?;
    }
    if limits.queued_bytes != 0 {
        number("queued_bytes", limits.queued_bytes, limits.max_queued_bytes..=usize::MAX)?;
    }
    if limits.before_login_bytes != 0 {
        number("before_login_bytes", limits.before_login_bytes, SMALLEST_BEFORE_LOGIN..=usize::MAX)?;
    }
    if limits.memory != 0 && limits.before_login_bytes > limits.memory {
        return Err(("before_login_bytes", above_other("limits.memory")));
    }
    for (key, value) in [
        ("address_connections_share", limits.address_connections_share),
        ("address_handshakes_share", limits.address_handshakes_share),
    ] {
        number(key, value as usize, 1..=100)?;
    }
    if limits.memory != 0 && limits.queued_bytes > limits.memory {
        return Err(("queued_bytes", above_other("limits.memory")));
    }
    for (key, value) in [
        ("address_connection_burst", limits.address_connection_burst),
        ("account_login_burst", limits.account_login_burst),
    ] {
        number(key, value as usize, 1..=MOST)?;
    }
    for (key, value) in [
        ("retry_from_rate", limits.retry_from_rate),
        ("connections_per_second", limits.connections_per_second),
        ("address_connections_per_second", limits.address_connections_per_second),
        ("account_logins_per_second", limits.account_logins_per_second),
    ] {
        number(key, value as usize, 0..=MOST)?;
    }
    Ok(())
}

fn number(key: &'static str, value: usize, allowed: RangeInclusive<usize>) -> Checked {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err((key, format!("is {value}; allowed is {} to {}", allowed.start(), allowed.end())))
}

fn duration(key: &'static str, value: Duration, longest: Duration, why: &str) -> Checked {
    // Nothing here is measured in less than milliseconds.
    let shortest = Duration::from_millis(1);
    if (shortest..=longest).contains(&value) {
        return Ok(());
    }
    let [value, shortest, longest] = [value, shortest, longest].map(humantime::format_duration);
    Err((key, format!("is {value}; allowed is {shortest} to {longest}{why}")))
}

/// For a value that must not exceed that of another key.
pub(super) fn above_other(other: &str) -> String {
    format!("is above {other}; allowed is at most that")
}

/// From the signal to the exit of a draining process.
pub(super) fn check_hard_stop(hard_stop: Duration) -> Checked {
    duration("hard_stop", hard_stop, LONGEST, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_bounds() {
        assert_eq!(check(&Limits::default()), Ok(()));
    }

    /// Every number and every duration has a bound below: none may be zero but those that are switches.
    #[test]
    fn zero_is_refused_wherever_it_is_no_switch() {
        let switches = [
            "frames_per_second",
            "bytes_per_second",
            "quic_streams_per_minute",
            "retry_from",
            "retry_from_rate",
            "before_login_bytes",
            "backend_timeouts",
            "memory",
            "queued_bytes",
            "connections_per_second",
            "address_connections_per_second",
            "account_logins_per_second",
        ];
        let defaults = toml::Table::try_from(Limits::default()).unwrap();
        assert!(defaults.len() > 40);
        for (key, value) in &defaults {
            let mut changed = defaults.clone();
            let zero = if value.is_integer() { toml::Value::from(0) } else { toml::Value::from("0s") };
            changed.insert(key.clone(), zero);
            let outcome = check(&changed.try_into::<Limits>().unwrap());
            if switches.contains(&key.as_str()) {
                assert_eq!(outcome, Ok(()), "{key}");
            } else {
                let (named, problem) = outcome.unwrap_err();
                assert!(named == key || key == "backoff_max", "{key}: {named}");
                assert!(problem.contains("allowed"), "{problem}");
            }
        }
    }

    #[test]
    fn the_promises_to_clients_hold() {
        let refused = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            check(&limits).unwrap_err()
        };
        let (key, problem) = refused(|limits| limits.max_frame = MAX_FRAME_HARD + 1);
        assert_eq!((key, problem.as_str()), ("max_frame", "is 1048577; allowed is 1024 to 1048576"));
        let (key, problem) = refused(|limits| limits.request_deadline = Duration::from_secs(5));
        assert_eq!(key, "request_deadline");
        assert_eq!(problem, "is 5s; allowed is 1ms to 4s 999ms (clients give up at 5s)");
        assert_eq!(refused(|limits| limits.login_answer = Duration::from_secs(9)).0, "login_answer");
        assert_eq!(refused(|limits| limits.memory = 1024).0, "memory");
        assert_eq!(refused(|limits| limits.queued_bytes = 1024).0, "queued_bytes");
        let (key, problem) = refused(|limits| (limits.memory, limits.queued_bytes) = (1 << 26, 1 << 27));
        assert_eq!(
            (key, problem.as_str()),
            ("queued_bytes", "is above limits.memory; allowed is at most that")
        );
        assert_eq!(refused(|limits| limits.backoff_first = Duration::from_secs(9)).0, "backoff_first");
    }
}
