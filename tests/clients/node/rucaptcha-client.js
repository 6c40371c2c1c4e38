'use strict';
// rucaptcha-client: images only, from an address, by way of rucaptcha.com. It polls every five seconds.

const http = require('http');
const { Rucaptcha, RucaptchaError } = require('rucaptcha-client');
const { run, isText, isMoney, refused, IMAGE } = require('./harness');

// The library insists on 32 characters.
const solver = new Rucaptcha('clients-test'.padEnd(32, '0'));

// The site that the image is on; ends with the process.
const site = http.createServer(({ url }, response) => {
  response.end(url === '/small.png' ? IMAGE.subarray(0, 50) : IMAGE);
});

site.listen(0, '127.0.0.1', () => {
  const at = (name) => `http://127.0.0.1:${site.address().port}/${name}`;
  run('rucaptcha-client', [
    ['base64', async () => isText((await solver.solve(at('captcha.png'))).text)],
    ['getbalance', async () => {
      isMoney(await solver.getBalance());
      isMoney(solver.balance);
    }],
    // The library takes a refusal for an id, and asks for the result of the task NaN.
    ['get ERROR_WRONG_ID_FORMAT', async () => {
      const isIt = (error) => error instanceof RucaptchaError && error.code === 'ERROR_WRONG_ID_FORMAT';
      await refused(() => solver.solve(at('small.png')), isIt);
    }],
  ]);
});
