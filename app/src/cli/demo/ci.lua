-- A pipeline is Lua: evaluated once to make the plan, then each script runs on a runner.
-- Change anything, commit, push: the next run starts by itself.

return pipeline.define({
    name = "Build, test, package",
    description = "What 'rivet demo' pushes first",
    on = { push = { branches = { "**" } }, manual = true },
    inputs = {
        greeting = { type = "string", default = "Hello", description = "What the program says first" },
    },
    stages = {
        {
            name = "build",
            script = function()
                log.info("Building " .. event.sha:sub(1, 12))
                process.run("sh build.sh")
                return { version = event.sha:sub(1, 7) } -- later stages read it as needs.build.outputs.version
            end,
        },
        {
            name = "test",
            matrix = { suite = { "unit", "greeting" } },
            script = function(ctx)
                process.run({ "sh", "test.sh", ctx.matrix.suite, inputs.greeting })
            end,
        },
        {
            name = "package",
            depends_on = { "build", "test" }, -- without it: the stage before; needs holds what is named here
            retry = { max_attempts = 2 },
            script = function(ctx)
                local name = "hello-" .. ctx.needs.build.outputs.version .. ".tar"
                process.run("sh build.sh")
                process.run({ "tar", "-cf", name, "out" })
                log.info("Packed " .. name)
            end,
        },
    },
})
