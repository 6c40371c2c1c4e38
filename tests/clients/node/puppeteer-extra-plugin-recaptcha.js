'use strict';
// The plugin's 2captcha provider, without a browser: the plugin is handed what it would have found on a page. It speaks
// text, not JSON, and polls every two seconds.

const assert = require('assert');
const recaptchaPlugin = require('puppeteer-extra-plugin-recaptcha');
// What the provider is made of can also decode images.
const api = require('puppeteer-extra-plugin-recaptcha/dist/provider/2captcha-api');
const { run, equal, isToken, isText, isId, isReported, KEY, PAGE, IMAGE_TEXT } = require('./harness');

// The provider keeps the key in a variable of its module, so one process has one key.
const solve = (found, opts = {}) => {
  const plugin = recaptchaPlugin.default({ provider: { id: '2captcha', token: KEY, opts } });
  const captcha = { _vendor: 'recaptcha', sitekey: 'plain', url: PAGE, id: 'widget-1' };
  return plugin.getRecaptchaSolutions(found.map((one) => ({ ...captcha, ...one })));
};

const isSolution = (solution, accept = isToken) => {
  equal(solution.error, undefined);
  equal([solution.provider, solution.id, solution.hasSolution], ['2captcha', 'widget-1', true]);
  isId(solution.providerCaptchaId);
  accept(solution.text);
};

const solved = async (found, opts, accept) => {
  const { solutions, error } = await solve([found], opts);
  equal([solutions.length, error], [1, undefined]);
  isSolution(solutions[0], accept);
};

const fails = async (found, code) => {
  const { solutions, error } = await solve([found]);
  equal(solutions[0].error, `Error: 2captcha error: ${code}`);
  equal(error, solutions[0]);
};

// The environment is read before the first await, so that other checks do not see it.
const behindProxy = (address, call) => {
  const proxy = { '2CAPTCHA_PROXY_TYPE': 'http', '2CAPTCHA_PROXY_ADDRESS': address };
  Object.assign(process.env, proxy);
  const result = call();
  Object.keys(proxy).forEach((name) => delete process.env[name]);
  return result;
};

// The callback is called again for every answer after one that was declared invalid.
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
  ['userrecaptcha proxy', () => behindProxy('login:password@127.0.0.1:3128', () => solved({}))],
  ['userrecaptcha ERROR_PROXY_FORMAT', () => behindProxy('nowhere', () => fails({}, 'ERROR_PROXY_FORMAT'))],
  ['hcaptcha', () => solved({ _vendor: 'hcaptcha' })],
  ['userrecaptcha and hcaptcha on one page', async () => {
    const { solutions, error } = await solve([{}, { _vendor: 'hcaptcha' }, {}]);
    equal([solutions.length, error], [3, undefined]);
    solutions.forEach((solution) => isSolution(solution));
    equal(new Set(solutions.map((solution) => solution.text)).size, 3);
  }],
  ['base64', async () => {
    const { results: [{ id, text }] } = await decode();
    isId(id);
    isText(text);
  }],
  ['reportbad', async () => {
    const { results, invalid } = await decode();
    // Reports the answer as wrong and sends the image again.
    invalid();
    for (let waited = 0; results.length < 2 && waited < 10000; waited += 100) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    equal(results.length, 2);
    isText(results[1].text);
    assert.notStrictEqual(results[0].id, results[1].id);
    await isReported('reportbad', results[0].id);
  }],
  // A library that splits at every pipe keeps what stands before the first one.
  ['get odd answer', () => solved({ sitekey: 'sandbox-odd-answer' }, {}, (text) => equal(text, 'SANDBOX'))],
  ['get ERROR_CAPTCHA_UNSOLVABLE', () => fails({ sitekey: 'sandbox-unsolvable' }, 'ERROR_CAPTCHA_UNSOLVABLE')],
  ['get ERROR_CAPTCHA_UNSOLVABLE hcaptcha',
    () => fails({ _vendor: 'hcaptcha', sitekey: 'sandbox-unsolvable' }, 'ERROR_CAPTCHA_UNSOLVABLE')],
  ['userrecaptcha ERROR_GOOGLEKEY', () => fails({ sitekey: 'sandbox-bad-sitekey' }, 'ERROR_GOOGLEKEY')],
  ['userrecaptcha ERROR_PAGEURL', () => fails({ url: 'example' }, 'ERROR_PAGEURL')],
]);
