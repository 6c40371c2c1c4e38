'use strict';
// rucaptcha-client: images only, from a URL, over rucaptcha.com. It polls every five seconds.

const http = require('http');
const { Rucaptcha, RucaptchaError } = require('rucaptcha-client');
const { run, assertText, assertMoney, assertRefused, IMAGE } = require('./harness');

// The library requires 32 characters.
const solver = new Rucaptcha('clients-test'.padEnd(32, '0'));

// Serves the image; ends with the process.
const site = http.createServer(({ url }, response) => {
  response.end(url === '/small.png' ? IMAGE.subarray(0, 50) : IMAGE);
});

site.listen(0, '127.0.0.1', () => {
  const at = (name) => `http://127.0.0.1:${site.address().port}/${name}`;
  run('rucaptcha-client', [
    ['base64', async () => assertText((await solver.solve(at('captcha.png'))).text)],
    ['getbalance', async () => {
      assertMoney(await solver.getBalance());
      assertMoney(solver.balance);
    }],
    // The library treats a refusal as an id and polls the task NaN.
    ['get ERROR_WRONG_ID_FORMAT', async () => {
      const isExpected = (error) => error instanceof RucaptchaError && error.code === 'ERROR_WRONG_ID_FORMAT';
      await assertRefused(() => solver.solve(at('small.png')), isExpected);
    }],
  ]);
});
