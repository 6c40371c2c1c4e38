'use strict';
// The official library.

require('./solver-checks').runAll('@2captcha/captcha-solver', require('@2captcha/captcha-solver'));
