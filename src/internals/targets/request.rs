//! What asks the monitor: whatever begins a request, and however long it goes on, a visit ends, reads little, and gives at
//! most one answer.

use std::sync::{Arc, LazyLock};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio::runtime::Runtime;

use crate::limits::MONITOR_HEAD;
use crate::monitor::http::{Shown, visit};
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;
use crate::monitor::visitors::Visitors;

/// What either end of the connection holds, bytes.
const PIPE: usize = 4 * 1024;

/// What may be read of one who does not stop: a head, and as much again for the buffers on the way.
const MOST_READ: usize = 2 * MONITOR_HEAD + 2 * PIPE;

/// Statuses there are: what the pages answer, and what is said to those who do not ask properly.
const STATUSES: [&str; 7] = ["200", "400", "404", "405", "414", "431", "503"];

static SHOWN: LazyLock<Shown> = LazyLock::new(|| {
    Shown::new(Metrics::new("gate01", 1, Vec::new()), Arc::new(Readiness::new(1, ["login".to_owned()])))
});

thread_local!(static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
    .enable_time()
    .build()
    .expect("timers need nothing of the machine"));

/// What a visitor sends before it ends its half, or before it goes on for ever.
pub fn target(data: &[u8]) {
    for is_endless in [false, true] {
        let (written, answer) = RUNTIME.with(|runtime| runtime.block_on(ask(data, is_endless)));
        assert!(written <= data.len().max(MOST_READ), "{written} bytes were taken");
        check(data, &answer);
    }
}

/// How many bytes were taken, and what was answered.
async fn ask(data: &[u8], is_endless: bool) -> (usize, Vec<u8>) {
    let (here, there) = duplex(PIPE);
    let visiting = visit(there, Visitors::new().place(0), &SHOWN);
    let ((), talked) = tokio::join!(visiting, talk(here, data, is_endless));
    talked
}

/// Writes until the other side has gone, or there is nothing more to say, and reads what comes back.
async fn talk(stream: DuplexStream, data: &[u8], is_endless: bool) -> (usize, Vec<u8>) {
    let (mut reader, mut writer) = split(stream);
    let writing = async {
        let mut written = 0;
        let more = std::iter::repeat_n(&[b'a'; 1024][..], if is_endless { MOST_READ / 512 } else { 0 });
        for piece in data.chunks(1024).chain(more) {
            if writer.write_all(piece).await.is_err() {
                return written;
            }
            written += piece.len();
        }
        // An end that cannot be told any more has been seen.
        let _gone = writer.shutdown().await;
        written
    };
    let reading = async {
        let mut answer = Vec::new();
        // What was cut off is judged by what came.
        let _cut = reader.read_to_end(&mut answer).await;
        answer
    };
    tokio::join!(writing, reading)
}

/// One answer or none; only GET and HEAD are given anything.
fn check(data: &[u8], answer: &[u8]) {
    let answer = str::from_utf8(answer).expect("answers are text");
    let Some((line, _)) = answer.split_once("\r\n") else { return assert_eq!(answer, "") };
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).unwrap_or_default();
    assert!(STATUSES.contains(&status), "{line}");
    assert_eq!(
        answer.matches("\r\ncache-control: no-store\r\n").count(),
        usize::from(!is_hypers(status)),
        "{answer}"
    );
    if status == "200" {
        assert!(data.windows(4).any(|word| word == b"GET " || word == b"HEAD"));
    }
}

/// Statuses with which hyper refuses what is no request.
fn is_hypers(status: &str) -> bool {
    matches!(status, "400" | "414" | "431")
}
