"""Where a request's time goes: the phases of `Server-Timing` and of the histogram `jaguar_phase_seconds`.

Source of the header: W3C, "Server Timing", `Server-Timing: name;dur=milliseconds`.
"""

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from enum import StrEnum


class Phase(StrEnum):
    """admission: until the request was let in. upload: until its body was read and its photos were at hand.

    queue: waiting for a thread. decode: read, decode, fit. forward: through the network. total: until the answer began.
    A request of several photos adds them up: decode and forward are seconds of threads and may exceed the total.
    """

    ADMISSION = "admission"
    UPLOAD = "upload"
    QUEUE = "queue"
    DECODE = "decode"
    FORWARD = "forward"
    TOTAL = "total"


class Timings:
    """The phases of one request, in seconds."""

    def __init__(self) -> None:
        """The request begins now."""
        self._began = time.perf_counter()
        self.seconds: dict[Phase, float] = {}

    def add(self, phase: Phase, seconds: float) -> None:
        """More time in a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def add_all(self, spent: Mapping[Phase, float]) -> None:
        """More time in several phases, in seconds."""
        for phase, seconds in spent.items():
            self.add(phase, seconds)

    def elapsed(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self._began

    def reached(self, phase: Phase) -> None:
        """The phase ends here, once: it has what no phase before it took."""
        if phase not in self.seconds:
            self.seconds[phase] = self.elapsed() - sum(self.seconds.values())

    def header(self) -> str:
        """The value of `Server-Timing`."""
        return ", ".join(f"{phase};dur={seconds * 1000:.1f}" for phase, seconds in self.seconds.items())

    def observe(self, observer: Callable[[str, float], object]) -> None:
        """Hands every phase to a histogram."""
        for phase, seconds in self.seconds.items():
            observer(phase, seconds)


# A task that embeds for a request inherits this from it; work without a request has none.
current: ContextVar[Timings | None] = ContextVar("timings", default=None)
