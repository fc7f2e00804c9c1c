//! Every metric family: name, labels, and what it tells an operator.

use prometheus::proto::MetricType::{self, COUNTER, GAUGE, HISTOGRAM};

use super::family::Spec;

/// Declares the families as constants and lists them in `ALL`, so that none is forgotten at registration.
macro_rules! descriptors {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(pub(super) static $constant: Spec = spec($name, $kind, &[$($label),*], $help);)+
        /// All of them.
        pub(super) static ALL: &[&Spec] = &[$(&$constant,)+];
    };
}

const fn spec(
    name: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    help: &'static str,
) -> Spec {
    Spec { name, help, kind, labels }
}

descriptors! {
    BUILD_INFO: GAUGE "gateway_build_info" ["version", "commit"]
        "Always 1; the labels say which build is running.";
    CERT_NOT_AFTER: GAUGE "gateway_cert_not_after_seconds" []
        "When the certificate of QUIC and TLS ends, seconds since 1970; without these listeners it is absent.";
    CONNECTIONS: GAUGE "gateway_connections" ["transport"]
        "Client connections open now, those that have not signed in included.";
    OPENED: COUNTER "gateway_connections_opened_total" ["transport"]
        "Client connections accepted since the start.";
    CLOSES: COUNTER "gateway_closes_total" ["transport", "reason"]
        "Client connections ended, by the reason that the client, the log and the sign-out name as well.";
    LOGINS: COUNTER "gateway_logins_total" ["result"]
        "Logins by how they ended; only ok opened a session.";
    AUTO_LOGINS: COUNTER "gateway_auto_logins_total" ["transport"]
        "Logins of clients that took whatever transport got through, by which it was: all but quic are fall-backs. A client says so by a tag.";
    SESSIONS: HISTOGRAM "gateway_session_seconds" []
        "Seconds from a login that was accepted to the end of its session.";
    ACTIVE_ACCOUNTS: GAUGE "gateway_active_accounts" ["period"]
        "Different accounts that were connected in an hour or a day of UTC, since the start of this process, up to a minute ago and give or take 5 %. An account at two gateways counts at both.";
    RENEWALS: COUNTER "gateway_renewals_total" ["result"]
        "Tokens that signed-in clients sent in place of theirs, by how it ended; without ok a session ends when its old token does, if auth.on_expiry is close.";
    PACKETS: COUNTER "gateway_packets_total" ["direction", "command"]
        "Packets from (in) and to (out) clients, heartbeats not included; commands not known by name count as other.";
    BYTES: COUNTER "gateway_bytes_total" ["direction", "command"]
        "Bytes of those packets with their frame heads, without transport overhead.";
    HEARTBEATS: COUNTER "gateway_heartbeats_total" ["kind"]
        "Heartbeats of clients answered, by frame ping or packet ping.";
    REQUESTS_RECEIVED: COUNTER "gateway_requests_received_total" []
        "Well-formed requests on open sessions, and sign-ins, refused ones included; equals forwarded plus rejected whenever nothing is in progress.";
    REQUESTS_FORWARDED: COUNTER "gateway_requests_forwarded_total" []
        "Requests, sign-ins included, of which a logic instance may have got the first byte. Received = forwarded + rejected + still queued.";
    REQUESTS_REJECTED: COUNTER "gateway_requests_rejected_total" []
        "Requests the gateway answered itself without giving them to a logic instance.";
    PENDING: GAUGE "gateway_pending_requests" []
        "Requests that wait for their answer now.";
    ANSWERS: COUNTER "gateway_answers_total" ["status", "origin"]
        "Answers to clients by status, and whether a logic service or the gateway wrote them.";
    LATENCY: HISTOGRAM "gateway_request_seconds" []
        "Seconds from the arrival of a request to its answer, those the gateway wrote included.";
    PUSHES_DELIVERED: COUNTER "gateway_pushes_delivered_total" []
        "Pushes written to a client whole; one push to ten clients counts ten.";
    PUSHES_RECEIVED: COUNTER "gateway_pushes_received_total" []
        "Pushes from logic services times the clients they named. Received = delivered + dropped + still queued.";
    PUSH_DROPS: COUNTER "gateway_push_drops_total" ["reason"]
        "Pushes that did not reach a client they named, by reason.";
    REJECTS: COUNTER "gateway_reject_total" ["reason"]
        "Events outside the normal course, by reason: input refused, ignored or corrected, and faults survived.";
    QUEUED_MESSAGES: GAUGE "gateway_queued_messages" []
        "Messages waiting to be written to clients now.";
    QUEUED_BYTES: GAUGE "gateway_queued_bytes" []
        "Bytes waiting to be written to clients now.";
    PARTIAL_BYTES: GAUGE "gateway_partial_bytes" []
        "Bytes of frames of clients whose end has not come; with the queued bytes they may be as many as queue_limit.";
    BEFORE_LOGIN_BYTES: GAUGE "gateway_before_login_bytes" []
        "Memory of connections that have not signed in now, by what one is known to cost; at before_login_limit new ones are refused.";
    MAX_CONNECTIONS: GAUGE "gateway_max_connections" []
        "Client connections there may be: limits.max_connections, or what the open-file limit leaves.";
    OVERLOAD_LEVEL: GAUGE "gateway_overload_level" []
        "What overload demands now: 0 nothing, 1 logins are refused, 2 the largest queues are shed as well, 3 the newest connections are closed as well.";
    BACKENDS_PAUSED: GAUGE "gateway_backends_paused" []
        "1 while logic services are read slowly, because more is queued for clients than may be; else 0.";
    MEMORY: GAUGE "gateway_memory_bytes" ["kind"]
        "Bytes the process has in memory (resident), may have (limit), may queue for all clients (queue_limit), and may use for those who have not signed in (before_login_limit).";
    WORKER_CONNECTIONS: GAUGE "gateway_worker_connections" ["worker"]
        "Client connections open now, by worker.";
    LOOP_LAG: GAUGE "gateway_loop_lag_seconds" ["worker"]
        "The worst delay of a worker's timer within the last 15 to 30 seconds; a loop that is blocked now counts already.";
    SIGNOUTS: COUNTER "gateway_signouts_total" ["outcome"]
        "Sign-outs by outcome; given_up means that a login service still believes a user to be online.";
    SIGNOUTS_WAITING: GAUGE "gateway_signouts_waiting" []
        "Sign-outs owed to the login service and not written yet.";
    SIGNOUT_ANSWERS: COUNTER "gateway_signout_answers_total" ["status"]
        "Answers of login services to sign-outs, by status; nobody waits for them, and the embedded service sends none. At most as many as sign-outs were written.";
    ZONE_FALLBACK: COUNTER "gateway_zone_fallback_total" ["zone"]
        "Requests, sign-ins and sign-outs whose zone had no instance of the service, so that another zone's was chosen; one that moves on from a lost instance counts again.";
    SPILLED: COUNTER "gateway_spilled_total" []
        "Channels that were new to a service and went to the next instance of the zone, because that of their account was overloaded.";
    PATH_CHANGES: COUNTER "gateway_path_changes_total" ["outcome"]
        "Changes of a QUIC client's address, by whether it proved to be at the new one; abuse: one too many in a minute, closed 3506.";
    UNPROVEN_BYTES: COUNTER "gateway_unproven_bytes_total" ["direction"]
        "UDP payload from (in) and to (out) addresses that have not proven themselves; out is never more than three times in.";
    LINK_STATE: GAUGE "gateway_link_state" ["service", "instance", "zone", "state"]
        "1 for the state a link to a logic instance is in, 0 for the others; healthy takes requests, warming only while its service has no healthy instance, ejected one half-open.";
    LINK_TRANSITIONS: COUNTER "gateway_link_transitions_total" ["to"]
        "Times a link to a logic instance went into a state, over all instances; ejected counts those that hung or did not answer.";
    LINK_RECONNECTS: COUNTER "gateway_link_reconnects_total" ["service", "instance", "zone"]
        "Times a link came up again after it had been lost.";
    LINK_REQUESTS: COUNTER "gateway_link_requests_sent_total" ["service", "instance", "zone"]
        "Requests and sign-ins of which a logic instance may have got the first byte.";
    LINK_PUSHES: COUNTER "gateway_link_pushes_received_total" ["service", "instance", "zone"]
        "Pushes received from a logic instance, whatever became of them.";
    LINK_QUEUED_PACKETS: GAUGE "gateway_link_queued_packets" ["service", "instance", "zone"]
        "Packets waiting to be written to a logic instance now.";
    LINK_QUEUED_BYTES: GAUGE "gateway_link_queued_bytes" ["service", "instance", "zone"]
        "Bytes waiting to be written to a logic instance now.";
    DISCOVERY_ERRORS: COUNTER "gateway_discovery_errors_total" ["kind"]
        "What went wrong between the gateway and Consul, and entries there that cannot be used; the last good instances stay in use.";
    DISCOVERY_UPDATES: COUNTER "gateway_discovery_updates_total" []
        "Times the instances of a service changed.";
    DISCOVERY_INSTANCES: GAUGE "gateway_discovery_instances" ["service"]
        "Instances of a service that are known, linked or not.";
    DISCOVERY_LAST_SUCCESS: GAUGE "gateway_discovery_last_success_timestamp_seconds" []
        "When Consul last answered as it should, seconds since 1970; absent before the first time and with a static list.";
    JWKS_REFRESHES: COUNTER "gateway_jwks_refreshes_total" ["outcome"]
        "Fetches of the keys of tokens, by how they ended; after one that is not ok the last keys stay in use.";
    JWKS_KEYS: GAUGE "gateway_jwks_keys" []
        "Keys of tokens the last good fetch brought.";
    JWKS_LAST_SUCCESS: GAUGE "gateway_jwks_last_success_timestamp_seconds" []
        "When the keys of tokens were last fetched, seconds since 1970; absent before the first time and where none are fetched.";
    DNS_ERRORS: COUNTER "gateway_dns_errors_total" ["kind"]
        "Names not resolved: look-ups that failed, askers that did not wait for one any longer (late), and names beyond those that are remembered (full). Last good answers stay in use.";
    DNS_LOOKUPS: GAUGE "gateway_dns_lookups" []
        "Look-ups of names under way now, those that wait for a thread included; a number that stays above 0 means that the resolver hangs.";
    LOG_DROPPED: COUNTER "gateway_log_dropped_total" []
        "Lines of the log that were lost, because nobody read them or the disk was full.";
    EVENTS: COUNTER "gateway_events_total" ["event"]
        "Times a condition began that the administrator is told about, those not told because they came too often included.";
    EVENTS_ACTIVE: GAUGE "gateway_events_active" ["event"]
        "Conditions of that kind that hold now.";
    WEBHOOK_DELIVERIES: COUNTER "gateway_webhook_deliveries_total" ["outcome"]
        "Events taken by the webhook, attempts that failed and are made again, and events dropped because 1,000 waited.";
    WEBHOOK_QUEUED: GAUGE "gateway_webhook_queued" []
        "Events that wait for the webhook now.";
    TRACE_SPANS: COUNTER "gateway_trace_spans_total" ["outcome"]
        "Spans the collector took, those lost because it did not, and those dropped because too many waited; absent without tracing.endpoint.";
    ADMINISTERED: COUNTER "gateway_admin_changes_total" ["change", "result"]
        "Orders of the administrator, by what was ordered and what came of it.";
    X_IM_IN_TOTAL: COUNTER "x_im_message_in_total" ["serviceId", "serviceName", "command"]
        "The original's name for gateway_packets_total of direction in; here sign-ins are counted as well.";
    X_IM_IN_BYTES: COUNTER "x_im_message_in_flow_bytes" ["serviceId", "serviceName", "command"]
        "The original's name for gateway_bytes_total of direction in; here with the 5 bytes of each frame's head.";
    X_IM_OUT_BYTES: COUNTER "x_im_message_out_flow_bytes" ["command"]
        "The original's name for gateway_bytes_total of direction out: pushes and answers, per client that gets them.";
    X_IM_NO_SERVER: COUNTER "x_im_no_server_found_error_total" ["zone"]
        "Packets whose zone had no instance of the service: those of gateway_zone_fallback_total, and requests refused because no zone had one.";
}
