//! The lines of the harness, for the clients in Rust; README.md beside the harness describes them.

use std::io::BufRead;
use std::net::SocketAddr;

/// The gateway's address and the file with the authority to trust: the arguments.
pub fn arguments() -> (SocketAddr, String) {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().and_then(|address| address.parse().ok()).expect("ADDRESS CA_FILE");
    (server, arguments.next().expect("ADDRESS CA_FILE"))
}

/// Calls `told` for everything that is to be sent, on a thread of its own, and with none at the end.
pub fn read(mut told: impl FnMut(Option<Vec<u8>>) + Send + 'static) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Some(data) = line.strip_prefix("send ") else { break };
            told(Some(unhex(data)));
        }
        told(None);
    });
}

/// Says what a stream brought: stream 0, or the one the gateway opened.
pub fn show(stream: u64, bytes: &[u8]) {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{} {digits}", if stream == 0 { "bidi" } else { "uni" });
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("the harness writes hexadecimal")).collect()
}
