'use strict';
// Shared by all scripts: a check runner with a timeout, and assertions on the sandbox's answers.

const assert = require('assert');
const https = require('https');

exports.KEY = 'clients-test';
exports.PAGE = 'https://example.com/login';
exports.PROXY = { proxy: 'login:p@ss@127.0.0.1:3128', proxytype: 'HTTP' };
exports.AGENT = 'Agent/1.0 (x; y)';
// The gateway checks the first bytes and the size.
exports.IMAGE = Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), Buffer.alloc(112)]);
exports.IMAGE_TEXT = exports.IMAGE.toString('base64');
exports.AUDIO_TEXT = Buffer.concat([Buffer.from('ID3'), Buffer.alloc(200)]).toString('base64');
exports.ODD_ANSWER = 'SANDBOX|a "quoted" \\ <b>&amp; é 漢|\x7f';

const CHECK_MS = 30000;

// Libraries print warnings and errors that the checks provoke.
for (const name of ['log', 'warn', 'error']) {
  console[name] = () => {};
}

// Runs checks, each `[legacy method or action, function]`, concurrently, because some libraries always poll every five
// seconds. Prints one line per check, in the order of the list.
exports.run = async (library, checks) => {
  const withTimeout = async (check) => {
    let timer;
    const timeout = new Promise((_, reject) => {
      timer = setTimeout(reject, CHECK_MS, new Error(`no answer in ${CHECK_MS} ms`));
    });
    try {
      await Promise.race([check(), timeout]);
    } finally {
      clearTimeout(timer);
    }
  };
  const results = await Promise.allSettled(checks.map(([, check]) => withTimeout(check)));
  const lines = results.map(({ status, reason }, at) => {
    const name = `${library}: ${checks[at][0]}`;
    return status === 'fulfilled' ? `ok   ${name}` : `FAIL ${name}: ${oneLine(reason)}`;
  });
  // Ends the process after the output, because a library may have left timers.
  const failed = results.some(({ status }) => status === 'rejected');
  process.stdout.write(lines.join('\n') + '\n', () => process.exit(failed ? 1 : 0));
};

// The libraries throw an Error, a string, or an object with a code.
function oneLine(error) {
  const hasCode = error && error.err !== undefined;
  const message = hasCode ? `${error.message} (${error.err})` : (error && error.message) || error;
  return String(typeof message === 'object' ? JSON.stringify(message) : message).replace(/\s+/g, ' ').slice(0, 300);
}

exports.assertEqual = (got, wanted) => assert.deepStrictEqual(got, wanted);

exports.assertMatches = (got, wanted) => {
  assert.ok(typeof got === 'string' && wanted.test(got), `got ${JSON.stringify(got)}, not ${wanted}`);
};

exports.assertToken = (got) => exports.assertMatches(got, /^SANDBOX-[0-9a-f-]{36}$/);

exports.assertText = (got) => exports.assertEqual(got, 'SANDBOX');

// Legacy ids are numbers, sent as strings.
exports.assertId = (got) => exports.assertMatches(got, /^[0-9]+$/);

// Other checks may spend from the same account.
exports.assertMoney = (got) => {
  assert.ok(typeof got === 'number' && got > 40 && got <= 50.25, `got ${JSON.stringify(got)}, not a balance`);
};

// Returns an assertion on an object: it has at least these members, none empty, and a value from the sandbox.
exports.assertMembers = (...names) => (got) => {
  assert.ok(got && typeof got === 'object' && !Array.isArray(got), `got ${JSON.stringify(got)}, not an object`);
  for (const name of names) {
    const value = got[name];
    assert.ok(value !== undefined && value !== null && value !== '', `${name} is missing in ${JSON.stringify(got)}`);
  }
  assert.ok(JSON.stringify(got).includes('SANDBOX'), `${JSON.stringify(got)} is not from the sandbox`);
};

// A list of points whose coordinates are strings.
exports.assertPoints = (got) => {
  assert.ok(Array.isArray(got) && got.length > 0, `got ${JSON.stringify(got)}, not a list`);
  for (const point of got) {
    exports.assertMatches(point.x, /^[0-9]+$/);
    exports.assertMatches(point.y, /^[0-9]+$/);
  }
};

// For libraries that ignore the answer to a report: the opposite report is a duplicate if the first was recorded.
exports.assertReported = async (action, id) => {
  const opposite = action === 'reportgood' ? 'reportbad' : 'reportgood';
  const url = `https://2captcha.com/res.php?key=${exports.KEY}&action=${opposite}&id=${id}`;
  const body = await new Promise((resolve, reject) => {
    https.get(url, (response) => {
      let text = '';
      response.on('data', (chunk) => { text += chunk; });
      response.on('end', () => resolve(text));
    }).on('error', reject);
  });
  exports.assertEqual(body, 'ERROR_DUPLICATE_REPORT');
};

// Asserts that the call rejects with an error that `isExpected` accepts.
exports.assertRefused = async (call, isExpected) => {
  let result;
  try {
    result = await call();
  } catch (error) {
    assert.ok(isExpected(error), `rejected with ${oneLine(error)}`);
    return;
  }
  assert.fail(`got ${JSON.stringify(result)}, no error`);
};
