"""The console script `jaguar-train`.

Layers, from the top: a module for each command > `watching` > `exits` > `output` > `options`.
"""

import typer

from training.cli.calibrate import calibrate
from training.cli.coats import coats
from training.cli.distill import distill
from training.cli.evaluate import evaluate
from training.cli.fit import fit
from training.cli.postprocess import postprocess
from training.cli.quantize import quantize
from training.cli.sources import sources
from training.cli.submission import submission

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def main() -> None:
    """Turns photos with names into a model bundle.

    Exit 0: done; 2: the input is at fault; 1: anything else; 130: Ctrl-C.
    """


for command in (fit, evaluate, submission, calibrate, postprocess, quantize, coats, sources, distill):
    app.command()(command)
