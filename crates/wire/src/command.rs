//! Commands: which are well formed, which service they name, and which are known by name in metrics.

/// Signs a user in; the first packet of every connection.
pub const LOGIN_SIGNIN: &str = "login.signin";
/// The service of this and the next two, whatever service is configured to sign users in.
pub const LOGIN_SERVICE: &str = "login";
/// Tells the login service that a channel ended.
pub const LOGIN_SIGNOUT: &str = "login.signout";
/// Gives an open channel a new token; never forwarded.
pub const LOGIN_RENEW: &str = "login.renew";
/// A message to one account.
pub const CHAT_USER_TALK: &str = "chat.user.talk";
/// A message to a group.
pub const CHAT_GROUP_TALK: &str = "chat.group.talk";
/// Acknowledges every message up to an id.
pub const CHAT_TALK_ACK: &str = "chat.talk.ack";
/// Lists what was missed.
pub const CHAT_OFFLINE_INDEX: &str = "chat.offline.index";
/// Fetches the texts of what was missed.
pub const CHAT_OFFLINE_CONTENT: &str = "chat.offline.content";
/// Makes a group.
pub const CHAT_GROUP_CREATE: &str = "chat.group.create";
/// Puts an account into a group.
pub const CHAT_GROUP_JOIN: &str = "chat.group.join";
/// Takes an account out of a group.
pub const CHAT_GROUP_QUIT: &str = "chat.group.quit";
/// Lists the members of a group.
pub const CHAT_GROUP_MEMBERS: &str = "chat.group.members";
/// Describes a group.
pub const CHAT_GROUP_DETAIL: &str = "chat.group.detail";

/// The closed set of command labels (protocol §3); everything else is counted as [`OTHER`].
pub const KNOWN: [&str; 14] = [
    LOGIN_SIGNIN,
    LOGIN_SIGNOUT,
    LOGIN_RENEW,
    CHAT_USER_TALK,
    CHAT_GROUP_TALK,
    CHAT_TALK_ACK,
    CHAT_OFFLINE_INDEX,
    CHAT_OFFLINE_CONTENT,
    CHAT_GROUP_CREATE,
    CHAT_GROUP_JOIN,
    CHAT_GROUP_QUIT,
    CHAT_GROUP_MEMBERS,
    CHAT_GROUP_DETAIL,
    OTHER,
];

/// Label of every command that is not in [`KNOWN`].
pub const OTHER: &str = "other";

/// The service of a command without a dot.
pub const DEFAULT_SERVICE: &str = "default";

/// Longest well-formed command, bytes.
pub const MAX_LEN: usize = 64;

/// Returns `true` for 1–64 bytes of `[a-z0-9._-]`. Anything else is answered 103 (row A14).
pub fn is_well_formed(command: &str) -> bool {
    (1..=MAX_LEN).contains(&command.len())
        && command.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

/// The service a command belongs to: the part before the first dot, or `default` where there is none.
pub fn service_of(command: &str) -> &str {
    command.split_once('.').map_or(DEFAULT_SERVICE, |(service, _)| service)
}

/// Position in [`KNOWN`], the last one ([`OTHER`]) for unknown commands.
pub fn label_index(command: &str) -> usize {
    KNOWN.iter().position(|known| *known == command).unwrap_or(KNOWN.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a14_commands_are_bounded_and_plain() {
        assert!(is_well_formed("chat.user.talk"));
        assert!(is_well_formed(&"a".repeat(64)));
        for bad in ["", "Chat.talk", "chat\n.talk", "chat talk", "\u{202e}", &"a".repeat(65)] {
            assert!(!is_well_formed(bad), "{bad:?}");
        }
        assert_eq!(service_of("chat.user.talk"), "chat");
        assert_eq!(service_of("hello"), DEFAULT_SERVICE);
        assert_eq!(KNOWN[label_index("no.such.command")], OTHER);
        assert_eq!(KNOWN[label_index(CHAT_TALK_ACK)], CHAT_TALK_ACK);
    }
}
