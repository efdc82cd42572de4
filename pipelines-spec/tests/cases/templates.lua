local stages = require("lib/stages")
return pipeline.define({
    stages = {
        stages.cargo("build"),
        stages.cargo("test", { tmeout = 5 }),
    },
})
---- .rivet/lib/stages.lua
local M = {}

function M.cargo(what, more)
    local stage = {
        name = what,
        run = { "cargo " .. what },
        container = "rust:",
    }
    for key, value in pairs(more or {}) do
        stage[key] = value
    end
    return stage
end

return M
