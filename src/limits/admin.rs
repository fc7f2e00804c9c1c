//! What whoever may open the admin socket may take of the gateway.

use std::time::Duration;

use super::KIB;

/// Connections served at once: people and scripts, each with a question. Others wait.
pub const ADMIN_VISITORS: usize = 16;

/// The head of a request, bytes.
pub const ADMIN_HEAD: usize = 16 * KIB;

/// The body of a request, bytes: it names a file, and one day a few more things.
pub const ADMIN_BODY: usize = 64 * KIB;

/// For the head of a request, and for its body.
pub const ADMIN_PATIENCE: Duration = Duration::from_secs(10);

/// How often certificates and keys are looked at: Kubernetes swaps the links to them, which no watch of a file sees, and a
/// certificate is renewed weeks before its end.
pub const FILES_LOOK: Duration = Duration::from_secs(10);
