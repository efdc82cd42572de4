-- What Rivet runs for this repository. Every key: docs/pipelines.md of Rivet, or the completion of your editor after
-- `rivet init lua`. Try it here with `rivet exec ci`; check it with `rivet check`.
return pipeline.define({
    name = "CI",
    on = {
        push = { branches = { "main" } },
        pull_request = true,
        manual = true,
    },
    -- A newer push to the same branch cancels what is still running for the older one.
    concurrency = { group = "ci-${ref}", cancel_in_progress = true },
    inputs = {
        greeting = { type = "string", description = "What the build says", default = "Hello" },
    },
    stages = {
        {
            name = "build",
            timeout = "20m",
            -- Shell lines: the first that fails ends the stage.
            run = { 'echo "${input.greeting} from $(uname -s), commit ${sha}"' },
        },
        {
            -- Without `depends_on` a stage follows the one before it.
            name = "test",
            timeout = "20m",
            retry = { max_attempts = 2, on = { "infra_error", "timeout" } },
            -- Or a function, for what shell lines are too plain for.
            script = function(ctx)
                log.info("Testing " .. ctx.event.sha)
                process.run("echo 'your tests go here'")
            end,
        },
    },
})
