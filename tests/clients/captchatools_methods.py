"""captchatools, unmodified: every captcha type of its 2captcha harvester.

It posts JSON to 2captcha.com over plain HTTP and reads the balance over HTTPS.
"""

import captchatools
from captchatools import exceptions
from captchatools.twocap import Twocap

from support import (
    AGENT, IMAGE_TEXT, KEY, PAGE, Checks, assert_covers, assert_money, assert_text, assert_token, public,
    redirect_to_gateway,
)

redirect_to_gateway()
PROXY = {"proxy": "login:p@ss@127.0.0.1:3128", "proxy_type": "HTTP", "user_agent": AGENT}

# Printed name, the harvester's options, get_token's arguments, assertion on the answer.
METHODS = [
    ("base64", {"captcha_type": "image"}, {"b64_img": IMAGE_TEXT}, assert_text),
    ("base64, normal", {"captcha_type": "normal"}, {"b64_img": IMAGE_TEXT}, assert_text),
    ("userrecaptcha", {"captcha_type": "v2"}, {}, assert_token),
    ("userrecaptcha, invisible", {"captcha_type": "v2", "invisible_captcha": True}, {}, assert_token),
    ("userrecaptcha, proxy", {"captcha_type": "v2"}, PROXY, assert_token),
    ("userrecaptcha version=v3", {"captcha_type": "v3", "action": "go", "min_score": 0.7}, {}, assert_token),
    ("hcaptcha", {"captcha_type": "hcaptcha"}, {}, assert_token),
    ("hcaptcha, data and proxy", {"captcha_type": "hcap"}, PROXY | {"rq_data": "rq"}, assert_token),
]


def harvester(key=KEY, **more):
    return captchatools.new_harvester(solving_site="2captcha", api_key=key, sitekey="plain", captcha_url=PAGE, **more)


checks = Checks("captchatools")
assert_covers(public(Twocap), {"get_balance", "get_token"})


def add(name, options, arguments, assert_answer):
    checks.add(name, lambda: assert_answer(harvester(**options).get_token(**arguments)))


for row in METHODS:
    add(*row)


def unknown_key():
    try:
        harvester("sandbox-key-unknown").get_balance()
    except exceptions.WrongAPIKeyException:
        return
    raise AssertionError("no exception")


checks.add("getbalance", lambda: assert_money(harvester().get_balance()))
checks.add("getbalance, unknown key", unknown_key)
checks.run()
