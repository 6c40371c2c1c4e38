"""What the programs of this folder share: their exit, and the capgate that they measure."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from .servers import BenchError


def program(path: Path) -> Path:
    """Returns the absolute path of a capgate program that exists."""
    capgate = path.resolve()
    if not os.access(capgate, os.X_OK):
        raise BenchError(f"no such program: {path}; run cargo build --release")
    return capgate


def run(name: str, main: Callable[[], int]) -> None:
    """Runs a program and exits with its status; failures and interrupts exit with a message."""
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted")
