// The shim as one would write it for Node: fastify before, undici behind, a Map between.
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
// By account and id: { said, until }.
const answers = new Map()
// By account and id: what is asked right now.
const flights = new Map()

async function call (path, body) {
  const answer = await pool.request({
    path, method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body)
  })
  // An error of the upstream has a status of its own, and says what it is in its body all the same.
  return answer.body.json()
}

async function ask (place, key, id) {
  try {
    const answer = await call('/getTaskResult', { clientKey: key, taskId: id })
    let said = NOT_READY
    if (answer.errorCode) said = answer.errorCode
    else if (answer.status === 'ready') said = `OK|${answer.solution.token}`
    const ttl = said === NOT_READY ? NOT_READY_TTL_MS : ANSWER_TTL_MS
    answers.set(place, { said, until: performance.now() + ttl })
    return said
  } catch {
    // Trouble is not remembered.
    return NOT_READY
  } finally {
    flights.delete(place)
  }
}

function poll ({ key, action, id }) {
  if (action !== 'get') return 'ERROR_BAD_PARAMETERS'
  const place = `${key}\n${id}`
  const known = answers.get(place)
  if (known !== undefined && performance.now() < known.until) return known.said
  let flight = flights.get(place)
  if (flight === undefined) {
    flight = ask(place, key, id)
    flights.set(place, flight)
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

function send (reply, said, json) {
  if (json !== '1') return reply.type('text/plain; charset=utf-8').send(said)
  const ready = said.startsWith('OK|')
  const body = { status: ready ? 1 : 0, request: ready ? said.slice(3) : said }
  return reply.type('application/json').send(JSON.stringify(body))
}

function handler (act) {
  return (request, reply) => {
    const asked = request.body ? { ...request.query, ...request.body } : request.query
    const said = act(asked)
    // What is known is sent at once: a promise more per request is measurable.
    if (typeof said === 'string') return send(reply, said, asked.json)
    return said.then((text) => send(reply, text, asked.json))
  }
}

function sweep () {
  const now = performance.now()
  for (const [place, { until }] of answers) {
    if (until <= now) answers.delete(place)
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
