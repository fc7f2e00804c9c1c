#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway::internals::targets::websocket::target(data));
