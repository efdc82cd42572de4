return pipeline.define({
    name = "nothing",
    stages = {},
})
