"""Ctrl-C and SIGTERM while a run goes on."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interrupt_flag(*, insist: bool = True) -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C into a flag that is looked at between steps.

    insist: the second one ends the process at once. Not so under torchrun, which sends each rank another SIGINT beside
    the terminal's own, and kills what has not ended within 30 s.
    """
    pressed: list[int] = []

    def press(number: int, _frame: object) -> None:
        pressed.append(number)
        if insist:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def sigterm_raises(error: Callable[[], Exception]) -> Iterator[None]:
    """Raises an error at SIGTERM; whatever error there is, no further SIGTERM cuts its sentence short."""

    def end(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise error()

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    signal.signal(signal.SIGTERM, before)
