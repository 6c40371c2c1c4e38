'use strict';
// What all scripts share: a bounded run of the checks, and what the sandbox's answers look like.

const assert = require('assert');
const https = require('https');

exports.KEY = 'clients-test';
exports.PAGE = 'https://example.com/login';
exports.PROXY = { proxy: 'login:p@ss@127.0.0.1:3128', proxytype: 'HTTP' };
exports.AGENT = 'Agent/1.0 (x; y)';
// The gateway looks at the first bytes and the size.
exports.IMAGE = Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), Buffer.alloc(112)]);
exports.IMAGE_TEXT = exports.IMAGE.toString('base64');
exports.AUDIO_TEXT = Buffer.concat([Buffer.from('ID3'), Buffer.alloc(200)]).toString('base64');
exports.ODD_ANSWER = 'SANDBOX|a "quoted" \\ <b>&amp; é 漢|\x7f';

const CHECK_MS = 30000;

// Libraries print warnings and errors of which some are the purpose of a check.
for (const name of ['log', 'warn', 'error']) {
  console[name] = () => {};
}

// Runs checks, each `[legacy method or action, function]`, all at once, since some libraries poll every five seconds
// whatever one does. Prints a line per check, in the order of the list.
exports.run = async (library, checks) => {
  const bounded = async (check) => {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(reject, CHECK_MS, new Error(`no answer in ${CHECK_MS} ms`));
    });
    try {
      await Promise.race([check(), late]);
    } finally {
      clearTimeout(timer);
    }
  };
  const results = await Promise.allSettled(checks.map(([, check]) => bounded(check)));
  const lines = results.map(({ status, reason }, at) => {
    const name = `${library}: ${checks[at][0]}`;
    return status === 'fulfilled' ? `ok   ${name}` : `FAIL ${name}: ${oneLine(reason)}`;
  });
  // Ends the process once the lines are out: a library may have left timers behind.
  const failed = results.some(({ status }) => status === 'rejected');
  process.stdout.write(lines.join('\n') + '\n', () => process.exit(failed ? 1 : 0));
};

// The libraries' errors differ: an Error, a string, an object with a code.
function oneLine(error) {
  const said = error && error.err !== undefined ? `${error.message} (${error.err})` : (error && error.message) || error;
  return String(typeof said === 'object' ? JSON.stringify(said) : said).replace(/\s+/g, ' ').slice(0, 300);
}

exports.equal = (got, wanted) => assert.deepStrictEqual(got, wanted);

exports.matches = (got, wanted) => {
  assert.ok(typeof got === 'string' && wanted.test(got), `got ${JSON.stringify(got)}, which is not ${wanted}`);
};

exports.isToken = (got) => exports.matches(got, /^SANDBOX-[0-9a-f-]{36}$/);

exports.isText = (got) => exports.equal(got, 'SANDBOX');

// The legacy service's ids are numbers, written as text.
exports.isId = (got) => exports.matches(got, /^[0-9]+$/);

// The protocol prints a decimal number; other checks may have spent some of the account's money by now.
exports.isMoney = (got) => {
  assert.ok(typeof got === 'number' && got > 40 && got <= 50.25, `got ${JSON.stringify(got)}, which is no balance`);
};

// An object with at least these members, all filled, one of them by the sandbox.
exports.hasMembers = (...names) => (got) => {
  assert.ok(got && typeof got === 'object' && !Array.isArray(got), `got ${JSON.stringify(got)}, which is no object`);
  for (const name of names) {
    const value = got[name];
    assert.ok(value !== undefined && value !== null && value !== '', `${name} is missing in ${JSON.stringify(got)}`);
  }
  assert.ok(JSON.stringify(got).includes('SANDBOX'), `${JSON.stringify(got)} is not the sandbox's`);
};

// A list of points in JSON, whose numbers are texts.
exports.arePoints = (got) => {
  assert.ok(Array.isArray(got) && got.length > 0, `got ${JSON.stringify(got)}, which is no list`);
  for (const point of got) {
    exports.matches(point.x, /^[0-9]+$/);
    exports.matches(point.y, /^[0-9]+$/);
  }
};

// For libraries that do not look at what a report is answered with: the gateway is asked what became of it. A report
// that contradicts an earlier one is refused.
exports.isReported = async (action, id) => {
  const opposite = action === 'reportgood' ? 'reportbad' : 'reportgood';
  const url = `https://2captcha.com/res.php?key=${exports.KEY}&action=${opposite}&id=${id}`;
  const said = await new Promise((resolve, reject) => {
    https.get(url, (response) => {
      let body = '';
      response.on('data', (chunk) => { body += chunk; });
      response.on('end', () => resolve(body));
    }).on('error', reject);
  });
  exports.equal(said, 'ERROR_DUPLICATE_REPORT');
};

// The call must be rejected with an error for which `holds` is true.
exports.refused = async (call, holds) => {
  let result;
  try {
    result = await call();
  } catch (error) {
    assert.ok(holds(error), `rejected with ${oneLine(error)}`);
    return;
  }
  assert.fail(`got ${JSON.stringify(result)}, no error`);
};
