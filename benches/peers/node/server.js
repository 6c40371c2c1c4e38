// A straightforward shim for Node: fastify as server, undici as client, a Map as cache.
//
//   node server.js PORT UPSTREAM

import querystring from 'node:querystring'
import Fastify from 'fastify'
import { Pool } from 'undici'

const NOT_READY = 'CAPCHA_NOT_READY'
const NOT_READY_TTL_MS = 2_000
const ANSWER_TTL_MS = 30 * 60 * 1_000
const SWEEP_EVERY_MS = 30_000

const [port, upstream] = process.argv.slice(2)
const pool = new Pool(upstream, { connections: 256, pipelining: 1, keepAliveTimeout: 20_000 })
// By account and id: { reply, expires }.
const answers = new Map()
// By account and id: the promise of a poll in progress.
const flights = new Map()

async function call (path, body) {
  const answer = await pool.request({
    path, method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body)
  })
  // Upstream errors have another HTTP status, but also a JSON body.
  return answer.body.json()
}

async function pollUpstream (cacheKey, key, id) {
  try {
    const answer = await call('/getTaskResult', { clientKey: key, taskId: id })
    let reply = NOT_READY
    if (answer.errorCode) reply = answer.errorCode
    else if (answer.status === 'ready') reply = `OK|${answer.solution.token}`
    const ttl = reply === NOT_READY ? NOT_READY_TTL_MS : ANSWER_TTL_MS
    answers.set(cacheKey, { reply, expires: performance.now() + ttl })
    return reply
  } catch {
    // Failures are not cached.
    return NOT_READY
  } finally {
    flights.delete(cacheKey)
  }
}

function poll ({ key, action, id }) {
  if (action !== 'get') return 'ERROR_BAD_PARAMETERS'
  const cacheKey = `${key}\n${id}`
  const cached = answers.get(cacheKey)
  if (cached !== undefined && performance.now() < cached.expires) return cached.reply
  let flight = flights.get(cacheKey)
  if (flight === undefined) {
    flight = pollUpstream(cacheKey, key, id)
    flights.set(cacheKey, flight)
  }
  return flight
}

async function submit ({ key, method, sitekey, pageurl }) {
  if (method !== 'turnstile') return 'ERROR_BAD_PARAMETERS'
  const task = { type: 'TurnstileTaskProxyless', websiteURL: pageurl, websiteKey: sitekey }
  try {
    const { errorCode, taskId } = await call('/createTask', { clientKey: key, task })
    if (errorCode) return errorCode
    if (taskId) return `OK|${taskId}`
  } catch {}
  return 'ERROR_NO_SLOT_AVAILABLE'
}

function send (response, reply, json) {
  if (json !== '1') return response.type('text/plain; charset=utf-8').send(reply)
  const ready = reply.startsWith('OK|')
  const body = { status: ready ? 1 : 0, request: ready ? reply.slice(3) : reply }
  return response.type('application/json').send(JSON.stringify(body))
}

function handler (action) {
  return (request, response) => {
    const params = request.body ? { ...request.query, ...request.body } : request.query
    const reply = action(params)
    // Cached replies are sent without a promise, whose cost per request is measurable.
    if (typeof reply === 'string') return send(response, reply, params.json)
    return reply.then((text) => send(response, text, params.json))
  }
}

function sweep () {
  const now = performance.now()
  for (const [cacheKey, { expires }] of answers) {
    if (expires <= now) answers.delete(cacheKey)
  }
}

const app = Fastify({ logger: false, keepAliveTimeout: 75_000 })
app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) => {
  done(null, querystring.parse(body))
})
app.route({ method: ['GET', 'POST'], url: '/res.php', handler: handler(poll) })
app.route({ method: ['GET', 'POST'], url: '/in.php', handler: handler(submit) })
setInterval(sweep, SWEEP_EVERY_MS).unref()
await app.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 })
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0))
