"""When a request is sent again, and how long until then."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from app.client.errors import InputError

_FIRST_S, _LONGEST_S = 0.25, 8.0


@dataclass(frozen=True)
class Retries:
    """How patient a client is.

    A request is sent again after 429, 503 and where no connection came about: nothing was worked on then.

    attempts: how often it is sent at most; 1 for never again.
    total_s: how long is waited between the attempts, all together. A service that asks for more is not waited for.
    away_s: likewise, for a service that is away while a job of its is waited for.
    """

    attempts: int = 5
    total_s: float = 60.0
    away_s: float = 300.0

    def __post_init__(self) -> None:
        """Raises InputError."""
        if self.attempts < 1 or not (self.total_s >= 0 and self.away_s >= 0):
            raise InputError(f"{self} cannot be: attempts is 1 or more, and total_s and away_s are 0 or more seconds")

    def next_s(self, sent: int, waited_s: float, asked_s: float | None, chance: float) -> float | None:
        """Seconds until the next attempt; None where there is none.

        sent: attempts so far. waited_s: between them. asked_s: what the service asked for. chance: in [0, 1).
        """
        wait_s = pause_s(sent, asked_s, chance)
        return None if sent >= self.attempts or waited_s + wait_s > self.total_s else wait_s


def pause_s(failures: int, asked_s: float | None, chance: float) -> float:
    """Seconds to wait after so many failures in a row, `chance` in [0, 1) spread so that not all come back at once.

    Twice as long each time, from 0.25 s to 8 s, less up to a half. What a service asks for is never cut short.
    """
    longest = min(_LONGEST_S, _FIRST_S * 2.0 ** min(failures - 1, 16))
    return longest * (1 - chance / 2) if asked_s is None else asked_s + longest * chance / 2


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """What `Retry-After` asks for, in seconds of 0 or more; None where it is missing or makes no sense.

    A date is read against the answer's own `Date`, since two clocks differ; without one, against `now`.
    Source: RFC 9110, 10.2.3.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value) if math.isfinite(float(value)) else None
    then = _date(value)
    if then is None:
        return None
    sent = _date(headers.get("date", "")) or now or datetime.now(UTC)
    return max(0.0, (then - sent).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
