"""solvecaptcha-python, unmodified: every method. It is a fork of 2captcha-python."""

from solvecaptcha import Solvecaptcha

from support import Checks, assert_covers, public
from two_captcha_python_methods import HELPERS, OTHERS, SHARED, add_others, add_synchronous

checks = Checks("solvecaptcha-python")
assert_covers(public(Solvecaptcha), {method for _, method, _, _ in SHARED} | OTHERS | HELPERS)
add_synchronous(checks, Solvecaptcha, SHARED)
add_others(checks, Solvecaptcha)
add_synchronous(checks, Solvecaptcha, SHARED, "extended response", extendedResponse=True)
checks.run()
