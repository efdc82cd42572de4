return pipeline.define({
    concurrency = { group = "ci-${reff}" },
    inputs = { version = { type = "string", default = "1" }, token = { type = "string", default = "", secret = true } },
    env = { SHA = "${event.shaa}" },
    stages = {
        {
            name = "build",
            container = "rust:${input.versoin}",
            matrix = { os = { "linux", "mac" }, include = { { os = "linux", extra = 1 } } },
            run = { "make ${matrix.oss} ${HOME} ${matrix.extra}", "echo ${input.version}" },
        },
        { name = "test", run = "x", environment = "${input.token}", services = { db = { image = "pg:${matrix.os}" } } },
    },
})
