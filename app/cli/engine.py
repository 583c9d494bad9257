# ruff: noqa: PLC0415 - only the engine that is asked for is loaded: either takes time that the other does not need
"""Who does the work: the engine in this process, or a service."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.cli.exits import CommandError, fail_on_options
from app.cli.files import read_key

if TYPE_CHECKING:
    from app.cli.answers import Engine


@contextmanager
def open_engine(url: str | None, api_key: str | None) -> "Iterator[Engine]":
    """The service at an address, or without one the engine here, with the settings of the environment.

    Raises:
        CommandError: options that do not go together, or the client cannot be used. ConfigError: the settings.
    """
    fail_on_options(url is None and api_key is not None, "--api-key goes with --url")
    if url is None:
        from app.cli.local import LocalEngine

        yield LocalEngine.from_environment()
        return
    key = None if api_key is None else read_key(api_key)
    try:
        from app.cli.remote import RemoteEngine
    except ImportError as error:
        raise CommandError("--url needs the HTTP client", advice=" ".join(str(error).split())) from error
    with RemoteEngine.connect(url, key) as engine:
        yield engine
