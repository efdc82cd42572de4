-- Rivet's own pipeline: what .ci/run does, as stages. Run it here with `cargo run -- exec ci`.

-- A job has a home directory of its own, but the Rust tools live in the user's.
local tools = table.concat({
    'home=$(getent passwd "$(id -u)" | cut -d: -f6)',
    'export CARGO_HOME="${CARGO_HOME:-$home/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}"',
    'export PATH="$PATH:$CARGO_HOME/bin"',
}, "\n")

-- A stage of shell commands that find the Rust tools.
local function rust(stage)
    for i, command in ipairs(stage.run) do
        stage.run[i] = tools .. "\n" .. command
    end
    return stage
end

return pipeline.define({
    name = "Rivet",
    description = "Format, lints, licences and tests",
    on = { push = { branches = { "main" } }, pull_request = true, manual = true },
    concurrency = { group = "ci-${ref}", cancel_in_progress = true },
    -- The tests start Postgres, podman and a browser, so they need a machine and not a container.
    runner = { { key = "executor", value = "host" } },
    stages = {
        rust({
            name = "fmt",
            timeout = "10m",
            run = { "cargo fmt --all --check" },
        }),
        rust({
            name = "clippy",
            depends_on = { "fmt" },
            timeout = "1h",
            run = { "cargo clippy --workspace --all-targets --locked -- -D warnings" },
        }),
        rust({
            name = "deny",
            depends_on = { "fmt" },
            timeout = "30m",
            retry = { max_attempts = 2, on = { "infra_error" } },
            run = {
                "cargo deny --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-deny",
                "cargo deny --locked check bans licenses sources",
            },
        }),
        rust({
            name = "test",
            depends_on = { "clippy", "deny" },
            timeout = "2h",
            run = { "./scripts/test --locked" },
        }),
    },
})
