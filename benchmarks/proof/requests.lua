-- For wrk: posts the bodies of a file, one a line, in their order, and prints what came of it as one line of JSON.
--     wrk -t1 -c8 -d10s -s requests.lua http://127.0.0.1:8000 -- /v1/search bodies.jsonl

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  statuses, sent, requests = {}, 0, {}
  wrk.headers["Content-Type"] = "application/json"
  for body in io.lines(args[2]) do
    requests[#requests + 1] = wrk.format("POST", args[1], nil, body)
  end
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

function response(status)
  local name = "s" .. status
  statuses[name] = (statuses[name] or 0) + 1
end

local function object(numbers)
  local parts = {}
  for name, number in pairs(numbers) do
    parts[#parts + 1] = string.format('"%s": %d', name, number)
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

function done(summary, latency)
  local counted, microseconds = {}, {}
  for _, thread in ipairs(threads) do
    for name, count in pairs(thread:get("statuses")) do
      counted[name] = (counted[name] or 0) + count
    end
  end
  for i = 1, #latency do
    local value, count = latency(i)
    microseconds[i] = string.format("[%d, %d]", value, count)
  end
  print(string.format(
    '{"microseconds": %d, "requests": %d, "errors": %s, "statuses": %s, "latencies": [%s]}',
    summary.duration, summary.requests, object(summary.errors), object(counted),
    table.concat(microseconds, ", ")))
end
