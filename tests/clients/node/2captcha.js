'use strict';
// The package 2captcha, by Furry: it passes arguments one by one, and an image as JSON under a text's content type with
// all other parameters in the query.

const { Solver, APIError } = require('2captcha');
const {
  run, equal, isToken, isText, isId, isMoney, hasMembers, refused, KEY, PAGE, PROXY, IMAGE_TEXT, ODD_ANSWER,
} = require('./harness');

const solver = (apikey = KEY) => new Solver(apikey, 500);
const isError = (code) => (error) => error instanceof APIError && error.err === code;

const solved = async (name, given, accept) => {
  const result = await solver()[name](...given);
  equal(Object.keys(result).sort(), ['data', 'id']);
  isId(result.id);
  accept(result.data);
  return result.id;
};

const reports = async (name, given, accept, report, opposite) => {
  const id = await solved(name, given, accept);
  equal(await solver()[report](id), undefined);
  equal(await solver()[report](id), undefined);
  await refused(() => solver()[opposite](id), isError('ERROR_DUPLICATE_REPORT'));
};

const METHODS = [
  ['userrecaptcha', 'recaptcha', ['plain', PAGE], isToken],
  ['userrecaptcha invisible=1', 'recaptcha', ['plain', PAGE, { invisible: true }], isToken],
  ['userrecaptcha data-s', 'recaptcha', ['plain', PAGE, { 'data-s': 'a+b/c==', cookies: 'A:1;B:2' }], isToken],
  ['userrecaptcha proxy', 'recaptcha', ['plain', PAGE, PROXY], isToken],
  ['userrecaptcha enterprise=1', 'recaptcha', ['plain', PAGE, { enterprise: 1 }], isToken],
  ['userrecaptcha version=v3', 'recaptcha', ['plain', PAGE, { version: 'v3', action: 'a', min_score: 0.3 }], isToken],
  ['userrecaptcha version=v3 enterprise=1', 'recaptcha', ['plain', PAGE, { version: 'v3', enterprise: 1 }], isToken],
  ['hcaptcha', 'hcaptcha', ['plain', PAGE], isToken],
  ['hcaptcha data', 'hcaptcha', ['plain', PAGE, { invisible: true, data: 'rqdata' }], isToken],
  ['turnstile', 'turnstile', ['plain', PAGE, { action: 'managed', data: 'd' }], isToken],
  ['funcaptcha', 'funCaptcha', ['plain', PAGE], isToken],
  ['funcaptcha surl', 'funCaptcha',
    ['plain', PAGE, 'https://client-api.arkoselabs.com', { 'data[blob]': 'b' }], isToken],
  ['geetest', 'geetest', ['f2ae6c', '12345678abc', PAGE, { api_server: 'api.geetest.com' }],
    hasMembers('geetest_challenge', 'geetest_validate', 'geetest_seccode')],
  ['base64', 'imageCaptcha', [IMAGE_TEXT], isText],
  ['base64 options', 'imageCaptcha', [IMAGE_TEXT, { numeric: 4, min_len: 4, textinstructions: 'röd & blå' }], isText],
  ['get odd answer', 'recaptcha', ['sandbox-odd-answer', PAGE], (got) => equal(got, ODD_ANSWER)],
];

run('2captcha', [
  ...METHODS.map(([legacy, ...rest]) => [legacy, () => solved(...rest)]),
  ['getbalance', async () => isMoney(await solver().balance())],
  ['reportgood', () => reports('recaptcha', ['plain', PAGE], isToken, 'goodReport', 'report')],
  ['reportbad', () => reports('recaptcha', ['plain', PAGE], isToken, 'report', 'goodReport')],
  ['reportgood base64', () => reports('imageCaptcha', [IMAGE_TEXT], isText, 'goodReport', 'report')],
  ['reportbad base64', () => reports('imageCaptcha', [IMAGE_TEXT], isText, 'report', 'goodReport')],
  ['get ERROR_CAPTCHA_UNSOLVABLE', () => refused(
    () => solver().recaptcha('sandbox-unsolvable', PAGE), isError('ERROR_CAPTCHA_UNSOLVABLE'))],
  ['get ERROR_CAPTCHA_UNSOLVABLE base64', () => refused(
    () => solver().imageCaptcha(IMAGE_TEXT, { textinstructions: 'sandbox-unsolvable' }),
    isError('ERROR_CAPTCHA_UNSOLVABLE'))],
  ['userrecaptcha ERROR_PAGEURL', () => refused(
    () => solver().recaptcha('plain', 'example'), isError('ERROR_PAGEURL'))],
  ['base64 ERROR_ZERO_CAPTCHA_FILESIZE', () => refused(
    () => solver().imageCaptcha('iVBORw0KGgo='), isError('ERROR_ZERO_CAPTCHA_FILESIZE'))],
  ['userrecaptcha ERROR_KEY_DOES_NOT_EXIST', () => refused(
    () => solver('sandbox-key-unknown').recaptcha('plain', PAGE), isError('ERROR_KEY_DOES_NOT_EXIST'))],
  // The library catches its own error here and throws the whole body.
  ['getbalance ERROR_KEY_DOES_NOT_EXIST', () => refused(
    () => solver('sandbox-key-unknown').balance(), isError('{"status":0,"request":"ERROR_KEY_DOES_NOT_EXIST"}'))],
]);
