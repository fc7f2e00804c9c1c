//! Logins, 64 under way at once, beside the cryptography they cannot do without.

use crate::bench::BenchRun;
use crate::error::BenchError;
use crate::gateway_under_test::GatewayUnderTest;
use crate::report::{Bound, ScenarioResult, TargetVerdict};
use crate::role::control::Ready;
use crate::role::crypto_floor;
use crate::role::login_load::LoginOver;
use crate::scenario::contest::{CPU, Contender, contest};
use crate::scenario::loads;

const TCP: &str = "gateway, TCP";
const QUIC: &str = "gateway, QUIC";
const RESUMED: &str = "gateway, QUIC resumed";
const FLOOR: &str = "cryptography of one";

pub(crate) fn run(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    bench.tell("logins: starting");
    let gateway = GatewayUnderTest::start(bench, 0)?;
    let (floor, Ready {}) = bench.role(crypto_floor::NAME, &(), bench.server_core())?;
    let logins = |who: &str, over: LoginOver| {
        let load = loads::logins(bench, gateway.clients, over, 0.0)?;
        Ok(Contender::gateway(who, gateway.id(), load))
    };
    let pid = floor.id();
    let mut contenders = vec![
        logins(QUIC, LoginOver::Quic)?,
        Contender::gateway(FLOOR, pid, floor),
        logins(RESUMED, LoginOver::QuicResumed)?,
        logins(TCP, LoginOver::Tcp)?,
    ];
    let mut work = contest(bench, "64 at once, each ends when it is answered", &mut contenders)?;
    let cpu = |who: &str| work.values(who, CPU);
    work.targets = vec![
        TargetVerdict::ratio("CPU, QUIC / cryptography", cpu(QUIC), cpu(FLOOR), Bound::AtMost(2.4)),
        TargetVerdict::absolute("CPU of a login over TCP", "µs", cpu(TCP), Bound::AtMost(20.0)),
        TargetVerdict::ratio("CPU, resumed / full", cpu(RESUMED), cpu(QUIC), Bound::AtMost(0.65)),
    ];
    let title = "full logins: connection, handshake, token, login service, close".to_owned();
    Ok(ScenarioResult { id: "B6".to_owned(), title, works: vec![work], notes: vec![NOTE.to_owned()] })
}

const NOTE: &str = "the floor: X25519 key and agreement, ECDSA P-256 signature, 24 expansions of HKDF, 12 packets of AES-GCM, \
                    an HMAC of a token; QUIC has no TCP in it, TCP no TLS";
