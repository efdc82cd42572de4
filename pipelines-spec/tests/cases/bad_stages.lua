local common = {
    container = "Rust",
    timeout = "5 min",
}

local function stage(name, extra)
    local stage = { name = name, run = "make " .. name }
    for key, value in pairs(common) do
        stage[key] = value
    end
    for key, value in pairs(extra) do
        stage[key] = value
    end
    return stage
end

return pipeline.define({
    name = 5,
    runner = { { key = "os" }, "linux" },
    env = { ["A-B"] = "x", OK = { 1 } },
    concurrency = { cancel_in_progress = true },
    stages = {
        stage("generated", { prioritty = 3 }),
        { name = "nothing" },
        { name = "both", run = "x", script = function() end },
        { name = "text", script = "make" },
        { run = "x" },
        {
            name = "policy",
            run = {},
            retry = { max_attempts = 0, on = { "timeouts", "cancelled" }, backoff = { initial = "soon", factor = 0 } },
            approval = { count = 1.5, reviewers = { "a b" }, expires = "100d", prevent_self = 1 },
            rollback = { runs = { "x" } },
            matrix = { os = "linux", db = {}, exclude = { { oss = "x" } }, max_parallel = 0 },
            services = { DB = { image = "a b" }, cache = {} },
            secrets = { "my key" },
            condition = "a ==",
            env = { 1, 2 },
        },
        { name = "child", pipeline = "e2e", container = "rust", inputs = { f = function() end } },
        "build",
    },
})
