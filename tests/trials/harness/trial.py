"""One trial: its size, and its figures with their goals."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# Files of the trials.
WORK = ROOT / "target" / "trials"


@dataclass
class Trial:
    """The figures of a trial."""

    name: str
    capgate: Path
    is_full: bool
    passed: int = 0
    missed: list[str] = field(default_factory=list)

    def size(self, small: int, full: int) -> int:
        """Returns the small size for CI, or the full one."""
        return full if self.is_full else small

    def at_most(self, figure: str, value: float, limit: float, unit: str = "") -> None:
        """Records a figure that must not exceed a limit."""
        self._record(value <= limit, f"{figure}: {value:.4g}{unit} (at most {limit:.4g}{unit})")

    def at_least(self, figure: str, value: float, limit: float, unit: str = "") -> None:
        """Records a figure that must not fall below a limit."""
        self._record(value >= limit, f"{figure}: {value:.4g}{unit} (at least {limit:.4g}{unit})")

    def equal(self, figure: str, value: object, wanted: object) -> None:
        """Records a figure that must have one value."""
        self._record(value == wanted, f"{figure}: {value} (must be {wanted})")

    def note(self, text: str) -> None:
        """Prints a figure without a goal."""
        print(f"     {text}", flush=True)

    def fail(self, text: str) -> None:
        """Records a failure that has no figure."""
        self._record(False, text)

    def _record(self, is_met: bool, text: str) -> None:
        if is_met:
            self.passed += 1
        else:
            self.missed.append(text)
        print(f"{'ok  ' if is_met else 'FAIL'} {text}", flush=True)
