-- Requests and report of wrk. `wrk … URL -- PATHS`: each request uses a random line of the file PATHS as its path.
-- Without PATHS, each request uses the path of the URL.

local requests = {}

local function read(file)
  for path in io.lines(file) do
    requests[#requests + 1] = wrk.format("GET", path)
  end
end

function init(args)
  if args[1] then
    read(args[1])
    local random, count = math.random, #requests
    -- Only defined with PATHS: otherwise wrk prepares its single request once.
    function request()
      return requests[random(count)]
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"bytes":%d,"micros":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,' ..
      '"p50_us":%d,"p99_us":%d,"p999_us":%d}\n',
    summary.requests, summary.bytes, summary.duration, errors.connect, errors.read, errors.write, errors.status,
    errors.timeout, latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
