-- Polls are answered from shared memory; of those who ask at the same time one goes to the upstream, in whatever worker
-- it is, and the others wait for what it brings.

local cjson = require "cjson.safe"

local answers = ngx.shared.answers
local locks = ngx.shared.locks

local NOT_READY = "CAPCHA_NOT_READY"
local NOT_READY_TTL = 2
local ANSWER_TTL = 30 * 60
-- The lock of a worker that died is free again after this.
local LOCK_TTL = 10
local FOLLOW_MAX = 8
-- A follower looks again after this, then after twice that, and so on, in seconds.
local STEP_FIRST = 0.001
local STEP_MAX = 0.1

local function parameters()
  local read = ngx.req.get_uri_args()
  if ngx.req.get_method() == "POST" then
    ngx.req.read_body()
    for name, value in pairs(ngx.req.get_post_args() or {}) do
      read[name] = value
    end
  end
  return read
end

local function text(read, name)
  local value = read[name]
  return type(value) == "string" and value or ""
end

local function reply(said, as_json)
  if as_json then
    local token = said:sub(1, 3) == "OK|" and said:sub(4)
    said = cjson.encode({ status = token and 1 or 0, request = token or said })
    ngx.header["Content-Type"] = "application/json"
  end
  ngx.header["Content-Length"] = #said
  ngx.print(said)
end

-- The upstream's answer as a table, or nil; an error of it has a status of its own and a body all the same.
local function call(endpoint, body)
  local said = ngx.location.capture("/native/" .. endpoint, { method = ngx.HTTP_POST, body = cjson.encode(body) })
  local answer = cjson.decode(said.body)
  return type(answer) == "table" and answer or nil
end

-- Asks the upstream, and remembers what is to be remembered; trouble is not.
local function ask(place, key, id)
  local answer = call("getTaskResult", { clientKey = key, taskId = id })
  if not answer then
    return NOT_READY
  end
  if answer.errorCode then
    answers:set(place, answer.errorCode, ANSWER_TTL)
    return answer.errorCode
  end
  if answer.status ~= "ready" then
    answers:set(place, NOT_READY, NOT_READY_TTL)
    return NOT_READY
  end
  local said = "OK|" .. answer.solution.token
  answers:set(place, said, ANSWER_TTL)
  return said
end

local function follow(place)
  local waited, step = 0, STEP_FIRST
  while waited < FOLLOW_MAX do
    ngx.sleep(step)
    local said = answers:get(place)
    if said then
      return said
    end
    if not locks:get(place) then
      return NOT_READY
    end
    waited = waited + step
    step = math.min(2 * step, STEP_MAX)
  end
  return NOT_READY
end

local function poll(read)
  if read.action ~= "get" then
    return "ERROR_BAD_PARAMETERS"
  end
  local key, id = text(read, "key"), text(read, "id")
  local place = key .. "\n" .. id
  local said = answers:get(place)
  if said then
    return said
  end
  if not locks:add(place, true, LOCK_TTL) then
    return follow(place)
  end
  -- Another worker may have come back between the look and the lock.
  said = answers:get(place)
  if not said then
    local asked, brought = pcall(ask, place, key, id)
    said = asked and brought or NOT_READY
  end
  locks:delete(place)
  return said
end

local function submit(read)
  if read.method ~= "turnstile" then
    return "ERROR_BAD_PARAMETERS"
  end
  local answer = call("createTask", {
    clientKey = text(read, "key"),
    task = { type = "TurnstileTaskProxyless", websiteURL = text(read, "pageurl"), websiteKey = text(read, "sitekey") },
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
    local read = parameters()
    reply(poll(read), read.json == "1")
  end,
  in_ = function()
    local read = parameters()
    reply(submit(read), read.json == "1")
  end,
}
