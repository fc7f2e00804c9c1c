//! A whole logic service: it answers `echo.say` with what was said, and tells the channel a moment later how
//! often it has spoken.
//!
//! Run it with `cargo run --example logic_service -- 127.0.0.1:9100`, name it to a gateway as an instance
//! (`service = "echo"`), and any signed-in client may send `echo.say`: a gateway routes a command by the part
//! before its first dot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway_service::{LogicServer, Request, Target};
use gateway_wire::pb::Status;
use tokio::net::TcpListener;

/// A handler runs once per request, so what it remembers lives outside of it.
type Counts = Arc<Mutex<HashMap<String, u64>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9100".to_owned());
    // The gateway dials the service, not the other way round.
    let listener = TcpListener::bind(&address).await?;
    println!("echo listens on {}, end it with Ctrl-C", listener.local_addr()?);

    let counts = Counts::default();
    let server =
        LogicServer::new("echo").handle("echo.say", move |request| say(request, Arc::clone(&counts)));
    let interrupted = async {
        // Should the signal not be available, the service runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    server.serve(listener, interrupted).await;
    Ok(())
}

async fn say(request: Request, counts: Counts) {
    // Who is asking is the gateway's word: a client cannot pretend to be somebody else.
    let account = request.account().to_owned();
    let spoken = {
        let mut counts = counts.lock().expect("nobody panics while counting");
        let count = counts.entry(account.clone()).or_default();
        *count += 1;
        *count
    };

    // A reply takes the request away, so what is needed afterwards is kept before.
    let links = request.links().clone();
    let (gateway, channel) = (request.gateway().to_owned(), request.channel_id().to_owned());
    let push = request.as_push(format!("{account} has spoken {spoken} times"));
    let echo = request.body().clone();
    request.reply(Status::Success, echo);

    // A handler may wait: later requests of the same channel wait for it, those of all others do not.
    tokio::time::sleep(Duration::from_millis(10)).await;
    links.push(&push, &[Target { gateway: &gateway, channel: &channel }]);
}
