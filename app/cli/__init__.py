"""The console script `jaguar-reid`.

Layers, from the top: `__main__` > a module for each command or two > `engine` (who does the work) and `serving` >
`local | remote` > `arrays | bundles` > `answers` > `files | output | progress` > `exits | options`. A command imports
what it needs when it runs, so that `similarity` is not kept waiting by the server, nor `--help` by ONNX Runtime.
"""

import typer

from app.cli import models
from app.cli.check import check
from app.cli.compare import rank, similarity
from app.cli.config import config
from app.cli.embed import embed
from app.cli.serve import serve
from app.cli.tables import batch, submission

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Tells whether two photos show the same jaguar, and how sure it is.

    Commands work on this machine, with the bundle that JAGUAR_MODEL names, or ask the service at --url.

    Files that --out or --explain name are replaced, once the answer is whole.

    Exit codes:

      0    done
      1    check or model verify found something wrong
      2    the input, an option or a setting is at fault
      3    the service at --url cannot answer; serve cannot listen
      70   an error of the program's own
      130  Ctrl-C
    """


for command in (serve, similarity, rank, embed, batch, submission, check, config):
    app.command()(command)
app.add_typer(models.app, name="model")
