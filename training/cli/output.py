"""Where things are printed: results to stdout, progress and messages to stderr."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

out, err = Console(), Console(stderr=True)


def progress(*, shown: bool = True) -> Progress:
    """A bar on stderr, with counts and the time that is left; epochs' lines go through its console."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err if shown else Console(quiet=True), transient=False, disable=not shown)
