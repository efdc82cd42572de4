-- A pipeline is Lua. The file is evaluated once to make the plan; each script then runs on a runner.
-- `rivet check` finds mistakes, `rivet plan` shows what would run, `rivet exec ci` runs it here.

return pipeline.define({
    name = "Build and test",
    on = {
        push = { branches = { "main" } },
        pull_request = {},
        manual = true,
    },
    concurrency = { group = "ci-${ref}", cancel_in_progress = true },
    stages = {
        {
            name = "test",
            timeout = "20m",
            retry = { max_attempts = 2, on = { "infra_error" } },
            script = function()
                process.run({ "go", "build", "./..." })
                process.run({ "go", "vet", "./..." })
                process.run({ "go", "test", "./..." })
            end,
        },
    },
})
