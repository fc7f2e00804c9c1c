//! A client of the gateway in few lines: connect over QUIC, sign in, send a message, print what comes.
//!
//! Start `gateway dev` in one terminal, then
//! `cargo run --example client -- "$(gateway token --account alice --app x_im)" bob "hello bob"`.

use std::process::ExitCode;

use gateway::client::{Client, ConnectOptions, TrustedCa};

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
    let (client, mut pushes) = Client::connect(ConnectOptions::quic("127.0.0.1:8000", ca)).await?;

    // The first packet of a connection is always the login.
    let login = client.login(token).await?;
    println!("signed in as {} on channel {}", login.account, login.channel_id);

    // A request is answered once. This one is answered when the message is stored.
    let stored = client.talk(to, text).await?;
    println!("stored as message {}", stored.message_id);

    // What was missed while away first, then whatever a push announces, until the connection ends.
    show_new(&client).await?;
    while let Some(push) = pushes.recv().await {
        if push.message().is_some() {
            show_new(&client).await?;
        }
    }
    println!("the session ended: {}", client.closed().await);
    Ok(())
}

/// Shows what was not acknowledged yet, oldest first, and acknowledges it.
///
/// An acknowledgement covers all messages before it as well, and pushes of two chat instances have no common order. So
/// a push is taken as a sign that there is something new, and what is shown and acknowledged comes from the index.
async fn show_new(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
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
