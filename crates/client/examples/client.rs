//! A client of the gateway in few lines: connect over QUIC, sign in, send a message, print what comes, and come back
//! when the connection is lost.
//!
//! Start `gateway dev` in one terminal, then
//! `cargo run --example client -- "$(gateway token --account alice --app x_im)" bob "hello bob"`.

use std::process::ExitCode;

use gateway_client::{ConnectOptions, Event, Requests as _, ResilientClient, ResilientOptions, TrustedCa};

/// Texts that may be asked for at once.
const TEXTS: usize = 200;

/// `MessageIndex.direction` of a message that came to this account; its own ones are listed too.
const RECEIVED: i32 = 0;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [token, to, text] = arguments.as_slice() else {
        eprintln!("usage: client TOKEN TO TEXT");
        return ExitCode::FAILURE;
    };
    match talk(token, to, text).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("client: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn talk(token: &str, to: &str, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    // The certificate of the gateway must come from this authority. `ConnectOptions::tcp` needs none.
    let ca = TrustedCa::from_pem_file("certs/dev/ca.pem")?;
    let server = ConnectOptions::quic("127.0.0.1:8000", ca);

    // Connects and signs in, and does so again after every loss. A closure in place of the token can renew it, and
    // `.or(server)` names a second gateway.
    let options = ResilientOptions::new(server);
    let (client, mut pushes, mut events) = ResilientClient::connect(options, token.to_owned()).await?;

    // A request is answered once. This one is answered when the message is stored. Without a connection it waits; once
    // handed over it is never sent again, and an error says whether that was so.
    let stored = client.talk(to, text).await?;
    println!("stored as message {}", stored.message_id);

    // What was missed while away first, then whatever a push announces, until the session is over.
    loop {
        let shown = tokio::select! {
            Some(event) = events.recv() => match event {
                Event::Connected(online) => {
                    println!("signed in as {} on channel {}", online.login.account, online.login.channel_id);
                    show_new(&client).await
                }
                Event::Reconnecting { after, server, .. } => {
                    println!("coming back to {server} in {after:?}");
                    Ok(())
                }
                Event::Over(end) => {
                    println!("the session is over: {end}");
                    return Ok(());
                }
                _ => Ok(()),
            },
            Some(push) = pushes.recv() => match push.message() {
                Some(_) => show_new(&client).await,
                None => Ok(()),
            },
            else => return Ok(()),
        };
        // It is listed again after the next message or login.
        if let Err(error) = shown {
            println!("could not fetch what is new: {error}");
        }
    }
}

/// Shows what was not acknowledged yet, oldest first, and acknowledges it.
///
/// An acknowledgement covers all messages before it as well, and pushes of two chat instances have no common order. So
/// a push is taken as a sign that there is something new, and what is shown and acknowledged comes from the index.
async fn show_new(client: &ResilientClient) -> Result<(), Box<dyn std::error::Error>> {
    loop {
        let indexes = client.offline_index(0).await?;
        let part = &indexes[..indexes.len().min(TEXTS)];
        let Some(last) = part.last() else { return Ok(()) };
        let received: Vec<_> = part.iter().filter(|index| index.direction == RECEIVED).collect();
        let texts = client.offline_content(received.iter().map(|index| index.message_id).collect()).await?;
        for index in received {
            let text = texts.iter().find(|text| text.message_id == index.message_id);
            let text = text.map_or("(no longer there)", |text| &text.body);
            println!("{}: {}", index.account_b.escape_debug(), text.escape_debug());
        }
        client.ack(last.message_id).await?;
    }
}
