'use strict';
// The official library under its former name.

require('./solver-checks').runAll('2captcha-ts', require('2captcha-ts'));
