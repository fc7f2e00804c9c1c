//! Which transports a build has; run with each set of features.

use gateway_client::{Client, ConnectError, ConnectOptions, Transport};

#[tokio::test]
async fn only_a_transport_that_is_not_compiled_in_is_refused_as_such() {
    for (transport, is_compiled_in) in [
        (Transport::Tcp, true),
        (Transport::Quic, cfg!(feature = "quic")),
        (Transport::Tls, cfg!(feature = "tls")),
        (Transport::Ws, cfg!(feature = "websocket")),
        (Transport::Wss, cfg!(all(feature = "websocket", feature = "tls"))),
    ] {
        // Nothing listens on port 1, and nobody is said to be believed.
        let mut options = ConnectOptions::tcp("127.0.0.1:1");
        options.transport = transport;
        let error = Client::connect(options).await.expect_err("there is no gateway");
        let is_refused =
            matches!(error, ConnectError::NotCompiledIn { transport: named } if named == transport);
        assert_eq!(is_refused, !is_compiled_in, "{transport}: {error}");
        assert!(
            is_compiled_in || error.to_string().contains("build gateway-client with its feature"),
            "{error}"
        );
    }
}
