"""How commands end: exit codes, and errors as a person reads them."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum

import typer

from app import errors as faults
from app.reid import errors
from app.reid.errors import SHOWN_PROBLEMS, ListedError, ReidError

PROGRAM = "jaguar-reid"


class ExitCode(IntEnum):
    """What a command's end means; `--help` and the README list the same."""

    DONE = 0
    FOUND = 1
    INPUT = 2
    SERVICE = 3
    INTERNAL = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot do what it was asked for. problems: all of them. advice: what to do about it."""

    def __init__(
        self, message: str, problems: Sequence[str] = (), advice: str = "", code: ExitCode = ExitCode.INPUT
    ) -> None:
        super().__init__(message)
        self.message, self.problems, self.advice, self.code = message, tuple(problems), advice, code


_ADVICE: dict[type[ReidError], str] = {
    errors.BundleError: f"`{PROGRAM} model verify` looks at a bundle; JAGUAR_MODEL names another one.",
    errors.ConfigError: f"Correct or unset it; `{PROGRAM} config` shows all settings once they can be read.",
    errors.ImageError: "Save it again as JPEG, PNG or WebP, or leave it out.",
    errors.PixelLimitError: "Make it smaller, or raise the limit: JAGUAR_MAX_PIXELS.",
    errors.TableError: "Correct the file; nothing was scored.",
    errors.RowLimitError: "Split the file, or raise the limit: JAGUAR_MAX_CSV_ROWS.",
    errors.UnknownImageError: (
        "Name the folder that holds them with --images. A name is looked up as it stands, and without test/test/,"
        " test/, train/train/ or train/ at the top and below those folders."
    ),
    errors.AmbiguousImageError: "Keep one of the two files, or have the table name the photo with its folder.",
    errors.UnsafeNameError: "Names must stay below the folder of photos; correct the table.",
    faults.FileLimitError: "Make it smaller, or raise the limit that is named.",
}


@contextmanager
def told(*, debug: bool) -> Iterator[None]:
    """Turns errors into a message on standard error and an exit code; a traceback only where it is asked for."""
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt as error:
        _tell("interrupted; no file was written", (), "")
        raise typer.Exit(ExitCode.INTERRUPTED) from error
    except CommandError as error:
        _trace(debug)
        _tell(error.message, error.problems, error.advice)
        raise typer.Exit(error.code) from error
    except ReidError as error:
        _trace(debug)
        if isinstance(error, ListedError):
            _tell(error.summary, error.all_problems, advice_for(error))
        else:
            _tell(str(error), (), advice_for(error))
        raise typer.Exit(ExitCode.INPUT) from error
    except BrokenPipeError:
        raise  # whoever reads has seen enough: typer ends quietly
    except Exception as error:
        _trace(debug)
        again = "" if debug else "Please report it, with what the same command prints with --debug."
        _tell(f"an error of the program's own: {type(error).__name__}: {error}", (), again)
        raise typer.Exit(ExitCode.INTERNAL) from error


def advice_for(error: ReidError) -> str:
    """What to do about an error of the engine's or the service's; nothing where its message says it."""
    return next((_ADVICE[known] for known in type(error).__mro__ if known in _ADVICE), "")


def fail_on_options(condition: bool, message: str) -> None:
    """Raises CommandError where options do not go together."""
    if condition:
        raise CommandError(message, advice="See --help.")


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def _tell(message: str, problems: Sequence[str], advice: str) -> None:
    shown, hidden = problems[:SHOWN_PROBLEMS], len(problems) - SHOWN_PROBLEMS
    more = [f"and {hidden} more"] if hidden > 0 else []
    lines = [f"{PROGRAM}: {' '.join(message.split())}", *shown, *more, *([advice] if advice else [])]
    typer.secho("\n  ".join(lines), fg=typer.colors.RED, err=True)
