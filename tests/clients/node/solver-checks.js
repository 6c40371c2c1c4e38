'use strict';
// The checks of @2captcha/captcha-solver and of 2captcha-ts, which is the same library two years earlier: the methods
// that a version offers are those that its Solver has.

const {
  run, equal, matches, isToken, isText, isId, isMoney, hasMembers, arePoints, refused,
  KEY, PAGE, PROXY, AGENT, IMAGE_TEXT, AUDIO_TEXT, ODD_ANSWER,
} = require('./harness');

// Legacy name, the library's name, its parameters, what the answer must be, and what stands beside it.
const key = { pageurl: PAGE, googlekey: 'plain' };
const site = { pageurl: PAGE, sitekey: 'plain' };
const hint = { body: IMAGE_TEXT, textinstructions: 'click the röd & blå one' };
const METHODS = [
  ['userrecaptcha', 'recaptcha', key, isToken],
  ['userrecaptcha invisible=1', 'recaptcha', { ...key, invisible: 1, userAgent: AGENT, cookies: 'A:1;B:2' }, isToken],
  ['userrecaptcha data-s', 'recaptcha', { ...key, datas: 'a+b/c==', domain: 'recaptcha.net' }, isToken],
  ['userrecaptcha proxy', 'recaptcha', { ...key, ...PROXY }, isToken],
  ['userrecaptcha enterprise=1', 'recaptcha', { ...key, enterprise: 1, action: 'login' }, isToken],
  ['userrecaptcha version=v3', 'recaptcha', { ...key, version: 'v3', action: 'login', min_score: 0.7 }, isToken],
  ['userrecaptcha version=v3 enterprise=1', 'recaptcha', { ...key, version: 'v3', enterprise: 1 }, isToken],
  ['hcaptcha', 'hcaptcha', { ...site, invisible: 1, data: 'rqdata', userAgent: AGENT }, isToken,
    ['useragent', 'respKey']],
  ['turnstile', 'cloudflareTurnstile', site, isToken, ['useragent']],
  ['turnstile data', 'cloudflareTurnstile', { ...site, action: 'managed', data: 'd', pagedata: 'p' }, isToken,
    ['useragent']],
  ['funcaptcha', 'funCaptcha',
    { pageurl: PAGE, publickey: 'plain', surl: 'https://client-api.arkoselabs.com', data: '{"blob":"b"}' }, isToken],
  ['geetest', 'geetest', { pageurl: PAGE, gt: 'f2ae6c', challenge: '12345678abc', api_server: 'api-na.geetest.com' },
    hasMembers('geetest_challenge', 'geetest_validate', 'geetest_seccode')],
  ['geetest_v4', 'geetestV4', { pageurl: PAGE, captcha_id: 'e392e1d7fd421dc63325744d5a2b9c73' },
    hasMembers('captcha_id', 'lot_number', 'pass_token', 'gen_time', 'captcha_output')],
  ['keycaptcha', 'keyCaptcha',
    { pageurl: PAGE, userId: '15', sessionId: 's', webServerSign: 'w', webServerSign2: 'w2' }, isToken],
  ['capy', 'capyPuzzle', { pageurl: PAGE, captchakey: 'PUZZLE_Abc', version: 'puzzle' },
    hasMembers('captchakey', 'challengekey', 'answer')],
  ['lemin', 'lemin',
    { pageurl: PAGE, captcha_id: 'CROPPED_1', div_id: 'lemin', api_server: 'https://api.leminnow.com/' },
    hasMembers('answer', 'challenge_id')],
  ['amazon_waf', 'amazonWaf', { ...site, iv: 'CgAHbCe2GgAAAAAj', context: '9BUgmlm48F92' },
    hasMembers('captcha_voucher', 'existing_token')],
  ['mt_captcha', 'mtCaptcha', site, isToken],
  ['cybersiara', 'cyberSiARA', { pageurl: PAGE, master_url_id: 'tpjOCKjj', userAgent: AGENT }, isToken],
  ['cutcaptcha', 'cutCaptcha', { pageurl: PAGE, miseryKey: 'a1488b66', apiKey: 'SAb83IIB' }, isToken],
  ['friendly_captcha', 'friendlyCaptcha', site, isToken],
  ['datadome', 'dataDome',
    { pageurl: PAGE, captcha_url: 'https://geo.captcha-delivery.com/captcha/?a=1&t=fe', userAgent: AGENT, ...PROXY },
    (got) => matches(got, /^datadome=SANDBOX/)],
  ['yandex', 'yandexSmart', site, isToken],
  ['tencent', 'tencent', { pageurl: PAGE, appId: '190014885' }, hasMembers('appid', 'ret', 'ticket', 'randstr')],
  ['atb_captcha', 'atbCaptcha', { pageurl: PAGE, appId: 'af25e409', apiServer: 'https://cap.aisecurius.com' }, isToken],
  ['prosopo', 'prosopo', site, isToken],
  ['captchafox', 'captchaFox', { ...site, userAgent: AGENT, ...PROXY }, isToken],
  ['vkimage', 'vkimage', { body: IMAGE_TEXT, steps: '[5,4,7,7,14,22,8]' }, hasMembers('best_step', 'answer')],
  ['vkcaptcha', 'vkcaptcha', { redirect_uri: 'https://id.vk.com/not_robot?a=1', userAgent: AGENT, ...PROXY }, isToken],
  ['temuimage', 'temu', { body: IMAGE_TEXT, part1: IMAGE_TEXT, part2: IMAGE_TEXT, part3: IMAGE_TEXT }, arePoints],
  ['altcha challenge_url', 'altcha', { pageurl: PAGE, challengeUrl: 'https://example.com/challenge' }, isToken],
  ['altcha challenge_json', 'altcha', { pageurl: PAGE, challengeJson: '{"algorithm":"SHA-256"}' }, isToken],
  ['binance', 'binance', { pageurl: PAGE, sitekey: 'login', validateId: 'cb0bfefa', userAgent: AGENT }, isToken],
  ['yidun', 'yidun', { ...site, yidunGetLib: 'https://example.com/load.min.js', hct: 1 }, isToken],
  ['alibaba', 'alibaba', { pageurl: PAGE, sceneId: '1ww7426c4', prefix: 'dlw3kug', verifyType: '1.0' }, isToken],
  ['tspd', 'tspd',
    { pageurl: PAGE, tspdCookie: 'TS386a400d029=0', htmlPageBase64: 'PCFkb2N0', userAgent: AGENT, ...PROXY },
    (got) => matches(got, /SANDBOX/)],
  ['basilisk', 'basilisk', site, isToken],
  ['hunt', 'hunt', { pageurl: PAGE, apiGetLib: 'https://example.com/hd-api/external/apps/a/api.js' }, isToken],
  ['base64', 'imageCaptcha', { body: IMAGE_TEXT }, isText],
  ['base64 options', 'imageCaptcha',
    { ...hint, phrase: 1, numeric: 4, min_len: 4, max_len: 20, regsense: 1, calc: 0, language: 2, lang: 'en' }, isText],
  ['base64 data URI', 'imageCaptcha', { body: `data:image/png;base64,${IMAGE_TEXT}` }, isText],
  ['textcaptcha', 'text', { textcaptcha: 'If tomorrow is Saturday, what day is today?', lang: 'en' }, isText],
  ['base64 coordinatescaptcha=1', 'coordinates', hint, arePoints],
  ['base64 recaptcha=1', 'grid', { ...hint, rows: 3, cols: 3, minClicks: 1, canSkip: 0 },
    (got) => matches(got, /^click:\d+(\/\d+)*$/)],
  ['base64 recaptcha=1 canvas=1', 'canvas', { ...hint, canSkip: 1 },
    (got) => matches(got, /^canvas:(\d+,\d+(,\d+,\d+)*;)+$/)],
  ['rotatecaptcha', 'rotate', { body: IMAGE_TEXT, angle: 40 }, (got) => matches(got, /^-?\d+$/)],
  ['bounding_box', 'boundingBox', { image: IMAGE_TEXT, textinstructions: 'select cats' },
    (got) => {
      const first = JSON.parse(got)[0];
      equal(Object.keys(first).sort(), ['xMax', 'xMin', 'yMax', 'yMin']);
    }],
  ['audio', 'audio', { body: AUDIO_TEXT, lang: 'en' }, isText],
  ['drag_drop', 'dragAndDrop', { body: IMAGE_TEXT, images: [IMAGE_TEXT, IMAGE_TEXT], textinstructions: 'drag' },
    (got) => matches(got, /^(null|\d+,\d+)(\|(null|\d+,\d+))*$/)],
];

exports.runAll = (library, { Solver, APIError }) => {
  const solver = (apikey = KEY) => new Solver(apikey, 500);
  // The library's error keeps the server's code as `err`.
  const isError = (code) => (error) => error instanceof APIError && error.err === code;
  const solved = async (name, params, accept, beside = []) => {
    const result = await solver()[name](params);
    isId(result.id);
    accept(result.data);
    // What stands beside the answer is handed on by the newer library only.
    if ('status' in result) {
      equal(Object.keys(result).sort(), ['data', 'id', 'status', ...beside].sort());
    }
    return result.id;
  };
  const reports = async (name, params, accept, report, opposite) => {
    const id = await solved(name, params, accept);
    equal(await solver()[report](id), 'OK_REPORT_RECORDED');
    // It is recorded: repeated, it is so still, and it is not taken back.
    equal(await solver()[report](id), 'OK_REPORT_RECORDED');
    if (opposite === 'badReport') {
      // The library takes this code for a success of a bad report.
      equal(await solver().badReport(id), 'ERROR_DUPLICATE_REPORT');
    } else {
      await refused(() => solver().goodReport(id), isError('ERROR_DUPLICATE_REPORT'));
    }
  };

  const offered = METHODS.filter(([, name]) => name in Solver.prototype);
  run(library, [
    ...offered.map(([legacy, ...rest]) => [legacy, () => solved(...rest)]),
    ['getbalance', async () => isMoney(await solver().balance())],
    ['reportgood', () => reports('recaptcha', key, isToken, 'goodReport', 'badReport')],
    ['reportgood base64', () => reports('imageCaptcha', { body: IMAGE_TEXT }, isText, 'goodReport', 'badReport')],
    ['reportbad', () => reports('recaptcha', key, isToken, 'badReport', 'goodReport')],
    ['reportbad base64', () => reports('imageCaptcha', { body: IMAGE_TEXT }, isText, 'badReport', 'goodReport')],
    ['reportgood ERROR_WRONG_CAPTCHA_ID',
      () => refused(() => solver().goodReport('1'), isError('ERROR_WRONG_CAPTCHA_ID'))],
    ['get odd answer',
      () => solved('recaptcha', { ...key, googlekey: 'sandbox-odd-answer' }, (got) => equal(got, ODD_ANSWER))],
    ['get ERROR_CAPTCHA_UNSOLVABLE', () => refused(
      () => solver().recaptcha({ ...key, googlekey: 'sandbox-unsolvable' }), isError('ERROR_CAPTCHA_UNSOLVABLE'))],
    ['get ERROR_PROXY_CONNECTION_FAILED', () => refused(
      () => solver().recaptcha({ ...key, ...PROXY, googlekey: 'sandbox-proxy-fails' }),
      isError('ERROR_PROXY_CONNECTION_FAILED'))],
    ['userrecaptcha ERROR_PAGEURL',
      () => refused(() => solver().recaptcha({ ...key, pageurl: 'example' }), isError('ERROR_PAGEURL'))],
    ['userrecaptcha ERROR_GOOGLEKEY',
      () => refused(
        () => solver().recaptcha({ ...key, googlekey: 'sandbox-bad-sitekey' }), isError('ERROR_GOOGLEKEY'))],
    ['userrecaptcha ERROR_PROXY_FORMAT', () => refused(
      () => solver().recaptcha({ ...key, proxy: 'nowhere', proxytype: 'HTTP' }), isError('ERROR_PROXY_FORMAT'))],
    ['base64 ERROR_ZERO_CAPTCHA_FILESIZE',
      () => refused(() => solver().imageCaptcha({ body: 'iVBORw0KGgo=' }), isError('ERROR_ZERO_CAPTCHA_FILESIZE'))],
    ['userrecaptcha ERROR_KEY_DOES_NOT_EXIST',
      () => refused(() => solver('sandbox-key-unknown').recaptcha(key), isError('ERROR_KEY_DOES_NOT_EXIST'))],
    ['base64 ERROR_ZERO_BALANCE', () => refused(
      () => solver('sandbox-zero-balance').imageCaptcha({ body: IMAGE_TEXT }), isError('ERROR_ZERO_BALANCE'))],
    // The library catches its own error here and throws the whole body.
    ['getbalance ERROR_KEY_DOES_NOT_EXIST', () => refused(
      () => solver('sandbox-key-unknown').balance(), isError('{"status":0,"request":"ERROR_KEY_DOES_NOT_EXIST"}'))],
  ]);
};
