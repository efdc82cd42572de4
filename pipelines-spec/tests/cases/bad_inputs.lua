return pipeline.define({
    on = {
        push = { branches = { "main", "a[" }, branch = {} },
        schedule = { { cron = "0 3 * * *", timezone = "Europe/Berln", inputs = { jbs = 2, level = 9 } }, { timezone = "UTC" }, { cron = "0 25 * * 1-5" }, { cron = "* * *" }, { cron = "@daily" }, { cron = "*/2 * * * *" } },
        comment = { { command = "bench" }, { command = "/approve" }, { command = "/x", permission = "root" } },
        pull_request = { types = { "open" }, drafts = "no" },
        manual = "yes",
    },
    inputs = {
        must = { type = "string" },
        jobs = { type = "number", default = "4" },
        level = { type = "number", default = 9, max = 5 },
        kind = { type = "integer" },
        name = { type = "string", pattern = "%", default = "x" },
        list = { type = "array", items = "string", default = {}, min_items = 1 },
        flag = { type = "bool", default = true, min = 1, optons = {} },
        choice = { type = "string", options = { "a", 1 }, default = "b" },
        ["a b"] = { type = "string", default = "" },
        check = { type = "string", default = "", validate = "x" },
        none = {},
    },
    stages = { { name = "a", run = "x" } },
})
