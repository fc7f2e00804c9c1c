//! Login and chat services inside this process, reached over real TCP links with the real handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::chat::serve_chat;
use crate::directory::Directory;
use crate::login::serve_login;
use gateway_service::links::Links;
use gateway_service::server::LogicServer;
use gateway_wire::dialect::Dialect;

/// One instance of an embedded service.
#[derive(Debug)]
pub struct EmbeddedInstance {
    /// Its name, for logs. Every instance answers `login.*` and `chat.*` alike: in dialect kim the login
    /// service is `chat`.
    pub service: String,
    /// Where gateways dial it, bound by the caller.
    pub listener: TcpListener,
    /// What it speaks.
    pub dialect: Dialect,
}

/// Running instances over one directory. Dropping it stops them at once; [`shutdown`](Self::shutdown) is kinder.
#[derive(Debug)]
pub struct Embedded {
    directory: Arc<Directory>,
    links: Vec<Links>,
    addresses: Vec<SocketAddr>,
    stopping: CancellationToken,
    tasks: JoinSet<()>,
}

impl Embedded {
    /// Starts instances over a new directory, on the tokio runtime it is called in.
    ///
    /// # Errors
    /// A listener does not know its address.
    pub fn start(instances: Vec<EmbeddedInstance>) -> io::Result<Self> {
        Self::start_over(Arc::default(), instances)
    }

    /// Starts instances over an existing directory.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_over(directory: Arc<Directory>, instances: Vec<EmbeddedInstance>) -> io::Result<Self> {
        let mut embedded = Self {
            directory,
            links: Vec::new(),
            addresses: Vec::new(),
            stopping: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        for EmbeddedInstance { service, listener, dialect } in instances {
            let server = embedded_server(service, dialect, &embedded.directory);
            embedded.addresses.push(listener.local_addr()?);
            embedded.links.push(server.links());
            embedded.tasks.spawn(server.serve(listener, embedded.stopping.clone().cancelled_owned()));
        }
        Ok(embedded)
    }

    /// What the instances share.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Where each instance listens, in the order given.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The links of each instance, in the order given.
    pub fn links(&self) -> &[Links] {
        &self.links
    }

    /// Stops accepting, lets what is queued leave, and closes every link; bounded by
    /// [`LinkLimits::shutdown`](gateway_service::LinkLimits).
    ///
    /// Dropping the future stops everything at once.
    pub async fn shutdown(mut self) {
        self.stopping.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A server with the handlers of both embedded services; more can be added to it.
pub fn embedded_server(
    service: impl Into<String>,
    dialect: Dialect,
    directory: &Arc<Directory>,
) -> LogicServer {
    serve_chat(serve_login(LogicServer::speaking(service, dialect), directory), directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_service::testing::{TestGateway, meta_of};
    use gateway_wire::frame::Opcode;
    use gateway_wire::pb;

    async fn instance(service: &str, dialect: Dialect) -> EmbeddedInstance {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        EmbeddedInstance { service: service.to_owned(), listener, dialect }
    }

    /// A login and two chat instances of different dialects: one directory, and each instance pushes over its
    /// own links.
    #[tokio::test]
    async fn instances_share_one_directory_and_push_over_their_own_links() {
        let embedded = Embedded::start(vec![
            instance("login", Dialect::XIm).await,
            instance("chat", Dialect::XIm).await,
            instance("chat", Dialect::Kim).await,
        ])
        .unwrap();
        let [login, chat, kim] = embedded.addresses() else { panic!("three addresses") };
        let mut login = TestGateway::link(*login, "gate01", Dialect::XIm).await;
        let mut chat = TestGateway::link(*chat, "gate01", Dialect::XIm).await;
        let mut kim = TestGateway::link(*kim, "gate01", Dialect::Kim).await;
        login.sign_in("alice").await;
        // In dialect kim the login service is `chat`.
        kim.sign_in("bob").await;
        assert_eq!(embedded.directory().signed_in(), 2);

        let hello = pb::MessageReq { r#type: 1, body: "hello".to_owned(), extra: String::new() };
        for (link, sender, receiver) in [(&mut chat, "alice", "bob"), (&mut kim, "bob", "alice")] {
            link.request(sender, "chat.user.talk", 3, receiver, &hello).await;
            assert_eq!(link.packet().await.0.status, 0);
            let (header, push) = link.message::<pb::MessagePush>().await;
            assert_eq!(meta_of(&header, "dest.channels"), Some(link.channel(receiver).as_str()));
            assert_eq!(push.sender, sender);
        }
        login.ping().await;

        drop((chat, kim));
        let links = embedded.links().to_vec();
        let stopping = tokio::spawn(embedded.shutdown());
        assert_eq!(login.frame().await.unwrap().opcode, Opcode::Close);
        drop(login);
        stopping.await.unwrap();
        assert!(links.iter().all(|links| links.gateways().is_empty()));
    }

    #[tokio::test]
    async fn dropping_it_stops_everything_at_once() {
        let embedded = Embedded::start(vec![instance("chat", Dialect::XIm).await]).unwrap();
        let address = embedded.addresses()[0];
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        drop(embedded);
        assert_eq!(gateway.frame().await, None);
        // The port is free again.
        TcpListener::bind(address).await.unwrap();
    }
}
