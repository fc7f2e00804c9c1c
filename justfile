# The commands of CONTRIBUTING.md, by name; tests/tidy keeps the two the same.

# Everything a change must pass
ci:
    .ci/run

# All tests
test:
    cargo test --locked

# The rules of ARCHITECTURE.md, citations, papers
tidy:
    cargo test --locked --test tidy

# Writes the generated parts of papers anew
update:
    UPDATE=1 cargo test --locked --test tidy

# How large the parts are, and which types share a name
figures:
    cargo test --locked --test tidy figures -- --nocapture

# Formats the sources
format:
    cargo fmt --all

# Lints; a warning fails
lint:
    cargo clippy --locked --all-targets -- -D warnings

# Real processes under real faults, for some minutes
chaos:
    cargo test --locked --features faults --test chaos

# A gateway with everything in one process
dev:
    cargo run --release -- dev

# The longest steps of a worker with a crowd, bans and pages of the admin API, on an idle machine
measure:
    cargo test --release --locked --lib -- h22_ bans:: listing:: --ignored --nocapture --test-threads 1

# What an idle connection and a message cost over each transport, and a resumed login; on an idle machine
costs:
    cargo test --release --locked --test it -- costs:: c28_a_resumed --ignored --nocapture --test-threads 1

# What a message costs, step by step
bench:
    cargo bench --locked --features internals --bench message_path

# Looks for frames that are read wrongly; for the other targets see CONTRIBUTING.md
fuzz:
    cargo +nightly fuzz run --sanitizer none frame -- -max_total_time=150

# Two minutes of clients that talk, the second with 200 reloads; on an idle machine
reloads:
    cargo test --release --locked --test it -- f17_under_load --ignored --nocapture --test-threads 1

# A minute of a flood, and storms, with how long answers take beside them; on an idle machine
flood:
    cargo test --release --locked --test it -- c17_ c24_ d2_ d3_ --ignored --nocapture --test-threads 1

# 500 clients that change their address behind a balancer
balancer:
    cargo test --locked --test it c15_five_hundred -- --ignored --nocapture

# Other QUIC stacks while their addresses change: installs them, and wants an idle machine
stacks:
    cargo test --release --locked --test stacks -- --ignored --nocapture
