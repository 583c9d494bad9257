"""From an error to a message and an exit code. 0: done; 2: the input is at fault; 1: anything else; 130: Ctrl-C."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from app.reid.errors import ListedError, ReidError
from training.cli.output import err
from training.distributed import RankLostError
from training.train import InterruptedRunError, TrainingDivergedError


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turns the errors that are made on purpose into one message and an exit code; others keep their traceback."""
    try:
        yield
    except InterruptedRunError as error:
        err.print(f"jaguar-train: {error}", style="yellow", highlight=False, markup=False)
        raise typer.Exit(130) from error
    except ReidError as error:
        lines = [error.summary, *error.all_problems] if isinstance(error, ListedError) else [str(error)]
        err.print("jaguar-train: " + "\n  ".join(lines), style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1 if isinstance(error, TrainingDivergedError | RankLostError) else 2) from error
    except OSError as error:  # a place that cannot be read or written, or a disk that is full
        if error.filename is None:  # of no file: not anything that a person named
            raise
        reason = (error.strerror or str(error)).lower()
        message = f"jaguar-train: {error.filename} cannot be used: {reason}; name another place"
        err.print(message, style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
