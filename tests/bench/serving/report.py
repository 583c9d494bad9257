"""Figures for people: spreads, a table, and what was wanted beside what was got."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Verdict:
    """Collects what was wanted and what was got."""

    lines: list[str] = field(default_factory=list)
    missed: int = 0

    def at_least(self, name: str, got: float, wanted: float, note: str = "") -> None:
        self._add(name, f"{got:.3f}", f">= {wanted:g}", got >= wanted, note)

    def at_most(self, name: str, got: float, wanted: float, note: str = "") -> None:
        self._add(name, f"{got:.3f}", f"<= {wanted:g}", got <= wanted, note)

    def true(self, name: str, got: bool, note: str = "") -> None:
        self._add(name, "yes" if got else "no", "yes", got, note)

    def print(self) -> int:
        """Prints all of it; the exit status."""
        print(f"\n{'':<58}{'got':>10}  {'wanted':<9}")
        print("\n".join(self.lines))
        print(f"{self.missed} missed" if self.missed else "all as wanted")
        return 1 if self.missed else 0

    def _add(self, name: str, got: str, wanted: str, good: bool, note: str) -> None:
        self.missed += not good
        self.lines.append(f"{name:<58}{got:>10}  {wanted:<9}{'ok' if good else 'MISSED':<8}{note}".rstrip())


def spread(values: Sequence[float], digits: int = 2) -> str:
    """median [min-max]"""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


def percentiles(latencies_ms: Sequence[float]) -> str:
    """p50, p95 and p99 in whole milliseconds."""
    if not latencies_ms:
        return "-"
    return " / ".join(f"{value:.0f}" for value in np.percentile(latencies_ms, (50, 95, 99)))
