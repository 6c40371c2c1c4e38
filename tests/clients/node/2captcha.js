'use strict';
// The package 2captcha, by Furry. It posts an image as JSON with a text content type and all other parameters in the
// query.

const { Solver, APIError } = require('2captcha');
const {
  run, assertEqual, assertToken, assertText, assertId, assertMoney, assertMembers, assertRefused, KEY, PAGE, PROXY,
  IMAGE_TEXT, ODD_ANSWER,
} = require('./harness');

const solver = (apikey = KEY) => new Solver(apikey, 500);
const isError = (code) => (error) => error instanceof APIError && error.err === code;

const solved = async (name, given, accept) => {
  const result = await solver()[name](...given);
  assertEqual(Object.keys(result).sort(), ['data', 'id']);
  assertId(result.id);
  accept(result.data);
  return result.id;
};

const reports = async (name, given, accept, report, opposite) => {
  const id = await solved(name, given, accept);
  assertEqual(await solver()[report](id), undefined);
  assertEqual(await solver()[report](id), undefined);
  await assertRefused(() => solver()[opposite](id), isError('ERROR_DUPLICATE_REPORT'));
};

const METHODS = [
  ['userrecaptcha', 'recaptcha', ['plain', PAGE], assertToken],
  ['userrecaptcha invisible=1', 'recaptcha', ['plain', PAGE, { invisible: true }], assertToken],
  ['userrecaptcha data-s', 'recaptcha', ['plain', PAGE, { 'data-s': 'a+b/c==', cookies: 'A:1;B:2' }], assertToken],
  ['userrecaptcha proxy', 'recaptcha', ['plain', PAGE, PROXY], assertToken],
  ['userrecaptcha enterprise=1', 'recaptcha', ['plain', PAGE, { enterprise: 1 }], assertToken],
  ['userrecaptcha version=v3', 'recaptcha',
    ['plain', PAGE, { version: 'v3', action: 'a', min_score: 0.3 }], assertToken],
  ['userrecaptcha version=v3 enterprise=1', 'recaptcha',
    ['plain', PAGE, { version: 'v3', enterprise: 1 }], assertToken],
  ['hcaptcha', 'hcaptcha', ['plain', PAGE], assertToken],
  ['hcaptcha data', 'hcaptcha', ['plain', PAGE, { invisible: true, data: 'rqdata' }], assertToken],
  ['turnstile', 'turnstile', ['plain', PAGE, { action: 'managed', data: 'd' }], assertToken],
  ['funcaptcha', 'funCaptcha', ['plain', PAGE], assertToken],
  ['funcaptcha surl', 'funCaptcha',
    ['plain', PAGE, 'https://client-api.arkoselabs.com', { 'data[blob]': 'b' }], assertToken],
  ['geetest', 'geetest', ['f2ae6c', '12345678abc', PAGE, { api_server: 'api.geetest.com' }],
    assertMembers('geetest_challenge', 'geetest_validate', 'geetest_seccode')],
  ['base64', 'imageCaptcha', [IMAGE_TEXT], assertText],
  ['base64 options', 'imageCaptcha',
    [IMAGE_TEXT, { numeric: 4, min_len: 4, textinstructions: 'röd & blå' }], assertText],
  ['get odd answer', 'recaptcha', ['sandbox-odd-answer', PAGE], (got) => assertEqual(got, ODD_ANSWER)],
];

run('2captcha', [
  ...METHODS.map(([legacy, ...rest]) => [legacy, () => solved(...rest)]),
  ['getbalance', async () => assertMoney(await solver().balance())],
  ['reportgood', () => reports('recaptcha', ['plain', PAGE], assertToken, 'goodReport', 'report')],
  ['reportbad', () => reports('recaptcha', ['plain', PAGE], assertToken, 'report', 'goodReport')],
  ['reportgood base64', () => reports('imageCaptcha', [IMAGE_TEXT], assertText, 'goodReport', 'report')],
  ['reportbad base64', () => reports('imageCaptcha', [IMAGE_TEXT], assertText, 'report', 'goodReport')],
  ['get ERROR_CAPTCHA_UNSOLVABLE', () => assertRefused(
    () => solver().recaptcha('sandbox-unsolvable', PAGE), isError('ERROR_CAPTCHA_UNSOLVABLE'))],
  ['get ERROR_CAPTCHA_UNSOLVABLE base64', () => assertRefused(
    () => solver().imageCaptcha(IMAGE_TEXT, { textinstructions: 'sandbox-unsolvable' }),
    isError('ERROR_CAPTCHA_UNSOLVABLE'))],
  ['userrecaptcha ERROR_PAGEURL', () => assertRefused(
    () => solver().recaptcha('plain', 'example'), isError('ERROR_PAGEURL'))],
  ['base64 ERROR_ZERO_CAPTCHA_FILESIZE', () => assertRefused(
    () => solver().imageCaptcha('iVBORw0KGgo='), isError('ERROR_ZERO_CAPTCHA_FILESIZE'))],
  ['userrecaptcha ERROR_KEY_DOES_NOT_EXIST', () => assertRefused(
    () => solver('sandbox-key-unknown').recaptcha('plain', PAGE), isError('ERROR_KEY_DOES_NOT_EXIST'))],
  // The library throws the whole body here.
  ['getbalance ERROR_KEY_DOES_NOT_EXIST', () => assertRefused(
    () => solver('sandbox-key-unknown').balance(), isError('{"status":0,"request":"ERROR_KEY_DOES_NOT_EXIST"}'))],
]);
