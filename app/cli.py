"""The console script `jaguar-reid`."""

import os
import resource
import sys
from typing import Annotated

import typer
import uvicorn

from app import logs
from app.lifecycle import Server, load_served
from app.main import create_service
from app.protocol import BoundedProtocol
from app.reid.errors import ReidError
from app.settings import load_settings

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

# Connections that wait for their turn to be accepted.
_BACKLOG = 2048
# After the last answer: what streams events and what stands open without a request.
_CLOSE_S = 5


@app.callback()
def main() -> None:
    """Tells whether two photos show the same jaguar, and how sure it is."""


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65_535)] = 8000,
) -> None:
    """Serves the bundle that JAGUAR_MODEL names, in the foreground. Settings come from JAGUAR_... variables.

    SIGTERM and Ctrl-C answer what is under way and end with status 0; SIGHUP loads the bundle again.
    """
    try:
        settings = load_settings()
        model = load_served(settings)
        service = create_service(settings, model)
    except ReidError as error:
        typer.echo(f"jaguar-reid: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error
    name, made_with = model.manifest.name, f"{settings.runtime} {settings.precision}"
    typer.echo(f"jaguar-reid: bundle {name}, model_version {model.version}, {made_with}", err=True)
    _allow_many_files()
    config = uvicorn.Config(
        service.asgi, host=host, port=port, http=BoundedProtocol, loop="uvloop", ws="none", access_log=False,
        log_config=logs.configure(sys.stderr.isatty()), backlog=_BACKLOG, timeout_graceful_shutdown=_CLOSE_S,
    )  # fmt: skip
    Server(config, service.lifecycle).run_until_ended()  # status 3 where it cannot start: the port is taken
    if service.workers.busy:  # a thread that never returns would keep the process
        sys.stderr.flush()
        os._exit(0)


def _allow_many_files() -> None:
    """Takes as many open files as the system grants: large parts of an upload are a temporary file each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    app()
