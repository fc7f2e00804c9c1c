//! What this program is when a run starts it again: load, logic services, floors. Each is a process of its own, so that
//! nothing but what is measured counts as its work.

pub(crate) mod control;
pub(crate) mod crypto_floor;
pub(crate) mod datagrams;
pub(crate) mod echo_floor;
mod epoll_server;
pub(crate) mod exec;
pub(crate) mod latency;
pub(crate) mod load_client;
pub(crate) mod load_socket;
mod loans;
pub(crate) mod logic;
pub(crate) mod login_load;
pub(crate) mod micro;
pub(crate) mod nats_echo;
pub(crate) mod pace;
pub(crate) mod quic_client;
pub(crate) mod quic_load;
pub(crate) mod quic_tasks;
pub(crate) mod quinn_echo;
pub(crate) mod relay_floor;
pub(crate) mod speech;
pub(crate) mod tcp_load;
pub(crate) mod window;
pub(crate) mod work;
pub(crate) mod writer_floor;

pub use self::loans::Loans;
use crate::error::BenchError;

/// Runs one role until its standard input ends: `argument` and every line are JSON.
///
/// # Errors
/// Anything that keeps it from doing its work; the run reports it.
pub fn run(name: &str, argument: &str, loans: Loans) -> Result<(), BenchError> {
    match name {
        tcp_load::NAME => tcp_load::run(argument),
        logic::NAME => logic::run(argument),
        echo_floor::NAME => echo_floor::run(argument),
        exec::NAME => exec::run(argument),
        micro::NAME => micro::run(argument, loans),
        nats_echo::NAME => nats_echo::run(argument),
        quic_load::NAME => quic_load::run(argument),
        quinn_echo::NAME => quinn_echo::run(argument, loans.transport),
        writer_floor::NAME => writer_floor::run(argument),
        datagrams::FLOOR => datagrams::floor(argument),
        datagrams::LOAD => datagrams::load(argument),
        crypto_floor::NAME => crypto_floor::run(argument),
        login_load::NAME => login_load::run(argument),
        relay_floor::NAME => relay_floor::run(argument),
        other => Err(BenchError::failed(format!("there is no role {other:?}"))),
    }
}
