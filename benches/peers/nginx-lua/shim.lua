-- Polls are answered from shared memory. Of concurrent polls for one task, across all workers, one calls the upstream
-- and the others wait for its result.

local cjson = require "cjson.safe"

local answers = ngx.shared.answers
local locks = ngx.shared.locks

local NOT_READY = "CAPCHA_NOT_READY"
local NOT_READY_TTL = 2
local ANSWER_TTL = 30 * 60
-- Releases the lock of a worker that died, in seconds.
local LOCK_TTL = 10
local FOLLOW_MAX = 8
-- A follower checks again after this interval, which doubles each time, in seconds.
local INTERVAL_FIRST = 0.001
local INTERVAL_MAX = 0.1

local function parameters()
  local params = ngx.req.get_uri_args()
  if ngx.req.get_method() == "POST" then
    ngx.req.read_body()
    for name, value in pairs(ngx.req.get_post_args() or {}) do
      params[name] = value
    end
  end
  return params
end

local function text(params, name)
  local value = params[name]
  return type(value) == "string" and value or ""
end

local function send(reply, as_json)
  if as_json then
    local token = reply:sub(1, 3) == "OK|" and reply:sub(4)
    reply = cjson.encode({ status = token and 1 or 0, request = token or reply })
    ngx.header["Content-Type"] = "application/json"
  end
  ngx.header["Content-Length"] = #reply
  ngx.print(reply)
end

-- Returns the upstream's answer as a table, or nil. Errors have another HTTP status, but also a JSON body.
local function call(endpoint, body)
  local response = ngx.location.capture("/native/" .. endpoint, { method = ngx.HTTP_POST, body = cjson.encode(body) })
  local answer = cjson.decode(response.body)
  return type(answer) == "table" and answer or nil
end

-- Polls the upstream and caches the result; failures are not cached.
local function poll_upstream(cache_key, key, id)
  local answer = call("getTaskResult", { clientKey = key, taskId = id })
  if not answer then
    return NOT_READY
  end
  if answer.errorCode then
    answers:set(cache_key, answer.errorCode, ANSWER_TTL)
    return answer.errorCode
  end
  if answer.status ~= "ready" then
    answers:set(cache_key, NOT_READY, NOT_READY_TTL)
    return NOT_READY
  end
  local reply = "OK|" .. answer.solution.token
  answers:set(cache_key, reply, ANSWER_TTL)
  return reply
end

local function follow(cache_key)
  local waited, interval = 0, INTERVAL_FIRST
  while waited < FOLLOW_MAX do
    ngx.sleep(interval)
    local reply = answers:get(cache_key)
    if reply then
      return reply
    end
    if not locks:get(cache_key) then
      return NOT_READY
    end
    waited = waited + interval
    interval = math.min(2 * interval, INTERVAL_MAX)
  end
  return NOT_READY
end

local function poll(params)
  if params.action ~= "get" then
    return "ERROR_BAD_PARAMETERS"
  end
  local key, id = text(params, "key"), text(params, "id")
  local cache_key = key .. "\n" .. id
  local reply = answers:get(cache_key)
  if reply then
    return reply
  end
  if not locks:add(cache_key, true, LOCK_TTL) then
    return follow(cache_key)
  end
  -- Another worker may have stored a result between the lookup and the lock.
  reply = answers:get(cache_key)
  if not reply then
    local is_ok, result = pcall(poll_upstream, cache_key, key, id)
    reply = is_ok and result or NOT_READY
  end
  locks:delete(cache_key)
  return reply
end

local function submit(params)
  if params.method ~= "turnstile" then
    return "ERROR_BAD_PARAMETERS"
  end
  local answer = call("createTask", {
    clientKey = text(params, "key"),
    task = {
      type = "TurnstileTaskProxyless",
      websiteURL = text(params, "pageurl"),
      websiteKey = text(params, "sitekey"),
    },
  })
  if not answer then
    return "ERROR_NO_SLOT_AVAILABLE"
  end
  if answer.errorCode then
    return answer.errorCode
  end
  return answer.taskId and "OK|" .. answer.taskId or "ERROR_NO_SLOT_AVAILABLE"
end

return {
  res = function()
    local params = parameters()
    send(poll(params), params.json == "1")
  end,
  in_ = function()
    local params = parameters()
    send(submit(params), params.json == "1")
  end,
}
