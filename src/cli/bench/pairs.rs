//! Who talks to whom in `gateway bench talk`.

/// The account of a client of this run.
pub(super) fn account(run: &str, client: usize) -> String {
    format!("bench-{run}-{client}")
}

/// The client one talks to.
pub(super) const fn partner(client: usize) -> usize {
    client ^ 1
}
