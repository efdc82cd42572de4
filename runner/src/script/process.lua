-- `process.run` and `process.parallel` on three native calls: `start` a command, `wait` for one of several, `take` its end.
--
-- Inside `parallel` each call of the author's function is a coroutine. It yields the tickets it waits for; whoever
-- resumes it, resumes it with one that is done. A `parallel` within a `parallel` waits the same way, so nothing blocks.
local native = ...
local create, resume, status, yield, running = coroutine.create, coroutine.resume, coroutine.status, coroutine.yield, coroutine.running
local error, type, ipairs, tinsert, find = error, type, ipairs, table.insert, table.find

local tasks = setmetatable({}, { __mode = "k" })
local WAIT = {}

local function wait(tickets)
    if tasks[running()] then
        return yield(WAIT, tickets)
    end
    return native.wait(tickets)
end

local process = {}

function process.run(spec)
    local ticket = native.start(spec)
    wait({ ticket })
    local result, failure = native.take(ticket)
    if failure then
        error(failure, 0)
    end
    return result
end

-- One call of the author's function: { co, index, wants }.
local function advance(task, results, ...)
    local ok, first, second = resume(task.co, ...)
    if not ok then
        return { first }
    end
    if status(task.co) == "dead" then
        results[task.index] = first
        task.wants = nil
        return nil
    end
    if first ~= WAIT then
        return { "process.parallel: coroutine.yield cannot be used here" }
    end
    task.wants = second
    return nil
end

function process.parallel(items, fn, options)
    if type(items) ~= "table" or type(fn) ~= "function" then
        error("process.parallel: expected a list and a function", 2)
    end
    local max = options and options.max or #items
    if type(max) ~= "number" or (max < 1 and #items > 0) then
        error("process.parallel: max must be a number from 1", 2)
    end
    local results, active, next_index, failed = {}, {}, 1, nil
    while true do
        while not failed and next_index <= #items and #active < max do
            local task = { co = create(fn), index = next_index }
            tasks[task.co] = true
            next_index += 1
            failed = advance(task, results, items[task.index], task.index)
            if not failed and task.wants then
                tinsert(active, task)
            end
        end
        if #active == 0 then
            break
        end
        local tickets = {}
        for _, task in ipairs(active) do
            for _, ticket in ipairs(task.wants) do
                tinsert(tickets, ticket)
            end
        end
        local done = wait(tickets)
        for at, task in ipairs(active) do
            if find(task.wants, done) then
                -- After a failure the others are waited for, not cut off: what they do is done whole or not started.
                local failure = advance(task, results, done)
                failed = failed or failure
                if failure or not task.wants then
                    table.remove(active, at)
                end
                break
            end
        end
    end
    if failed then
        error(failed[1], 0)
    end
    return results
end

return process
