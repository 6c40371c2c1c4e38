#!/usr/bin/env python3
"""Bounded trials of the capgate binary over loopback: what strangers and a failing upstream can do to it.

    tests/trials/run.py [--full] [--capgate PATH] [--list] [TRIAL…]

Prints one line per figure with its goal, the missed ones once more, then `N passed, N failed`. Exits with 1 if a goal was missed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

from harness.trial import ROOT, Trial

# Each module in trials/ has a docstring and a function `run(trial)`.
TRIALS = sorted(path.stem for path in Path(__file__).parent.glob("trials/*.py") if path.stem != "__init__")


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help="all trials by default")
    parser.add_argument("--full", action="store_true", help="full sizes, which take up to an hour in all")
    parser.add_argument("--capgate", type=Path, default=ROOT / "target" / "release" / "capgate")
    parser.add_argument("--list", action="store_true", help="only list the trials")
    options = parser.parse_args()
    unknown = sorted(set(options.trials) - set(TRIALS))
    if unknown:
        parser.error(f"no such trial: {', '.join(unknown)}")
    return options


def main() -> None:
    """Runs the selected trials, one after the other."""
    options = parse_arguments()
    trials = {name: importlib.import_module(f"trials.{name}") for name in options.trials or TRIALS}
    if options.list:
        for name, module in trials.items():
            print(f"{name:24} {module.__doc__.splitlines()[0]}")
        return
    if not options.capgate.is_file():
        sys.exit(f"{options.capgate} is missing: run cargo build --release --locked --bin capgate")
    passed, missed = 0, []
    for name, module in trials.items():
        started = time.monotonic()
        print(f"---- {name}", flush=True)
        trial = Trial(name, options.capgate, is_full=options.full)
        try:
            module.run(trial)
        except Exception:  # A broken trial must not hide the results of the others.
            traceback.print_exc()
            trial.fail("the trial ended early")
        passed += trial.passed
        missed += [f"FAIL {name}: {text}" for text in trial.missed]
        print(f"     {name}: {time.monotonic() - started:.0f} s", flush=True)
    # A reader of a long log looks at its end.
    print(*missed, f"{passed} passed, {len(missed)} failed", sep="\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
