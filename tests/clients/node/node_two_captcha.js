'use strict';
// @infosimples/node_two_captcha: form posts, text answers, and its own readers of coordinates and cells.

const Client = require('@infosimples/node_two_captcha');
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');
const {
  run, equal, matches, isToken, isText, isId, isMoney, refused, KEY, PAGE, IMAGE, IMAGE_TEXT,
} = require('./harness');

const client = (key = KEY) => new Client(key, { timeout: 20000, polling: 500, throwErrors: true });
const says = (text) => (error) => error.message.includes(text);

const solved = async (name, options, accept) => {
  const captcha = await client()[name](options);
  isId(captcha.id);
  accept(captcha.text);
  equal(captcha.apiResponse, `OK|${captcha.text}`);
  return captcha;
};

const key = { googlekey: 'plain', pageurl: PAGE };
const image = (more) => client().decode({ buffer: IMAGE, textinstructions: 'click the röd & blå one', ...more });

run('@infosimples/node_two_captcha', [
  ['userrecaptcha', () => solved('decodeRecaptchaV2', key, isToken)],
  ['userrecaptcha invisible=1', () => solved('decodeRecaptchaV2', { ...key, invisible: true }, isToken)],
  ['userrecaptcha enterprise=1', () => solved('decodeRecaptchaV2', { ...key, enterprise: true }, isToken)],
  ['userrecaptcha version=v3', () => solved('decodeRecaptchaV3', { ...key, action: 'login' }, isToken)],
  // The library sends an empty action where none is given.
  ['userrecaptcha version=v3 enterprise=1', () => solved('decodeRecaptchaV3', { ...key, enterprise: true }, isToken)],
  ['hcaptcha', () => solved('decodeHCaptcha', { sitekey: 'plain', pageurl: PAGE, invisible: true }, isToken)],
  ['base64', () => solved('decode', { base64: IMAGE_TEXT }, isText)],
  ['base64 buffer', () => solved('decode', { buffer: IMAGE, numeric: 4, min_len: 4 }, isText)],
  ['base64 path', async () => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'clients-node-'));
    try {
      const file = path.join(directory, 'captcha.png');
      fs.writeFileSync(file, IMAGE);
      await solved('decode', { path: file }, isText);
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  }],
  ['base64 url', async () => {
    const site = http.createServer((_, response) => response.end(IMAGE));
    await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
    try {
      await solved('decode', { url: `http://127.0.0.1:${site.address().port}/captcha.png` }, isText);
    } finally {
      site.close();
    }
  }],
  ['base64 coordinatescaptcha=1', async () => {
    const captcha = await image({ coordinatescaptcha: 1 });
    matches(captcha.text, /^coordinates:x=\d+,y=\d+(;x=\d+,y=\d+)*$/);
    equal(captcha.coordinates().flat().every(Number.isInteger), true);
  }],
  ['base64 recaptcha=1', async () => {
    const captcha = await image({ recaptcha: 1, recaptcharows: 3, recaptchacols: 3 });
    matches(captcha.text, /^click:\d+(\/\d+)*$/);
    equal(captcha.indexes().every(Number.isInteger), true);
  }],
  ['getbalance', async () => {
    // axios reads a body that is a JSON number as one.
    isMoney(await client().balance());
  }],
  ['reportgood', async () => {
    const { id } = await solved('decodeRecaptchaV2', key, isToken);
    equal(await client().report(id, false), true);
    await refused(() => client().report(id), says('ERROR_DUPLICATE_REPORT'));
  }],
  ['reportbad', async () => {
    const { id } = await solved('decode', { base64: IMAGE_TEXT }, isText);
    equal(await client().report(id), true);
    await refused(() => client().report(id, false), says('ERROR_DUPLICATE_REPORT'));
  }],
  ['get ERROR_CAPTCHA_UNSOLVABLE', () => refused(
    () => client().decodeRecaptchaV2({ ...key, googlekey: 'sandbox-unsolvable' }), says('We are unable to solve'))],
  ['get ERROR_WRONG_CAPTCHA_ID', () => refused(() => client().captcha('1'), says('incorrect captcha ID'))],
  ['get ERROR_WRONG_ID_FORMAT', () => refused(() => client().captcha('x'), says('wrong format'))],
  ['get CAPCHA_NOT_READY', async () => {
    // Submits and gives up, since the task is never ready.
    const impatient = new Client(KEY, { timeout: 1200, polling: 400, throwErrors: true });
    await refused(() => impatient.decodeRecaptchaV2({ ...key, googlekey: 'sandbox-never' }), says('Captcha timeout'));
  }],
  ['userrecaptcha ERROR_PAGEURL', () => refused(
    () => client().decodeRecaptchaV2({ ...key, pageurl: 'example' }),
    // In front of these words the library has a no-break space.
    says('parameter is missing in your request'))],
  ['base64 ERROR_ZERO_CAPTCHA_FILESIZE', () => refused(
    () => client().decode({ base64: 'iVBORw0KGgo=' }), says('less than 100 bytes'))],
  ['base64 ERROR_ZERO_BALANCE', () => refused(
    () => client('sandbox-zero-balance').decode({ buffer: IMAGE }), says("You don't have funds"))],
  ['getbalance ERROR_KEY_DOES_NOT_EXIST', () => refused(
    () => client('sandbox-key-unknown').balance(), says('does not exist'))],
]);
