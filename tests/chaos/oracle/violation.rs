//! What a run can get wrong, by the line of the contract it breaks.

use std::fmt;

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ViolationKind {
    /// G2: a push is missing before one that came, or on a channel and a link that both live.
    Lost,
    /// G1: neither an answer nor the end of the connection.
    Unanswered,
    /// G4: a request seen twice; G1, G2: an answer or a push that came twice.
    Duplicated,
    /// Something reached whom it was not for, or nobody sent it.
    Crossed,
    /// G3.
    Order,
    /// G5.
    Lifecycle,
    /// G7: account, app, channel or gateway of a packet are not the gateway's own.
    Identity,
    /// G1: an answer that came after clients gave up.
    Late,
    /// G1, G4: a status that says what did not happen.
    Untrue,
    /// G9: counters that do not balance at a quiet moment.
    Unbalanced,
    /// A figure of the design that was missed: out of selection, found, back, exit code.
    Figure,
}

/// One of them, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) kind: ViolationKind,
    pub(crate) evidence: String,
    /// How many packets it is about.
    pub(crate) count: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.evidence)
    }
}
