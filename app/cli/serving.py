"""The service in the foreground."""

import os
import resource
import sys

import typer
import uvicorn

from app import logs
from app.lifecycle import Server
from app.main import create_service
from app.protocol import BoundedProtocol
from app.reid.errors import ReidError
from app.settings import load_settings
from app.workers import load_served

# Connections that wait for their turn to be accepted.
_BACKLOG = 2048
# After the last answer: what streams events and what stands open without a request.
_CLOSE_S = 5


def run(host: str, port: int) -> None:
    """Serves until it is told to stop. Ends the process with status 2 where the settings or the bundle are at fault."""
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
    try:
        Server(config, service.lifecycle).run_until_ended()
    except SystemExit:  # status 3, after a line in the log: nearly always another program has the port
        why = "the reason is above; --host and --port name another place to listen"
        typer.echo(f"jaguar-reid: the service could not start on {host}, port {port}: {why}", err=True)
        raise
    if service.workers.busy:  # a thread that never returns would keep the process
        sys.stderr.flush()
        os._exit(0)


def _allow_many_files() -> None:
    """Takes as many open files as the system grants: large parts of an upload are a temporary file each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
