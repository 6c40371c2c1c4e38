'use strict';
// Checks of @2captcha/captcha-solver and of 2captcha-ts, an older version of the same library. Each version is checked
// for the methods that its Solver has.

const {
  run, assertEqual, assertMatches, assertToken, assertText, assertId, assertMoney, assertMembers, assertPoints,
  assertRefused, KEY, PAGE, PROXY, AGENT, IMAGE_TEXT, AUDIO_TEXT, ODD_ANSWER,
} = require('./harness');

// Legacy name, the library's name, its parameters, an assertion on the answer, and extra members of the result.
const key = { pageurl: PAGE, googlekey: 'plain' };
const site = { pageurl: PAGE, sitekey: 'plain' };
const hint = { body: IMAGE_TEXT, textinstructions: 'click the röd & blå one' };
const METHODS = [
  ['userrecaptcha', 'recaptcha', key, assertToken],
  ['userrecaptcha invisible=1', 'recaptcha',
    { ...key, invisible: 1, userAgent: AGENT, cookies: 'A:1;B:2' }, assertToken],
  ['userrecaptcha data-s', 'recaptcha', { ...key, datas: 'a+b/c==', domain: 'recaptcha.net' }, assertToken],
  ['userrecaptcha proxy', 'recaptcha', { ...key, ...PROXY }, assertToken],
  ['userrecaptcha enterprise=1', 'recaptcha', { ...key, enterprise: 1, action: 'login' }, assertToken],
  ['userrecaptcha version=v3', 'recaptcha', { ...key, version: 'v3', action: 'login', min_score: 0.7 }, assertToken],
  ['userrecaptcha version=v3 enterprise=1', 'recaptcha', { ...key, version: 'v3', enterprise: 1 }, assertToken],
  ['hcaptcha', 'hcaptcha', { ...site, invisible: 1, data: 'rqdata', userAgent: AGENT }, assertToken,
    ['useragent', 'respKey']],
  ['turnstile', 'cloudflareTurnstile', site, assertToken, ['useragent']],
  ['turnstile data', 'cloudflareTurnstile', { ...site, action: 'managed', data: 'd', pagedata: 'p' }, assertToken,
    ['useragent']],
  ['funcaptcha', 'funCaptcha',
    { pageurl: PAGE, publickey: 'plain', surl: 'https://client-api.arkoselabs.com', data: '{"blob":"b"}' },
    assertToken],
  ['geetest', 'geetest', { pageurl: PAGE, gt: 'f2ae6c', challenge: '12345678abc', api_server: 'api-na.geetest.com' },
    assertMembers('geetest_challenge', 'geetest_validate', 'geetest_seccode')],
  ['geetest_v4', 'geetestV4', { pageurl: PAGE, captcha_id: 'e392e1d7fd421dc63325744d5a2b9c73' },
    assertMembers('captcha_id', 'lot_number', 'pass_token', 'gen_time', 'captcha_output')],
  ['keycaptcha', 'keyCaptcha',
    { pageurl: PAGE, userId: '15', sessionId: 's', webServerSign: 'w', webServerSign2: 'w2' }, assertToken],
  ['capy', 'capyPuzzle', { pageurl: PAGE, captchakey: 'PUZZLE_Abc', version: 'puzzle' },
    assertMembers('captchakey', 'challengekey', 'answer')],
  ['lemin', 'lemin',
    { pageurl: PAGE, captcha_id: 'CROPPED_1', div_id: 'lemin', api_server: 'https://api.leminnow.com/' },
    assertMembers('answer', 'challenge_id')],
  ['amazon_waf', 'amazonWaf', { ...site, iv: 'CgAHbCe2GgAAAAAj', context: '9BUgmlm48F92' },
    assertMembers('captcha_voucher', 'existing_token')],
  ['mt_captcha', 'mtCaptcha', site, assertToken],
  ['cybersiara', 'cyberSiARA', { pageurl: PAGE, master_url_id: 'tpjOCKjj', userAgent: AGENT }, assertToken],
  ['cutcaptcha', 'cutCaptcha', { pageurl: PAGE, miseryKey: 'a1488b66', apiKey: 'SAb83IIB' }, assertToken],
  ['friendly_captcha', 'friendlyCaptcha', site, assertToken],
  ['datadome', 'dataDome',
    { pageurl: PAGE, captcha_url: 'https://geo.captcha-delivery.com/captcha/?a=1&t=fe', userAgent: AGENT, ...PROXY },
    (got) => assertMatches(got, /^datadome=SANDBOX/)],
  ['yandex', 'yandexSmart', site, assertToken],
  ['tencent', 'tencent', { pageurl: PAGE, appId: '190014885' }, assertMembers('appid', 'ret', 'ticket', 'randstr')],
  ['atb_captcha', 'atbCaptcha',
    { pageurl: PAGE, appId: 'af25e409', apiServer: 'https://cap.aisecurius.com' }, assertToken],
  ['prosopo', 'prosopo', site, assertToken],
  ['captchafox', 'captchaFox', { ...site, userAgent: AGENT, ...PROXY }, assertToken],
  ['vkimage', 'vkimage', { body: IMAGE_TEXT, steps: '[5,4,7,7,14,22,8]' }, assertMembers('best_step', 'answer')],
  ['vkcaptcha', 'vkcaptcha',
    { redirect_uri: 'https://id.vk.com/not_robot?a=1', userAgent: AGENT, ...PROXY }, assertToken],
  ['temuimage', 'temu', { body: IMAGE_TEXT, part1: IMAGE_TEXT, part2: IMAGE_TEXT, part3: IMAGE_TEXT }, assertPoints],
  ['altcha challenge_url', 'altcha', { pageurl: PAGE, challengeUrl: 'https://example.com/challenge' }, assertToken],
  ['altcha challenge_json', 'altcha', { pageurl: PAGE, challengeJson: '{"algorithm":"SHA-256"}' }, assertToken],
  ['binance', 'binance', { pageurl: PAGE, sitekey: 'login', validateId: 'cb0bfefa', userAgent: AGENT }, assertToken],
  ['yidun', 'yidun', { ...site, yidunGetLib: 'https://example.com/load.min.js', hct: 1 }, assertToken],
  ['alibaba', 'alibaba', { pageurl: PAGE, sceneId: '1ww7426c4', prefix: 'dlw3kug', verifyType: '1.0' }, assertToken],
  ['tspd', 'tspd',
    { pageurl: PAGE, tspdCookie: 'TS386a400d029=0', htmlPageBase64: 'PCFkb2N0', userAgent: AGENT, ...PROXY },
    (got) => assertMatches(got, /SANDBOX/)],
  ['basilisk', 'basilisk', site, assertToken],
  ['hunt', 'hunt', { pageurl: PAGE, apiGetLib: 'https://example.com/hd-api/external/apps/a/api.js' }, assertToken],
  ['base64', 'imageCaptcha', { body: IMAGE_TEXT }, assertText],
  ['base64 options', 'imageCaptcha',
    { ...hint, phrase: 1, numeric: 4, min_len: 4, max_len: 20, regsense: 1, calc: 0, language: 2, lang: 'en' },
    assertText],
  ['base64 data URI', 'imageCaptcha', { body: `data:image/png;base64,${IMAGE_TEXT}` }, assertText],
  ['textcaptcha', 'text', { textcaptcha: 'If tomorrow is Saturday, what day is today?', lang: 'en' }, assertText],
  ['base64 coordinatescaptcha=1', 'coordinates', hint, assertPoints],
  ['base64 recaptcha=1', 'grid', { ...hint, rows: 3, cols: 3, minClicks: 1, canSkip: 0 },
    (got) => assertMatches(got, /^click:\d+(\/\d+)*$/)],
  ['base64 recaptcha=1 canvas=1', 'canvas', { ...hint, canSkip: 1 },
    (got) => assertMatches(got, /^canvas:(\d+,\d+(,\d+,\d+)*;)+$/)],
  ['rotatecaptcha', 'rotate', { body: IMAGE_TEXT, angle: 40 }, (got) => assertMatches(got, /^-?\d+$/)],
  ['bounding_box', 'boundingBox', { image: IMAGE_TEXT, textinstructions: 'select cats' },
    (got) => {
      const first = JSON.parse(got)[0];
      assertEqual(Object.keys(first).sort(), ['xMax', 'xMin', 'yMax', 'yMin']);
    }],
  ['audio', 'audio', { body: AUDIO_TEXT, lang: 'en' }, assertText],
  ['drag_drop', 'dragAndDrop', { body: IMAGE_TEXT, images: [IMAGE_TEXT, IMAGE_TEXT], textinstructions: 'drag' },
    (got) => assertMatches(got, /^(null|\d+,\d+)(\|(null|\d+,\d+))*$/)],
];

exports.runAll = (library, { Solver, APIError }) => {
  const solver = (apikey = KEY) => new Solver(apikey, 500);
  // The library's error has the server's code in `err`.
  const isError = (code) => (error) => error instanceof APIError && error.err === code;
  const solved = async (name, params, accept, extras = []) => {
    const result = await solver()[name](params);
    assertId(result.id);
    accept(result.data);
    // Only the newer version returns the extra members.
    if ('status' in result) {
      assertEqual(Object.keys(result).sort(), ['data', 'id', 'status', ...extras].sort());
    }
    return result.id;
  };
  const reports = async (name, params, accept, report, opposite) => {
    const id = await solved(name, params, accept);
    assertEqual(await solver()[report](id), 'OK_REPORT_RECORDED');
    // Repeating the report succeeds, and the opposite report is a duplicate.
    assertEqual(await solver()[report](id), 'OK_REPORT_RECORDED');
    if (opposite === 'badReport') {
      // The library treats this code as the success of a bad report.
      assertEqual(await solver().badReport(id), 'ERROR_DUPLICATE_REPORT');
    } else {
      await assertRefused(() => solver().goodReport(id), isError('ERROR_DUPLICATE_REPORT'));
    }
  };

  const offered = METHODS.filter(([, name]) => name in Solver.prototype);
  run(library, [
    ...offered.map(([legacy, ...rest]) => [legacy, () => solved(...rest)]),
    ['getbalance', async () => assertMoney(await solver().balance())],
    ['reportgood', () => reports('recaptcha', key, assertToken, 'goodReport', 'badReport')],
    ['reportgood base64', () => reports('imageCaptcha', { body: IMAGE_TEXT }, assertText, 'goodReport', 'badReport')],
    ['reportbad', () => reports('recaptcha', key, assertToken, 'badReport', 'goodReport')],
    ['reportbad base64', () => reports('imageCaptcha', { body: IMAGE_TEXT }, assertText, 'badReport', 'goodReport')],
    ['reportgood ERROR_WRONG_CAPTCHA_ID',
      () => assertRefused(() => solver().goodReport('1'), isError('ERROR_WRONG_CAPTCHA_ID'))],
    ['get odd answer',
      () => solved('recaptcha', { ...key, googlekey: 'sandbox-odd-answer' }, (got) => assertEqual(got, ODD_ANSWER))],
    ['get ERROR_CAPTCHA_UNSOLVABLE', () => assertRefused(
      () => solver().recaptcha({ ...key, googlekey: 'sandbox-unsolvable' }), isError('ERROR_CAPTCHA_UNSOLVABLE'))],
    ['get ERROR_PROXY_CONNECTION_FAILED', () => assertRefused(
      () => solver().recaptcha({ ...key, ...PROXY, googlekey: 'sandbox-proxy-fails' }),
      isError('ERROR_PROXY_CONNECTION_FAILED'))],
    ['userrecaptcha ERROR_PAGEURL',
      () => assertRefused(() => solver().recaptcha({ ...key, pageurl: 'example' }), isError('ERROR_PAGEURL'))],
    ['userrecaptcha ERROR_GOOGLEKEY',
      () => assertRefused(
        () => solver().recaptcha({ ...key, googlekey: 'sandbox-bad-sitekey' }), isError('ERROR_GOOGLEKEY'))],
    ['userrecaptcha ERROR_PROXY_FORMAT', () => assertRefused(
      () => solver().recaptcha({ ...key, proxy: 'nowhere', proxytype: 'HTTP' }), isError('ERROR_PROXY_FORMAT'))],
    ['base64 ERROR_ZERO_CAPTCHA_FILESIZE',
      () => assertRefused(
        () => solver().imageCaptcha({ body: 'iVBORw0KGgo=' }), isError('ERROR_ZERO_CAPTCHA_FILESIZE'))],
    ['userrecaptcha ERROR_KEY_DOES_NOT_EXIST',
      () => assertRefused(() => solver('sandbox-key-unknown').recaptcha(key), isError('ERROR_KEY_DOES_NOT_EXIST'))],
    ['base64 ERROR_ZERO_BALANCE', () => assertRefused(
      () => solver('sandbox-zero-balance').imageCaptcha({ body: IMAGE_TEXT }), isError('ERROR_ZERO_BALANCE'))],
    // The library throws the whole body here.
    ['getbalance ERROR_KEY_DOES_NOT_EXIST', () => assertRefused(
      () => solver('sandbox-key-unknown').balance(), isError('{"status":0,"request":"ERROR_KEY_DOES_NOT_EXIST"}'))],
  ]);
};
