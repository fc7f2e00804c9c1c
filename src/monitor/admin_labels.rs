//! The closed sets of label values that are about what the administrator orders.

use super::labels::label_set;

label_set! {
    /// What is ordered.
    AdminChange {
        /// The configuration is read again.
        Reload = "reload",
        /// Connections are ended.
        Kick = "kick",
        /// Somebody is barred.
        Ban = "ban",
        /// And no more.
        Unban = "unban",
        /// Something is pushed to channels.
        Notice = "notice",
        /// Clients are told to go.
        Drain = "drain",
        /// And come again.
        Undrain = "undrain",
        /// A zone gets another share of the accounts.
        Weight = "weight",
        /// An instance gets no new requests.
        Eject = "eject",
        /// It gets some again.
        Return = "return",
        /// The level of the log is set.
        LogLevel = "log_level",
        /// The packets of an account are watched.
        Trace = "trace",
    }
}

label_set! {
    /// What came of an order.
    AdminResult {
        /// It was carried out.
        Done = "done",
        /// It was wrong, or did not fit how things are.
        Refused = "refused",
        /// It could not be carried out.
        Failed = "failed",
    }
}
