//! s2n-quic as a client of the harness.

use std::path::Path;
use std::time::Duration;

use s2n_quic::client::Connect;
use s2n_quic::provider::{limits, tls};
use s2n_quic::stream::ReceiveStream;

#[tokio::main]
async fn main() {
    let (server, ca) = lines::arguments();
    let tls = tls::default::Client::builder()
        .with_certificate(Path::new(&ca))
        .and_then(|tls| tls.with_application_protocols([b"x-im/1"].into_iter()))
        .and_then(|tls| tls.build())
        .expect("a configuration of TLS");
    let limits = limits::Limits::new().with_max_idle_timeout(Duration::from_secs(120)).expect("limits");
    let client = s2n_quic::Client::builder()
        .with_tls(tls)
        .and_then(|client| client.with_limits(limits))
        .expect("a configuration")
        .with_io("127.0.0.1:0")
        .expect("a socket")
        .start()
        .expect("an endpoint");
    let connecting = client.connect(Connect::new(server).with_server_name("localhost"));
    let connection = connecting.await.expect("a handshake");
    println!("connected");
    let (mut handle, mut accepting) = connection.split();
    let stream = handle.open_bidirectional_stream().await.expect("a stream");
    let (receive, mut send) = stream.split();
    tokio::spawn(show(0, receive));
    tokio::spawn(async move {
        loop {
            match accepting.accept_receive_stream().await {
                Ok(Some(stream)) => drop(tokio::spawn(show(3, stream))),
                ended => return println!("closed {ended:?}"),
            }
        }
    });
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    lines::read(move |line| {
        let _gone = sender.send(line);
    });
    while let Some(Some(data)) = told.recv().await {
        send.send(data.into()).await.expect("the connection lives");
    }
    handle.close(0u32.into());
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn show(stream: u64, mut receive: ReceiveStream) {
    while let Ok(Some(bytes)) = receive.receive().await {
        lines::show(stream, &bytes);
    }
}
