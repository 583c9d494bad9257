# ruff: noqa: PLC0415 - where nobody sees a bar, nothing is loaded to draw one
"""A bar with the time left, on standard error, where that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

# Is told how far the work is: done, total, and of what. From any thread.
Progress = Callable[[int, int, str], object]


@contextmanager
def progress() -> Iterator[Progress]:
    """What to tell; it draws a bar that is gone afterwards, and nothing where nobody would see it."""
    if not sys.stderr.isatty():
        yield lambda _done, _total, _what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task, former = bar.add_task("starting", total=None), ""

        def tell(done: int, total: int, what: str) -> None:
            nonlocal former
            if what != former:  # bytes sent and photos embedded have nothing to do with each other's speed
                bar.reset(task, total=total or None)
                former = what
            bar.update(task, completed=done, total=total or None, description=f"{what} {amount(done, total, what)}")

        yield tell


def counting(tell: Progress, total: int, what: str) -> Callable[[], object]:
    """To be called after each of so many things, from any thread."""
    numbers = count(1)
    return lambda: tell(next(numbers), total, what)


def amount(done: int, total: int, what: str) -> str:
    """How far it is, in bytes where something is sent."""
    if what == "sending":
        return f"{done / 1e6:.1f}/{total / 1e6:.1f} MB"
    return f"{done}/{total}"
