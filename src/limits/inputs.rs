//! Bounds of what comes from people and other machines before any client does: files, and the times in tokens.

use std::time::Duration;

use super::KIB;

/// Larger than any certificate, key, secret, route or configuration that makes sense, bytes. It keeps a wrong path from
/// filling the memory.
pub const MAX_FILE: usize = 16 * KIB * KIB;

/// By how much the clock of a token's maker may differ from ours, at both ends of a token's life (rows B12, B13): as far
/// as machines drift whose time nobody looks after.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(60);

/// A larger leeway would undo what short lives of tokens are for.
pub const MAX_TOKEN_LEEWAY: Duration = Duration::from_secs(600);

/// How long a pipe that stands where a file should may take to be written and closed: long enough for a command that asks
/// another machine for a secret.
pub const PIPE_WAIT: Duration = Duration::from_secs(5);
