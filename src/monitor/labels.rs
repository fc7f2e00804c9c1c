//! The closed sets of label values. A counter is split by these and by nothing a peer can choose (row F9).

/// Declares an enum whose values are a label: `ALL`, `COUNT`, `label` and `index` cannot disagree with it.
macro_rules! label_set {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// How many values there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The label in the metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// Position in `ALL`, for counters kept in arrays.
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(super) use label_set;

label_set! {
    /// How a client is connected.
    Transport {
        /// QUIC.
        Quic = "quic",
        /// Frames on plain TCP.
        Tcp = "tcp",
        /// The same over TLS.
        Tls = "tls",
        /// WebSocket on plain TCP.
        Ws = "ws",
        /// The same over TLS.
        Wss = "wss",
    }
}

label_set! {
    /// Which way a client's packet went.
    Direction {
        /// From a client.
        In = "in",
        /// To a client.
        Out = "out",
    }
}

label_set! {
    /// Which of the two independent heartbeats of protocol §2 was answered.
    Heartbeat {
        /// Frame ping, opcode 0x9.
        Frame = "frame",
        /// BasicPkt ping, code 1.
        Basic = "basic",
    }
}

label_set! {
    /// Who wrote an answer.
    AnswerOrigin {
        /// A logic service.
        Service = "service",
        /// The gateway itself: refused, timed out, link lost.
        Gateway = "gateway",
    }
}

label_set! {
    /// Why a push did not reach a channel it was meant for.
    PushDrop {
        /// No such channel here (row E6).
        NoChannel = "no_channel",
        /// The channel was being closed.
        Closing = "closing",
        /// The client's queue was full; the channel closes 3002.
        SlowConsumer = "slow_consumer",
        /// `dest.channels` is missing or empty (row E5).
        NoDestination = "no_destination",
        /// The push names another gateway (row E5).
        WrongGateway = "wrong_gateway",
        /// More channel ids than one push may name; dropped whole.
        TooMany = "too_many",
        /// Larger than `limits.max_push`; dropped whole.
        TooLarge = "too_large",
        /// It could not be read (row E4).
        BadPacket = "bad_packet",
    }
}

label_set! {
    /// What became of a sign-out.
    Signout {
        /// Its last byte was written to a logic service.
        Written = "written",
        /// None was due: the login service kicked the channel itself.
        AfterKick = "after_kick",
        /// Dropped: a later sign-in of the same app and account had been forwarded meanwhile.
        Superseded = "superseded",
        /// Dropped: no logic service took it in time.
        GivenUp = "given_up",
    }
}

label_set! {
    /// State of a link to a logic instance, from best to worst. Over several workers the worst one is shown.
    LinkState {
        /// Connected and answering: the selector may choose it.
        Healthy = "healthy",
        /// Connected and new: the selector may choose it while its service has no healthy instance.
        Warming = "warming",
        /// Connected, and it did not answer before: ejected for a while, or half-open with one request.
        Ejected = "ejected",
        /// Connecting, or waiting for the first sign of life.
        Dialling = "dialling",
        /// Lost, not reachable or refused; waiting before the next attempt.
        Broken = "broken",
    }
}

label_set! {
    /// What went wrong with the source of instances: `gateway_discovery_errors_total`.
    DiscoveryError {
        /// The name of Consul's host could not be resolved (E10).
        Dns = "dns",
        /// No connection, or one that broke.
        Unreachable = "unreachable",
        /// No whole answer in time (E9).
        Timeout = "timeout",
        /// The token lacks a permission, or is none.
        Denied = "denied",
        /// Another status than 200 (E9).
        Status = "status",
        /// An answer that is not Consul's (E9).
        BadAnswer = "bad_answer",
        /// Consul's index went backwards or was 0, so the watch began anew (E9).
        IndexReset = "index_reset",
        /// No usable instance of a service that had some; they were kept (E9).
        Empty = "empty",
        /// More than half of a service was gone at once; held back (E11).
        Shrunk = "shrunk",
        /// An entry whose zone is not in the route: it serves as a last resort, or is skipped.
        BadZone = "bad_zone",
        /// An entry that serves something else than plain TCP.
        OtherProtocol = "other_protocol",
        /// An entry without a usable id, address or dialect.
        BadEntry = "bad_entry",
        /// An entry with the id or the address of a newer one (E12).
        Duplicate = "duplicate",
        /// A task of discovery panicked, and was begun again.
        TaskPanic = "task_panic",
    }
}

label_set! {
    /// Why a name was not resolved.
    DnsError {
        /// The resolver said so.
        Failed = "failed",
        /// It did not answer in time.
        Late = "late",
        /// Too many other names.
        Full = "full",
    }
}

label_set! {
    /// What became of a change of a QUIC client's address: `gateway_path_changes_total` (H5, C15).
    PathChange {
        /// The client proved that it gets what is sent to its new address.
        Proven = "proven",
        /// It did not, before it changed its address again or its connection ended: a copied or forged packet, or a
        /// path that is lost.
        Unproven = "unproven",
        /// One too many in a minute; the connection is closed 3506.
        Abuse = "abuse",
    }
}

label_set! {
    /// What `gateway_memory_bytes` shows.
    Memory {
        /// What the process has in memory now; absent where the system does not tell.
        Resident = "resident",
        /// What it may have: `limits.memory`.
        Limit = "limit",
        /// What may wait to be written to all clients: `limits.queued_bytes`.
        QueueLimit = "queue_limit",
        /// What those who have not signed in may use: `limits.before_login_bytes`.
        BeforeLoginLimit = "before_login_limit",
    }
}

label_set! {
    /// What was refused, ignored, corrected or survived: `gateway_reject_total`. The rows of docs/threats.md use these names.
    Reject {
        /// A frame above the limit (A1, A2).
        FrameTooBig = "frame_too_big",
        /// A data frame without payload, ignored (A3).
        EmptyFrame = "empty_frame",
        /// A frame that began and did not end in time (A4).
        SlowFrame = "slow_frame",
        /// The stream ended within a frame (A5).
        Truncated = "truncated",
        /// Unknown opcode (A6).
        BadOpcode = "bad_opcode",
        /// What no WebSocket client may send: unmasked, fragmented against the rules, a reserved bit (RFC 6455).
        BadWebSocketFrame = "bad_websocket_frame",
        /// An HTTP request on a WebSocket port that is none to upgrade, or is malformed; answered 4xx.
        UpgradeRefused = "upgrade_refused",
        /// An upgrade from a web page that `websocket.allowed_origins` does not name; answered 403.
        OriginRefused = "origin_refused",
        /// Magic of neither dialect, or a change of dialect (A7).
        BadMagic = "bad_magic",
        /// Inner lengths that do not fit the frame (A8).
        BadLength = "bad_length",
        /// A header that is no valid Header, or above its limits (A9, A12).
        BadHeader = "bad_header",
        /// Too many metas (A11).
        MetaLimit = "meta_limit",
        /// A BasicPkt that calls for no answer: unknown code, unsolicited pong (A10).
        BasicIgnored = "basic_ignored",
        /// A malformed command, or one of no configured service; answered 103 (A14).
        BadCommand = "bad_command",
        /// Flag or status of a request were set by the client and were reset (A16).
        Normalised = "normalised",
        /// Reserved metas sent by the client were removed (B1, B2, B4).
        ForgedMeta = "forged_meta",
        /// A channel id sent by the client was overwritten (B3).
        ForgedChannel = "forged_channel",
        /// Something other than a sign-in came first (B5).
        NotLoggedIn = "not_logged_in",
        /// A second sign-in on one channel (B6).
        Relogin = "relogin",
        /// No login packet within the deadline (B8).
        LoginTimeout = "login_timeout",
        /// Token longer than allowed (B15).
        JwtSize = "jwt_size",
        /// Not three base64 parts of JSON (B15).
        JwtFormat = "jwt_format",
        /// Another algorithm than that of its key, or `crit` (B10, B11).
        JwtAlg = "jwt_alg",
        /// Its `kid` names no key, or its key has ended (B11).
        JwtKey = "jwt_key",
        /// The signature does not match (B14).
        JwtSignature = "jwt_signature",
        /// A claim is missing or of the wrong type or length (B12, B16, B17).
        JwtClaims = "jwt_claims",
        /// For an app that its key does not speak for (B16).
        JwtApp = "jwt_app",
        /// The token has expired (B12).
        JwtExpired = "jwt_expired",
        /// The token is not valid yet (B13).
        JwtNotYet = "jwt_not_yet",
        /// The key a token names could not be fetched; answered 300 (B24).
        KeyFetch = "key_fetch",
        /// A renewal with a token of another app or account (B23).
        RenewForeign = "renew_foreign",
        /// The connection limit is reached.
        Connections = "connections",
        /// QUIC streams opened faster than allowed (C7).
        StreamAbuse = "stream_abuse",
        /// Answers dropped because the client reset or stopped their stream.
        StreamReset = "stream_reset",
        /// An answer whose channel was closing.
        AnswerLost = "answer_lost",
        /// QUIC connections refused before their handshake (C2).
        QuicRefused = "quic_refused",
        /// QUIC clients asked to prove their address first (C2, H9).
        QuicRetry = "quic_retry_sent",
        /// A packet of a connection that another worker has; dropped without an answer (ARCHITECTURE §5).
        QuicMisdirected = "quic_misdirected",
        /// A packet whose id leads to another gateway, or to none; dropped without an answer (H8).
        QuicOtherServer = "quic_other_server",
        /// The client offered no protocol name of ours (C20).
        Alpn = "alpn",
        /// A TLS or QUIC handshake failed or took too long (B9, C5).
        HandshakeFailed = "handshake_failed",
        /// A balancer whose PROXY header is broken, missing or late.
        ProxyHeader = "proxy_header",
        /// A connection that must come through a balancer, from an address that is none of theirs.
        ProxyUntrusted = "proxy_untrusted",
        /// The peer was gone before it was accepted (D2).
        AcceptReset = "accept_reset",
        /// Accepting failed for another reason.
        AcceptError = "accept_error",
        /// Accepting failed because files or memory ran out (D5).
        AcceptEmfile = "accept_emfile",
        /// More unanswered requests on one channel than allowed; answered 300.
        TooManyPending = "too_many_pending",
        /// The queue towards the chosen instance is full; answered 300 (E3).
        QueueFull = "queue_full",
        /// No instance of the service is linked; answered 300 (E14).
        NoInstance = "no_instance",
        /// More logins waiting for the login service than allowed; answered 300.
        LoginsWaiting = "logins_waiting",
        /// A login refused because too much is queued or memory is short; answered 300 (F11).
        OverloadLogin = "overload_login",
        /// A client whose queue was among the largest, closed 3002 to make room (F11).
        OverloadShed = "overload_shed",
        /// One of the newest connections, closed 3003 to make room (F11).
        OverloadNewest = "overload_newest",
        /// A login that came while the gateway's clock said a time before 2020; answered 300 (H19).
        Clock = "clock",
        /// An account that signs in too often; answered 300 (B20).
        AccountRate = "account_rate",
        /// Somebody whom the administrator has banned.
        Banned = "banned",
        /// A connection from an address that sends too many.
        AddressRate = "address_rate",
        /// A connection from an address that has its share of those that may be open (H10).
        AddressConnections = "address_connections",
        /// A handshake from an address that has its share of those in progress (H10).
        AddressHandshakes = "address_handshakes",
        /// A TLS handshake while as many as allowed were in progress.
        Handshakes = "handshakes",
        /// A connection for which those who have not signed in left no memory (H11).
        BeforeLogin = "before_login",
        /// One that had not signed in, closed 3003 to make room for the next (H11).
        BeforeLoginClosed = "before_login_closed",
        /// A connection beyond the rate of the process.
        ConnectionRate = "connection_rate",
        /// A connection refused because the gateway is going away.
        Draining = "draining",
        /// A request that came after the close of its channel had begun; answered 300 (F1).
        ChannelClosing = "channel_closing",
        /// An answer that matches no pending request: late, repeated or unknown.
        ResponseUnmatched = "response_unmatched",
        /// A link that was up is lost (E1).
        BackendDown = "backend_down",
        /// A logic service sent a packet that cannot be read (E4).
        BackendBadPacket = "backend_bad_packet",
        /// A logic service broke the framing; its link is closed (E4).
        BackendBadFrame = "backend_bad_frame",
        /// A frame of a logic service began and did not end in time; its link is closed (H13).
        BackendSlowFrame = "backend_slow_frame",
        /// A logic service sent a frame that calls for nothing.
        BackendIgnored = "backend_ignored",
        /// A logic service refused the handshake (E15).
        BackendRejected = "backend_rejected",
        /// A task of the gateway panicked; only its connection ended (F10).
        TaskPanic = "task_panics",
    }
}

label_set! {
    /// What the administrator is told about: `event` in the log, in the metrics and at the webhook.
    EventKind {
        /// A logic instance is not linked, after it was or since the start (E1).
        InstanceLost = "instance_lost",
        /// A logic instance refuses this gateway's id (E15).
        LinkRefused = "link_refused",
        /// All instances of a zone for a service are lost, or have left (E13, E14).
        ZoneEmpty = "zone_empty",
        /// Requests of a zone in which nobody serves go to another zone's instances (E13).
        ZoneFallback = "zone_fallback",
        /// A logic instance sends pushes above `limits.max_push`, which are dropped (H1).
        PushTooLarge = "push_too_large",
        /// A worker has no link to any login instance: nobody can sign in there.
        LoginUnreachable = "login_unreachable",
        /// Consul does not answer as it should; the last good set is kept.
        ConsulUnreachable = "consul_unreachable",
        /// The keys of tokens cannot be fetched; the last ones are kept.
        JwksFailed = "jwks_failed",
        /// Queued bytes or memory are near their limit.
        Overload = "overload",
        /// As many clients are connected as may be (H20).
        ConnectionsFull = "connections_full",
        /// The certificate of QUIC and TLS ends soon.
        CertificateEnding = "certificate_ending",
        /// A configuration, or a certificate or key that was replaced, is refused; what was in effect stays (F5, F6).
        ReloadFailed = "reload_failed",
        /// The gateway is going away.
        Drain = "drain",
    }
}

label_set! {
    /// What became of an attempt to tell the webhook, or of an event that waited for one.
    Delivery {
        /// The webhook answered 2xx.
        Delivered = "delivered",
        /// An attempt failed; it is made again.
        Failed = "failed",
        /// The oldest event was given up because too many waited.
        Dropped = "dropped",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_are_unique_and_plain() {
        let labels: Vec<&str> = Reject::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), Reject::COUNT);
        for label in labels {
            assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{label}");
        }
        for (position, reason) in Reject::ALL.iter().enumerate() {
            assert_eq!(reason.index(), position);
        }
    }
}
