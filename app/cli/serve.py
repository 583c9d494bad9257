# ruff: noqa: PLC0415 - no other command loads the server
"""`jaguar-reid serve`."""

from typing import Annotated

import typer


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65_535)] = 8000,
) -> None:
    """Serves the bundle that JAGUAR_MODEL names, in the foreground. Settings come from JAGUAR_... variables.

    SIGTERM and Ctrl-C answer what is under way and end with status 0; SIGHUP loads the bundle again.
    """
    from app.cli.serving import run

    run(host, port)
