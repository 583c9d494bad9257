"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Ask the service there instead of computing here: http://127.0.0.1:8000"),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        help="The key that the service at --url asks for; @FILE reads it from a file, so that no list of processes"
        " shows it.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="The folder that holds the photos. Without it JAGUAR_IMAGE_ROOT; with --url, the service's own.",
    ),
]
