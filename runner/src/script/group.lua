-- Folds what `fn` logs under a heading; the group is closed also when `fn` raises.
local open, close = ...
local pack, unpack, pcall, error, type = table.pack, table.unpack, pcall, error, type

return function(name, fn)
    if type(name) ~= "string" or type(fn) ~= "function" then
        error("expected a name and a function", 2)
    end
    open(name)
    local results = pack(pcall(fn))
    close()
    if not results[1] then
        error(results[2], 0)
    end
    return unpack(results, 2, results.n)
end
