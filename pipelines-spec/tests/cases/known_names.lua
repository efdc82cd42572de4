return pipeline.define({
    concurrency = { group = "ci-${ref}" },
    inputs = { version = { type = "string", default = "1" }, token = { type = "string", default = "", secret = true } },
    env = { SHA = "${event.sha}" },
    stages = {
        {
            name = "build",
            container = "rust:${input.version}",
            matrix = { os = { "linux", "mac" }, include = { { os = "linux", extra = 1 } } },
            run = { "make ${matrix.os} ${HOME} ${matrix.extra}", "echo ${input.version}" },
        },
        { name = "test", run = "x", environment = "${branch}", services = { db = { image = "pg:${input.version}" } } },
    },
})
