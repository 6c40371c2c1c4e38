"""captchatools, unmodified: every type of captcha that its 2captcha harvester knows.

It posts JSON bodies to 2captcha.com, in clear, and asks for the balance over HTTPS.
"""

import captchatools
from captchatools import exceptions
from captchatools.twocap import Twocap

from support import AGENT, IMAGE_TEXT, KEY, PAGE, Checks, covers, is_money, is_text, is_token, lead_to_gateway, public

lead_to_gateway()
PROXY = {"proxy": "login:p@ss@127.0.0.1:3128", "proxy_type": "HTTP", "user_agent": AGENT}

# What is printed, the harvester's options, get_token's arguments, check of the answer.
METHODS = [
    ("base64", {"captcha_type": "image"}, {"b64_img": IMAGE_TEXT}, is_text),
    ("base64, normal", {"captcha_type": "normal"}, {"b64_img": IMAGE_TEXT}, is_text),
    ("userrecaptcha", {"captcha_type": "v2"}, {}, is_token),
    ("userrecaptcha, invisible", {"captcha_type": "v2", "invisible_captcha": True}, {}, is_token),
    ("userrecaptcha, proxy", {"captcha_type": "v2"}, PROXY, is_token),
    ("userrecaptcha version=v3", {"captcha_type": "v3", "action": "go", "min_score": 0.7}, {}, is_token),
    ("hcaptcha", {"captcha_type": "hcaptcha"}, {}, is_token),
    ("hcaptcha, data and proxy", {"captcha_type": "hcap"}, PROXY | {"rq_data": "rq"}, is_token),
]


def harvester(key=KEY, **more):
    return captchatools.new_harvester(solving_site="2captcha", api_key=key, sitekey="plain", captcha_url=PAGE, **more)


checks = Checks("captchatools")
covers(public(Twocap), {"get_balance", "get_token"})


def add(name, options, arguments, is_answer):
    checks.add(name, lambda: is_answer(harvester(**options).get_token(**arguments)))


for row in METHODS:
    add(*row)


def unknown_key():
    try:
        harvester("sandbox-key-unknown").get_balance()
    except exceptions.WrongAPIKeyException:
        return
    raise AssertionError("no exception")


checks.add("getbalance", lambda: is_money(harvester().get_balance()))
checks.add("getbalance, unknown key", unknown_key)
checks.run()
