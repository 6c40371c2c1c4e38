'use strict';
// The plugin's 2captcha provider without a browser: the checks pass the captchas that the plugin would find on a page.
// It asks for text, not JSON, and polls every two seconds.

const assert = require('assert');
const recaptchaPlugin = require('puppeteer-extra-plugin-recaptcha');
// The provider's client can also decode images.
const api = require('puppeteer-extra-plugin-recaptcha/dist/provider/2captcha-api');
const {
  run, assertEqual, assertToken, assertText, assertId, assertReported, KEY, PAGE, IMAGE_TEXT,
} = require('./harness');

// The provider keeps the key in a module variable, so one process has one key.
const solve = (found, opts = {}) => {
  const plugin = recaptchaPlugin.default({ provider: { id: '2captcha', token: KEY, opts } });
  const captcha = { _vendor: 'recaptcha', sitekey: 'plain', url: PAGE, id: 'widget-1' };
  return plugin.getRecaptchaSolutions(found.map((one) => ({ ...captcha, ...one })));
};

const assertSolution = (solution, accept = assertToken) => {
  assertEqual(solution.error, undefined);
  assertEqual([solution.provider, solution.id, solution.hasSolution], ['2captcha', 'widget-1', true]);
  assertId(solution.providerCaptchaId);
  accept(solution.text);
};

const solved = async (found, opts, accept) => {
  const { solutions, error } = await solve([found], opts);
  assertEqual([solutions.length, error], [1, undefined]);
  assertSolution(solutions[0], accept);
};

const assertFails = async (found, code) => {
  const { solutions, error } = await solve([found]);
  assertEqual(solutions[0].error, `Error: 2captcha error: ${code}`);
  assertEqual(error, solutions[0]);
};

// The plugin reads the environment before its first await, so other checks do not see the change.
const withProxy = (address, call) => {
  const proxy = { '2CAPTCHA_PROXY_TYPE': 'http', '2CAPTCHA_PROXY_ADDRESS': address };
  Object.assign(process.env, proxy);
  const result = call();
  Object.keys(proxy).forEach((name) => delete process.env[name]);
  return result;
};

// The callback runs again for each answer after an answer was declared invalid.
const decode = () => new Promise((resolve, reject) => {
  const results = [];
  api.setApiKey(KEY);
  api.decode(IMAGE_TEXT, { pollingInterval: 500, retries: 3 }, (error, result, invalid) => {
    if (error) {
      reject(error);
    } else {
      results.push(result);
      resolve({ results, invalid });
    }
  });
});

run('puppeteer-extra-plugin-recaptcha', [
  ['userrecaptcha', () => solved({})],
  ['userrecaptcha data-s', () => solved({ s: 'a+b/c==' })],
  ['userrecaptcha action', () => solved({ action: 'login' }, { useActionValue: true })],
  ['userrecaptcha enterprise=1', () => solved({ isEnterprise: true, action: 'login' }, { useEnterpriseFlag: true })],
  ['userrecaptcha proxy', () => withProxy('login:password@127.0.0.1:3128', () => solved({}))],
  ['userrecaptcha ERROR_PROXY_FORMAT', () => withProxy('nowhere', () => assertFails({}, 'ERROR_PROXY_FORMAT'))],
  ['hcaptcha', () => solved({ _vendor: 'hcaptcha' })],
  ['userrecaptcha and hcaptcha on one page', async () => {
    const { solutions, error } = await solve([{}, { _vendor: 'hcaptcha' }, {}]);
    assertEqual([solutions.length, error], [3, undefined]);
    solutions.forEach((solution) => assertSolution(solution));
    assertEqual(new Set(solutions.map((solution) => solution.text)).size, 3);
  }],
  ['base64', async () => {
    const { results: [{ id, text }] } = await decode();
    assertId(id);
    assertText(text);
  }],
  ['reportbad', async () => {
    const { results, invalid } = await decode();
    // Reports the answer as wrong and sends the image again.
    invalid();
    for (let waited = 0; results.length < 2 && waited < 10000; waited += 100) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assertEqual(results.length, 2);
    assertText(results[1].text);
    assert.notStrictEqual(results[0].id, results[1].id);
    await assertReported('reportbad', results[0].id);
  }],
  // The library splits at every pipe and keeps the first part.
  ['get odd answer', () => solved({ sitekey: 'sandbox-odd-answer' }, {}, (text) => assertEqual(text, 'SANDBOX'))],
  ['get ERROR_CAPTCHA_UNSOLVABLE', () => assertFails({ sitekey: 'sandbox-unsolvable' }, 'ERROR_CAPTCHA_UNSOLVABLE')],
  ['get ERROR_CAPTCHA_UNSOLVABLE hcaptcha',
    () => assertFails({ _vendor: 'hcaptcha', sitekey: 'sandbox-unsolvable' }, 'ERROR_CAPTCHA_UNSOLVABLE')],
  ['userrecaptcha ERROR_GOOGLEKEY', () => assertFails({ sitekey: 'sandbox-bad-sitekey' }, 'ERROR_GOOGLEKEY')],
  ['userrecaptcha ERROR_PAGEURL', () => assertFails({ url: 'example' }, 'ERROR_PAGEURL')],
]);
