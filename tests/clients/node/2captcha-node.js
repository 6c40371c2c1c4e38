'use strict';
// 2captcha-node: images only, over plain HTTP. It posts JSON as multipart/form-data without a boundary, waits five
// seconds before the first poll, and treats the refusal of a submit as an id.

const captchaSolver = require('2captcha-node').default;
const {
  run, assertEqual, assertMatches, assertText, assertId, assertMoney, assertReported, assertRefused, KEY, IMAGE_TEXT,
} = require('./harness');

const solver = captchaSolver(KEY);

const solved = async () => {
  const result = await solver.solve({ image: IMAGE_TEXT, maxAttempts: 5 });
  assertId(result.id);
  assertText(result.text);
  return result.id;
};

const reports = async (action, isValid) => {
  const id = await solved();
  assertEqual(await solver.report(id, isValid), true);
  await assertReported(action, id);
};

run('2captcha-node', [
  ['base64', solved],
  ['getbalance', async () => {
    const money = await solver.balance();
    assertMatches(money, /^\d+\.\d+$/);
    assertMoney(Number(money));
  }],
  ['reportgood', () => reports('reportgood', true)],
  ['reportbad', () => reports('reportbad', false)],
  // The library polls for the invalid id until its attempts are used up.
  ['base64 ERROR_ZERO_CAPTCHA_FILESIZE', () => assertRefused(
    () => solver.solve({ image: 'iVBORw0KGgo=', maxAttempts: 1 }),
    (error) => error.message.includes('maximum number'))],
]);
