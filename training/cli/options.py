"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Bundle = Annotated[Path, typer.Argument(help="The bundle's folder.")]
Data = Annotated[Path, typer.Option("--data", help="Folder with train.csv and the photos.")]
