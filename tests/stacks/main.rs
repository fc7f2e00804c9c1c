//! Other QUIC stacks against the gateway: a session of each lives on while a NAT changes its address again and again.
//!
//! README.md beside this file says how to run it, and how a stack is added.

#![allow(unreachable_pub)] // the modules below are private to this test

mod dev_gateway;
mod installation;
mod nat;
mod session;
mod stack_process;
mod stack_table;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use dev_gateway::DevGateway;
use nat::Nat;
use session::{Peer, StackSession};
use stack_process::{Heard, StackProcess};
use stack_table::StackMeasured;

/// The stacks: directories of the scratch directory, as `install` makes them.
const STACKS: &[&str] = &["aioquic", "kwik", "quiche", "quic-go", "quinn", "s2n-quic", "tquic", "x-net"];

/// How often each client's address changes; more than 120 in a minute would be taken for abuse (protocol §7).
const REBINDS: usize = 60;

/// Every so many changes a push is sent to the old address before the client is heard from the new one.
const PUSH_FIRST: usize = 6;

/// Longest time from the first packet of a new address to the answer there.
const LIMIT: Duration = Duration::from_millis(50);

/// Longest wait for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// Four times the 25 ms for which an acknowledgement may be held back.
const SILENCE: Duration = Duration::from_millis(100);

#[test]
#[ignore = "installs other QUIC stacks and measures on an idle machine: just stacks"]
fn h5_sessions_of_other_stacks_live_on_while_their_addresses_change() {
    let gateway = DevGateway::start().expect("the gateway starts");
    let mut table = stack_table::StackTable::default();
    // All, or those that are asked for.
    let wanted = std::env::var("STACKS").unwrap_or_else(|_| STACKS.join(" "));
    for name in STACKS.iter().filter(|name| wanted.split(' ').any(|one| one == **name)) {
        println!("{name}: being installed");
        match installation::install(name) {
            Ok(program) => table.ran(name, measure(&gateway, name, &program)),
            Err(why) => table.skipped(name, &why),
        }
    }
    println!("{table}");
    table.assert_within(LIMIT);
}

/// A whole session of one stack.
fn measure(gateway: &DevGateway, name: &str, program: &Path) -> Result<StackMeasured> {
    let nat = Nat::start(gateway.address("quic"))?;
    let process = StackProcess::start(program, nat.address(), &gateway.ca())?;
    match process.hear(HANDSHAKE) {
        Some(Heard::Connected) => {}
        other => bail!("no handshake, but {other:?}"),
    }
    let handshake = nat.first().0.context("nothing was sent")?.elapsed();
    let mut session = StackSession::sign_in(process, &gateway.token(name)?)?;
    let peer_name = format!("peer-of-{name}");
    let mut peer = Peer::sign_in(gateway.address("tcp"), &gateway.token(&peer_name)?)?;
    let mut measured = StackMeasured { handshake, ..StackMeasured::default() };
    for n in 0..REBINDS {
        nat.wait_for_silence(SILENCE);
        let before = Instant::now();
        measured.unchanged.push(session.ping()?.duration_since(before));
        nat.wait_for_silence(SILENCE);
        nat.rebind()?;
        let text = n.to_string();
        let sent_first = n % PUSH_FIRST == PUSH_FIRST - 1;
        if sent_first {
            peer.talk(name, &text)?;
        }
        let answered = session.ping().with_context(|| format!("after change {}", n + 1))?;
        let (first_out, first_in) = nat.first();
        let (first_out, first_in) = (first_out.context("no packet")?, first_in.context("no answer")?);
        measured.path.push(first_in.duration_since(first_out));
        measured.changed.push(answered.duration_since(first_out));
        session.talk(&peer_name)?;
        if !sent_first {
            peer.talk(name, &text)?;
        }
        let came = session.expect_push(&text)?;
        if sent_first {
            measured.push_first.push(came.duration_since(first_out));
        }
        measured.pushes += 1;
    }
    session.leave()?;
    Ok(measured)
}
