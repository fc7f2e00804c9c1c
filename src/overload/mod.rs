//! What the process does when it has too much to do, or too little memory: one look at all of it, one level for all workers
//! (rows E19, F11, F16, H20).
//!
//! [`memory`] is how much there is, [`level`] the pure state machine that decides, [`watchdog`] the thread that looks ten
//! times a second and has it decide, [`pressure`] what the workers are told. What they do about it is with what they do it
//! to: `handler` refuses logins, `session::shedding` closes clients, `worker::load_shedding` has it do so,
//! `dispatch::read_budget` holds back logic services.

pub mod level;
pub mod memory;
pub mod pressure;
pub mod watchdog;
