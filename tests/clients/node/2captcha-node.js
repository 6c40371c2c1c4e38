'use strict';
// 2captcha-node: images only, over plain HTTP. It posts JSON as multipart/form-data without a boundary, waits five
// seconds before the first poll, and takes every refusal of a submit for an id.

const captchaSolver = require('2captcha-node').default;
const { run, equal, matches, isText, isId, isMoney, isReported, refused, KEY, IMAGE_TEXT } = require('./harness');

const solver = captchaSolver(KEY);

const solved = async () => {
  const result = await solver.solve({ image: IMAGE_TEXT, maxAttempts: 5 });
  isId(result.id);
  isText(result.text);
  return result.id;
};

const reports = async (action, isValid) => {
  const id = await solved();
  equal(await solver.report(id, isValid), true);
  await isReported(action, id);
};

run('2captcha-node', [
  ['base64', solved],
  ['getbalance', async () => {
    const money = await solver.balance();
    matches(money, /^\d+\.\d+$/);
    isMoney(Number(money));
  }],
  ['reportgood', () => reports('reportgood', true)],
  ['reportbad', () => reports('reportbad', false)],
  // The library polls on for an id that is none until its attempts are used up.
  ['base64 ERROR_ZERO_CAPTCHA_FILESIZE', () => refused(
    () => solver.solve({ image: 'iVBORw0KGgo=', maxAttempts: 1 }),
    (error) => error.message.includes('maximum number'))],
]);
