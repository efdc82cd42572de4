-- Replaces what would make two evaluations of one file differ: the order of `pairs` and `next`, and addresses in text.
-- Runs before the sandbox is closed; gives the host a way to say what a proxy table iterates over.
local native_next, native_tostring, native_format = next, tostring, string.format
local type, rawget, rawlen, select, error, getmetatable = type, rawget, rawlen, select, error, getmetatable
local sort, unpack = table.sort, table.unpack

local entries_of = setmetatable({}, { __mode = "k" })
local ids = setmetatable({}, { __mode = "k" })
local cached = setmetatable({}, { __mode = "k" })
local count = 0

local rank = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
    local ranked_a, ranked_b = rank[type(a)], rank[type(b)]
    if ranked_a ~= ranked_b then
        return ranked_a < ranked_b
    elseif ranked_a == 3 then
        return not a and b
    end
    return a < b
end

local function sorted_keys(t, level)
    local keys, n = {}, rawlen(t)
    for i = 1, n do
        keys[i] = i
    end
    local rest = {}
    for key in native_next, t do
        if not (type(key) == "number" and key >= 1 and key <= n and key % 1 == 0) then
            if not rank[type(key)] then
                error("a table with keys of type " .. type(key) .. " has no fixed order; use numbers or strings as keys", level + 1)
            end
            rest[#rest + 1] = key
        end
    end
    sort(rest, before)
    for i = 1, #rest do
        keys[n + i] = rest[i]
    end
    return keys
end

local function check_table(t, name)
    if type(t) ~= "table" then
        error("invalid argument #1 to '" .. name .. "' (table expected, got " .. type(t) .. ")", 3)
    end
end

local function pairs(t)
    check_table(t, "pairs")
    local subject = t
    if entries_of[t] then
        subject = entries_of[t]()
    end
    local keys, i = sorted_keys(subject, 2), 0
    return function()
        while true do
            i += 1
            local key = keys[i]
            if key == nil then
                return nil
            end
            local value = rawget(subject, key)
            if value ~= nil then
                return key, value
            end
        end
    end
end

local function next(t, key)
    check_table(t, "next")
    local subject = t
    if entries_of[t] then
        subject = entries_of[t]()
    end
    local known = cached[t]
    if key == nil or not known then
        known = { keys = sorted_keys(subject, 2), place = {} }
        for i = 1, #known.keys do
            known.place[known.keys[i]] = i
        end
        cached[t] = known
    end
    local i = 0
    if key ~= nil then
        i = known.place[key] or error("invalid key to 'next'", 2)
    end
    while true do
        i += 1
        local found = known.keys[i]
        if found == nil then
            return nil
        end
        local value = rawget(subject, found)
        if value ~= nil then
            return found, value
        end
    end
end

local addressed = { table = true, ["function"] = true, thread = true, userdata = true, buffer = true }

local function tostring(value)
    local kind = type(value)
    if not addressed[kind] then
        return native_tostring(value)
    end
    local meta = getmetatable(value)
    if kind == "userdata" or (type(meta) == "table" and rawget(meta, "__tostring")) or (meta ~= nil and type(meta) ~= "table") then
        return native_tostring(value)
    end
    if not ids[value] then
        count += 1
        ids[value] = count
    end
    return kind .. ": " .. native_format("%04d", ids[value])
end

local function format(pattern, ...)
    local n = select("#", ...)
    for i = 1, n do
        if addressed[type((select(i, ...)))] then
            local values = { ... }
            for j = 1, n do
                if addressed[type(values[j])] then
                    values[j] = tostring(values[j])
                end
            end
            return native_format(pattern, unpack(values, 1, n))
        end
    end
    return native_format(pattern, ...)
end

return {
    pairs = pairs,
    next = next,
    tostring = tostring,
    format = format,
    iterate = function(proxy, entries)
        entries_of[proxy] = entries
    end,
}
