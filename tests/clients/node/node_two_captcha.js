'use strict';
// @infosimples/node_two_captcha: form posts, text answers, and its own parsers of coordinates and cells.

const Client = require('@infosimples/node_two_captcha');
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');
const {
  run, assertEqual, assertMatches, assertToken, assertText, assertId, assertMoney, assertRefused, KEY, PAGE, IMAGE,
  IMAGE_TEXT,
} = require('./harness');

const client = (key = KEY) => new Client(key, { timeout: 20000, polling: 500, throwErrors: true });
const contains = (text) => (error) => error.message.includes(text);

const solved = async (name, options, accept) => {
  const captcha = await client()[name](options);
  assertId(captcha.id);
  accept(captcha.text);
  assertEqual(captcha.apiResponse, `OK|${captcha.text}`);
  return captcha;
};

const key = { googlekey: 'plain', pageurl: PAGE };
const image = (more) => client().decode({ buffer: IMAGE, textinstructions: 'click the röd & blå one', ...more });

run('@infosimples/node_two_captcha', [
  ['userrecaptcha', () => solved('decodeRecaptchaV2', key, assertToken)],
  ['userrecaptcha invisible=1', () => solved('decodeRecaptchaV2', { ...key, invisible: true }, assertToken)],
  ['userrecaptcha enterprise=1', () => solved('decodeRecaptchaV2', { ...key, enterprise: true }, assertToken)],
  ['userrecaptcha version=v3', () => solved('decodeRecaptchaV3', { ...key, action: 'login' }, assertToken)],
  // The library sends an empty action by default.
  ['userrecaptcha version=v3 enterprise=1',
    () => solved('decodeRecaptchaV3', { ...key, enterprise: true }, assertToken)],
  ['hcaptcha', () => solved('decodeHCaptcha', { sitekey: 'plain', pageurl: PAGE, invisible: true }, assertToken)],
  ['base64', () => solved('decode', { base64: IMAGE_TEXT }, assertText)],
  ['base64 buffer', () => solved('decode', { buffer: IMAGE, numeric: 4, min_len: 4 }, assertText)],
  ['base64 path', async () => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'clients-node-'));
    try {
      const file = path.join(directory, 'captcha.png');
      fs.writeFileSync(file, IMAGE);
      await solved('decode', { path: file }, assertText);
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  }],
  ['base64 url', async () => {
    const site = http.createServer((_, response) => response.end(IMAGE));
    await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
    try {
      await solved('decode', { url: `http://127.0.0.1:${site.address().port}/captcha.png` }, assertText);
    } finally {
      site.close();
    }
  }],
  ['base64 coordinatescaptcha=1', async () => {
    const captcha = await image({ coordinatescaptcha: 1 });
    assertMatches(captcha.text, /^coordinates:x=\d+,y=\d+(;x=\d+,y=\d+)*$/);
    assertEqual(captcha.coordinates().flat().every(Number.isInteger), true);
  }],
  ['base64 recaptcha=1', async () => {
    const captcha = await image({ recaptcha: 1, recaptcharows: 3, recaptchacols: 3 });
    assertMatches(captcha.text, /^click:\d+(\/\d+)*$/);
    assertEqual(captcha.indexes().every(Number.isInteger), true);
  }],
  ['getbalance', async () => {
    // axios parses a numeric body as a JSON number.
    assertMoney(await client().balance());
  }],
  ['reportgood', async () => {
    const { id } = await solved('decodeRecaptchaV2', key, assertToken);
    assertEqual(await client().report(id, false), true);
    await assertRefused(() => client().report(id), contains('ERROR_DUPLICATE_REPORT'));
  }],
  ['reportbad', async () => {
    const { id } = await solved('decode', { base64: IMAGE_TEXT }, assertText);
    assertEqual(await client().report(id), true);
    await assertRefused(() => client().report(id, false), contains('ERROR_DUPLICATE_REPORT'));
  }],
  ['get ERROR_CAPTCHA_UNSOLVABLE', () => assertRefused(
    () => client().decodeRecaptchaV2({ ...key, googlekey: 'sandbox-unsolvable' }), contains('We are unable to solve'))],
  ['get ERROR_WRONG_CAPTCHA_ID', () => assertRefused(() => client().captcha('1'), contains('incorrect captcha ID'))],
  ['get ERROR_WRONG_ID_FORMAT', () => assertRefused(() => client().captcha('x'), contains('wrong format'))],
  ['get CAPCHA_NOT_READY', async () => {
    // The task is never ready, so the client times out.
    const impatient = new Client(KEY, { timeout: 1200, polling: 400, throwErrors: true });
    await assertRefused(
      () => impatient.decodeRecaptchaV2({ ...key, googlekey: 'sandbox-never' }), contains('Captcha timeout'));
  }],
  ['userrecaptcha ERROR_PAGEURL', () => assertRefused(
    () => client().decodeRecaptchaV2({ ...key, pageurl: 'example' }),
    // The library's message has a no-break space before these words.
    contains('parameter is missing in your request'))],
  ['base64 ERROR_ZERO_CAPTCHA_FILESIZE', () => assertRefused(
    () => client().decode({ base64: 'iVBORw0KGgo=' }), contains('less than 100 bytes'))],
  ['base64 ERROR_ZERO_BALANCE', () => assertRefused(
    () => client('sandbox-zero-balance').decode({ buffer: IMAGE }), contains("You don't have funds"))],
  ['getbalance ERROR_KEY_DOES_NOT_EXIST', () => assertRefused(
    () => client('sandbox-key-unknown').balance(), contains('does not exist'))],
]);
