"""The table of what works with which library, made of the lines that a run printed.

    python3 parity.py said.txt             prints it
    python3 parity.py said.txt --write     writes it between the markers of the README in the project's root
    python3 parity.py said.txt --check     exits with 1, and the difference, unless it stands there
"""

import argparse
import difflib
import pathlib
import re
import sys

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
BEGIN = "<!-- parity -->"
END = "<!-- /parity -->"

# Rows, in their order, and what else clients call them. Names are compared without case, spaces and punctuation, and
# with what follows them left out. What is not here gets a row of its own, at the end.
ROWS = {
    "post": ["normal", "image", "method=post"],
    "base64": ["normal base64", "image base64"],
    "textcaptcha": ["text"],
    "userrecaptcha": ["recaptcha", "recaptcha v2", "recaptchav2 invisible", "userrecaptcha v2"],
    "userrecaptcha enterprise=1": ["recaptcha enterprise", "recaptcha v2 enterprise", "userrecaptcha enterprise"],
    "userrecaptcha version=v3": ["recaptcha v3", "userrecaptcha v3"],
    "hcaptcha": [],
    "turnstile": ["cloudflare turnstile"],
    "funcaptcha": ["arkose labs", "arkoselabs"],
    "geetest": ["geetest v3"],
    "geetest_v4": [],
    "keycaptcha": [],
    "capy": ["capy puzzle"],
    "lemin": ["lemin cropped"],
    "amazon_waf": ["amazon", "aws waf"],
    "mt_captcha": [],
    "cybersiara": ["anticybersiara"],
    "cutcaptcha": [],
    "friendly_captcha": ["friendly"],
    "atb_captcha": ["atb"],
    "tencent": [],
    "datadome": [],
    "yandex": ["yandex smart", "yandex smartcaptcha"],
    "prosopo": ["prosopo procaptcha"],
    "captchafox": [],
    "vkimage": ["vk image"],
    "vkcaptcha": ["vk captcha"],
    "temuimage": ["temu", "temucaptcha"],
    "altcha": [],
    "binance": [],
    "yidun": [],
    "alibaba": [],
    "hunt": [],
    "tspd": [],
    "basilisk": [],
    "drag_drop": ["drag and drop"],
    "incapsula": ["imperva"],
    "tiktok": [],
    "audio": [],
    "post recaptcha=1": ["grid", "base64 recaptcha=1"],
    "post canvas=1": ["canvas", "draw around", "base64 canvas=1", "base64 recaptcha=1 canvas=1"],
    "post coordinatescaptcha=1": ["coordinates", "click", "base64 coordinatescaptcha=1"],
    "rotatecaptcha": ["rotate"],
    "bounding_box": [],
    "get": ["get_result", "result"],
    "get2": [],
    "get ids=": ["ids"],
    "getbalance": ["balance"],
    "reportgood": ["report good", "goodreport"],
    "reportbad": ["report bad", "badreport"],
    "add_pingback": [],
    "get_pingback": [],
    "del_pingback": [],
    "getstats": ["stats"],
    "load.php": ["load"],
}


def squash(name):
    return re.sub(r"[^a-z0-9]", "", name.lower())


NAMES = {squash(name): row for row, others in ROWS.items() for name in [row, *others]}

# Every client polls with it; a row would only tell which checks say so.
LEFT_OUT = "get"

# The gateway's own lines belong to no library.
LINE = re.compile(r"(ok  |lack|FAIL) (?!gateway:|setup:)([^:]+): ([^,:]+)")
# The worst that was said of a method counts.
CELLS = {"FAIL": "fails", "lack": "no", "ok  ": "yes"}


def row_of(name):
    """The row of the longest beginning that is a known name: the rest are details."""
    words = name.split()
    for count in range(len(words), 0, -1):
        row = NAMES.get(squash(" ".join(words[:count])))
        if row is not None:
            return row
    return name.strip()


def table(text):
    said = {}
    libraries = {}
    for line in text.splitlines():
        match = LINE.match(line)
        # A refusal that is as it should be does not show that the method works.
        if match is None or (line.startswith("ok") and "ERROR_" in line):
            continue
        result, library, name = match.groups()
        row = row_of(name)
        if row == LEFT_OUT:
            continue
        libraries[library] = None
        said.setdefault(row, {}).setdefault(library, set()).add(CELLS[result])
    libraries = sorted(libraries, key=lambda library: library.lower().lstrip("@"))
    order = {row: number for number, row in enumerate(ROWS)}
    lines = ["| | " + " | ".join(libraries) + " |", "|---|" + "---|" * len(libraries)]
    for row in sorted(said, key=lambda row: (order.get(row, len(order)), row)):
        words = [said[row].get(library, ()) for library in libraries]
        cells = [next((word for word in CELLS.values() if word in heard), "") for heard in words]
        lines.append(f"| `{row}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("said", type=pathlib.Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    made = table(arguments.said.read_text(encoding="utf-8", errors="replace"))
    if not (arguments.write or arguments.check):
        print(made)
        return
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    there, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"README.md has no {BEGIN} … {END}")
    if arguments.write:
        README.write_text(f"{before}{begin}\n{made}\n{end}{after}", encoding="utf-8")
        return
    stands, said = there.strip().split("\n"), made.split("\n")
    difference = list(difflib.unified_diff(stands, said, "README.md", "this run", lineterm=""))
    if difference:
        sys.exit("\n".join(difference))


main()
