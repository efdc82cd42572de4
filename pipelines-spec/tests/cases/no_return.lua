pipeline.define({
    stages = { { name = "a", run = "x" } },
})
