//! The login service: `login.signin` and `login.signout` (protocol §4.3, §4.4, §4.8, §4.9).

use std::sync::Arc;

use prost::Message as _;
use tracing::debug;

use crate::directory::{Directory, DirectoryFull, Location};
use gateway_service::links::Target;
use gateway_service::request::Request;
use gateway_service::server::LogicServer;
use gateway_wire::command::{LOGIN_SIGNIN, LOGIN_SIGNOUT};
use gateway_wire::pb::{self, Status};

/// Gives a server the handlers of `login.*` over a directory.
#[must_use]
pub fn serve_login(server: LogicServer, directory: &Arc<Directory>) -> LogicServer {
    let (signing_in, signing_out) = (Arc::clone(directory), Arc::clone(directory));
    server
        .handle(LOGIN_SIGNIN, move |request| {
            sign_in(&signing_in, request);
            std::future::ready(())
        })
        .handle(LOGIN_SIGNOUT, move |request| {
            // Nobody awaits an answer. A channel that was kicked signs out too and must not take the newer
            // session of its account along, so the channel decides and not the account.
            let was_signed_in = signing_out.sign_out(request.channel_id());
            debug!(was_signed_in, "sign-out");
            std::future::ready(())
        })
}

fn sign_in(directory: &Directory, request: Request) {
    let Ok(session) = request.session() else {
        return request.fail(Status::InvalidPacketBody, "the body is no Session");
    };
    if session.channel_id.is_empty() || session.account.is_empty() {
        return request.fail(Status::InvalidPacketBody, "the Session names no channel or no account");
    }
    match directory.sign_in(&session) {
        Ok(old) => {
            if let Some(old) = old {
                kick(&request, &old);
            }
            request.succeed(&pb::LoginResp { channel_id: session.channel_id, account: session.account });
        }
        Err(DirectoryFull) => request.fail(Status::SystemException, "the login service is full"),
    }
}

/// Tells the gateway of the older channel that its account has signed in elsewhere; it closes that channel.
fn kick(request: &Request, old: &Location) {
    let notice = pb::KickOutNotify { channel_id: old.channel_id.to_string() };
    let push = request.as_push(notice.encode_to_vec());
    request.links().push(&push, &[Target { gateway: &old.gate_id, channel: &old.channel_id }]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{AccountKey, DirectoryBounds};
    use crate::embedded::embedded_server;
    use gateway_service::testing::{TestGateway, meta_of, start};
    use gateway_wire::dialect::Dialect;
    use gateway_wire::packet::encode_message;

    /// The frames of tests/vectors/wire.json.
    fn golden(dialect: &str, name: &str) -> Vec<u8> {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/wire.json")).unwrap();
        let good = vectors["good"].as_array().unwrap();
        let found = good.iter().find(|case| case["dialect"] == dialect && case["name"] == name).unwrap();
        let hex = found["frame"].as_str().unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// The golden sign-in gets its answer; a sign-in elsewhere kicks it with the golden kick, to the byte.
    #[tokio::test]
    async fn a_golden_sign_in_is_answered_and_kicked_as_the_vectors_say() {
        for dialect in Dialect::ALL {
            let directory = Arc::new(Directory::default());
            let (address, _task) = start(embedded_server("login", dialect, &directory)).await;
            let mut gateway = TestGateway::link(address, "gate01", dialect).await;
            gateway.write(&golden(dialect.as_str(), "login.signin as the login service sees it")).await;
            let (header, answer) = gateway.message::<pb::LoginResp>().await;
            assert_eq!((header.flag, header.status, header.sequence), (pb::Flag::Response as i32, 0, 1));
            assert_eq!(meta_of(&header, "dest.channels"), Some("gate01_alice_7"));
            assert_eq!(meta_of(&header, dialect.gateway_key()), Some("gate01"));
            assert_eq!((answer.channel_id.as_str(), answer.account.as_str()), ("gate01_alice_7", "alice"));

            let session = pb::Session {
                channel_id: "gate01_alice_8".to_owned(),
                gate_id: "gate01".to_owned(),
                account: "alice".to_owned(),
                app: "x_im".to_owned(),
                ..Default::default()
            };
            let again = pb::Header {
                command: LOGIN_SIGNIN.to_owned(),
                channel_id: "gate01_alice_8".to_owned(),
                sequence: 5,
                ..Default::default()
            };
            gateway.write(&encode_message(dialect, &again, session.encode_to_vec()).to_bytes()).await;
            let kick = gateway.frame().await.unwrap();
            let kick = gateway_wire::frame::encode(kick.opcode, &kick.payload);
            assert_eq!(kick, golden(dialect.as_str(), "kick-out push"));
            let (header, answer) = gateway.message::<pb::LoginResp>().await;
            assert_eq!((header.sequence, answer.channel_id.as_str()), (5, "gate01_alice_8"));
        }
    }

    #[tokio::test]
    async fn the_kick_goes_to_the_gateway_of_the_older_channel_and_apps_are_separate_worlds() {
        let directory = Arc::new(Directory::default());
        let (address, _task) = start(embedded_server("login", Dialect::XIm, &directory)).await;
        let mut old = TestGateway::link(address, "gate01", Dialect::XIm).await;
        let mut new = TestGateway::link(address, "gate02", Dialect::XIm).await;
        old.sign_in("alice").await;
        new.sign_in_on("gate02_alice_9", "alice", "other_app").await;
        new.expect_status(Status::Success).await;
        old.ping().await;

        new.sign_in("alice").await;
        let (header, kick) = old.message::<pb::KickOutNotify>().await;
        assert_eq!((header.command.as_str(), header.flag), (LOGIN_SIGNIN, pb::Flag::Push as i32));
        assert_eq!(meta_of(&header, "dest.logic"), Some("gate01"));
        assert_eq!(kick.channel_id, "gate01_alice_1");
        // Signing in again on the same channel kicks nobody.
        new.sign_in("alice").await;
        new.ping().await;
        assert_eq!(directory.signed_in(), 2);
    }

    #[tokio::test]
    async fn a_sign_out_ends_its_own_session_only_and_is_not_answered() {
        let directory = Arc::new(Directory::default());
        let (address, _task) = start(embedded_server("login", Dialect::XIm, &directory)).await;
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        let alice = AccountKey::new("x_im", "alice");
        gateway.sign_in_on("gate01_alice_1", "alice", "x_im").await;
        gateway.sign_in_on("gate01_alice_2", "alice", "x_im").await;
        for _ in ["answer", "kick", "answer"] {
            gateway.packet().await;
        }
        gateway.request_of("gate01_alice_1", "alice", LOGIN_SIGNOUT, 0, "", Vec::new()).await;
        gateway.ping().await;
        assert_eq!(&*directory.locate(&alice).unwrap().channel_id, "gate01_alice_2");
        gateway.request_of("gate01_alice_2", "alice", LOGIN_SIGNOUT, 0, "", Vec::new()).await;
        gateway.ping().await;
        assert_eq!(directory.locate(&alice), None);
        assert_eq!(directory.signed_in(), 0);
    }

    #[tokio::test]
    async fn a_sign_in_that_cannot_be_is_refused() {
        let bounds = DirectoryBounds { accounts: 1, ..DirectoryBounds::default() };
        let directory = Arc::new(Directory::new(bounds));
        let (address, _task) = start(embedded_server("login", Dialect::XIm, &directory)).await;
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        gateway.request_of("c", "alice", LOGIN_SIGNIN, 1, "", b"\xff\xff".to_vec()).await;
        gateway.expect_status(Status::InvalidPacketBody).await;
        gateway.sign_in_on("", "alice", "x_im").await;
        gateway.expect_status(Status::InvalidPacketBody).await;
        gateway.sign_in("alice").await;
        gateway.sign_in_on("gate01_bob_1", "bob", "x_im").await;
        gateway.expect_status(Status::SystemException).await;
    }
}
