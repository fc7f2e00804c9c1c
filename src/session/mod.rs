//! Who is connected: channels, what is queued for them, what they asked and was not answered, and the sign-outs
//! their ends owe.
//!
//! Everything here but [`signouts_by_identity`] belongs to one worker's thread (`Rc`, `Cell`), does no I/O, and gets the time
//! passed in. It lies below `dispatch`: a link puts a push into a channel and knows nothing of sockets or handlers.

pub(crate) mod channel;
pub(crate) mod channels;
pub(crate) mod connected;
mod id_hasher;
pub(crate) mod inspection;
pub(crate) mod local_waker;
pub(crate) mod outgoing;
pub(crate) mod pending;
pub(crate) mod shedding;
pub(crate) mod signout;
pub(crate) mod signouts;
pub(crate) mod signouts_by_identity;
pub(crate) mod sliding_count;
pub(crate) mod spare;
mod traced;

#[cfg(test)]
pub(crate) mod fixtures;
