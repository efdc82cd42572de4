# `just` is optional: every recipe is one command.

demo *ARGS:
    cargo run -- demo {{ARGS}}

test *ARGS:
    ./scripts/test {{ARGS}}

lint:
    cargo fmt --all && cargo clippy --workspace --all-targets -- -D warnings

bench:
    cargo bench -p rivet

ci:
    .ci/run
