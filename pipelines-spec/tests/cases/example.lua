return pipeline.define({
    name = "Build and Test",
    description = "Builds the project and runs tests",
    on = {
        push = { branches = { "main", "release/*" }, tags = { "v*" }, paths = { "src/**", "!docs/**" } },
        pull_request = { branches = { "main" } },
        schedule = { { cron = "0 3 * * 1-5", timezone = "Europe/Berlin", inputs = { parallel_jobs = 16 } } },
        comment = { command = "/bench", permission = "write" },
        manual = true,
    },
    concurrency = { group = "ci-${ref}", cancel_in_progress = true },
    inputs = {
        branch = { type = "string", description = "Git branch to build", default = "main" },
        parallel_jobs = { type = "number", default = 4, options = { 1, 2, 4, 8, 16 } },
        skip_tests = { type = "bool", description = "Skip test stage", default = false, required = false },
        targets = { type = "array", items = "string", default = { "x86_64" }, min_items = 1 },
        version = { type = "string", pattern = "^v%d+%.%d+$", required = false },
        replicas = { type = "number", required = false, min = 1, max = 20,
                     validate = function(n) return n % 2 == 1, "must be odd" end },
    },
    runner = { { key = "os", value = "linux" }, { key = "arch", value = "x86_64" } },
    stages = {
        {
            name = "build",
            container = "rust:latest",
            script = function()
                log.info("Building project...")
                local jobs = input.get("parallel_jobs", "4")
                log.info("Using " .. jobs .. " parallel jobs")
                process.run({ cmd = "cargo", args = { "build", "-j", jobs }, timeout = "20m" })
            end,
        },
        {
            name = "test",
            container = "rust:latest",
            condition = function() return input.get("skip_tests") ~= "true" end,
            matrix = { db = { "sqlite", "postgres" }, profile = { "dev", "release" },
                       exclude = { { db = "postgres", profile = "dev" } }, max_parallel = 4, fail_fast = true },
            retry = { max_attempts = 3, on = { "infra_error", "timeout" },
                      backoff = { initial = "5s", factor = 2, max = "5m", jitter = 0.2 } },
            timeout = "30m",
            script = function(ctx) process.run({ "cargo", "test", "--features", ctx.matrix.db }) end,
        },
        {
            name = "deploy",
            depends_on = { "test" },
            approval = { required = true, reviewers = { "devops", "@acme/release", "alice" }, count = 2,
                         prevent_self = true, expires = "72h" },
            environment = "production",
            secrets = { "DEPLOY_KEY" },
            script = function(ctx)
                local version = ctx.step("release", function()
                    return process.run({ "./release.sh", ctx.event.sha }).stdout
                end)
                return { version = version } -- outputs, for later stages: ctx.needs.deploy.outputs
            end,
            rollback = function(ctx) process.run("./rollback.sh") end,
        },
    },
})
