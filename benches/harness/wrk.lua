-- What wrk sends and how it reports. `wrk … URL -- PATHS`: PATHS is a file with a path a line, of which each request takes
-- one at random; without it, the URL's own path is asked for every time.

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
    -- Defined only here: without it, wrk prepares the one request once.
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
