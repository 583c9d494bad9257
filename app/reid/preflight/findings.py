"""What a preflight finds: how grave it is, where it is, and what to do about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")

SHOWN_PLACES = 5


class Severity(StrEnum):
    """error: Kaggle refuses it, or it scores like chance. warning: it is taken and may cost points. note: to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    code: stable, for programs. what: in a sentence. advice: what to do. where: the first few places, and how many more.
    """

    severity: Severity
    code: str
    what: str
    advice: str
    where: tuple[str, ...] = ()


def places(items: Sequence[T], describe: Callable[[T], str]) -> tuple[str, ...]:
    """The first five in words, and the number of the others: a million bad rows cost no memory."""
    shown = [describe(item) for item in items[:SHOWN_PLACES]]
    hidden = len(items) - len(shown)
    return (*shown, f"and {hidden} more") if hidden else tuple(shown)


def counted(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
