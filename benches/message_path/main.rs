//! What a message costs on its way, step by step. `cargo bench --bench message_path -- NAME` measures one of them.

mod header;
mod push;
mod route;
mod token;

fn main() {
    divan::main();
}
