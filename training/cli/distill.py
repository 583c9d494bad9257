"""`jaguar-train distill`."""

from pathlib import Path
from typing import Annotated

import typer

from training.cli.exits import exit_codes
from training.cli.output import out, progress
from training.config import load_config
from training.distill import DistillConfig
from training.distill import distill as distilling


def distill(
    config: Annotated[Path, typer.Argument(help="A TOML file, see training/configs/distill.toml.")],
    pictures: Annotated[Path, typer.Option(help="The folder that holds the folders of pictures.")],
    teacher: Annotated[Path, typer.Option(help="The teacher's weights: a torch or safetensors file.")],
    bundle: Annotated[Path, typer.Option("--out", help="The bundle's folder, for example model_store/NAME.")],
    run: Annotated[Path | None, typer.Option("--run", help="The run's folder; runs/NAME by default.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, for example learning.steps=300.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run was interrupted.")] = False,
) -> None:
    """Teach a network what another one sees in pictures of anything, as a start for photos with names."""
    with exit_codes():
        settings = load_config(config, overrides or [], DistillConfig)
        with progress() as bar:
            task = bar.add_task("looking for pictures", total=None)
            figures = distilling(
                settings,
                pictures,
                teacher,
                bundle,
                run or Path("runs") / bundle.name,
                resume=resume,
                progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            )
        cosine = f"cosine to the teacher {figures['teacher_cosine']:.4f}"
        out.print(f"{bundle}: {cosine}, on other views of the pictures it knows", highlight=False, soft_wrap=True)
