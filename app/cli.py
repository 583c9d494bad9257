"""The console script `jaguar-reid`."""

import resource
import signal
import sys
from typing import Annotated

import typer
import uvicorn

from app.main import create_app
from app.reid.embedder import load_model
from app.reid.errors import ReidError
from app.settings import load_settings

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Tells whether two photos show the same jaguar, and how sure it is."""


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65_535)] = 8000,
) -> None:
    """Serves the bundle that JAGUAR_MODEL names, in the foreground. Settings come from JAGUAR_... variables."""
    try:
        settings = load_settings()
        model = load_model(
            settings.bundle_folder,
            runtime=settings.runtime,
            precision=settings.precision,
            max_pixels=settings.max_pixels,
        )
    except ReidError as error:
        typer.echo(f"jaguar-reid: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error
    name, made_with = model.manifest.name, f"{settings.runtime} {settings.precision}"
    typer.echo(f"jaguar-reid: bundle {name}, model_version {model.version}, {made_with}", err=True)
    _allow_many_files()
    # uvicorn raises the signal once more when it has shut down; being asked to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(create_app(settings, model), host=host, port=port)


def _allow_many_files() -> None:
    """Takes as many open files as the system grants: large parts of an upload are a temporary file each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    app()
