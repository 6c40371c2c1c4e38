"""A virtual environment with the packages of PyPI that a trial needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .trial import ROOT, WORK

REQUIREMENTS = ROOT / "tests" / "trials" / "requirements.txt"
INSTALL_MAX_S = 300


def prepare() -> Path:
    """Creates the environment, unless it is current, and returns its folder of programs."""
    environment = WORK / "venv"
    programs = environment / "bin"
    installed = environment / "requirements.txt"
    wanted = REQUIREMENTS.read_text()
    if not installed.is_file() or installed.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True, timeout=INSTALL_MAX_S)
        pip = [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", REQUIREMENTS], check=True, timeout=INSTALL_MAX_S)
        installed.write_text(wanted)
    return programs
