"""`jaguar-reid batch` and `jaguar-reid submission`."""

from dataclasses import asdict
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.engine import open_engine
from app.cli.exits import fail_on_options, told
from app.cli.files import check_table, written
from app.cli.options import ApiKey, AsJson, Debug, Images, Url
from app.cli.output import plain, print_json
from app.cli.progress import progress

if TYPE_CHECKING:
    from app.cli.answers import TableName


class Choice(StrEnum):
    """What `--postprocess` may say."""

    MANIFEST = "manifest"


Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="The CSV to write; replaces what was there, once it is whole. Without it, standard output.",
    ),
]


def batch(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS.csv", help="CSV with query_image, gallery_image and any more columns.")
    ],
    images: Images = None,
    out: Out = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Scores a CSV of pairs: its columns and rows, with cosine, similarity, probability and verdict added."""
    with told(debug=debug):
        _score("batch", pairs, images, out, (url, api_key), as_json=as_json)


def submission(
    test: Annotated[Path, typer.Argument(metavar="TEST.csv", help="The competition's test.csv.")],
    images: Images = None,
    out: Out = None,
    postprocess: Annotated[
        Choice | None,
        typer.Option("--postprocess", help="Do to the scores what the bundle's manifest says is worth it."),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Makes the competition's submission.csv: row_id, similarity, in the order of test.csv."""
    with told(debug=debug):
        kind: TableName = "submission" if postprocess is None else "postprocessed-submission"
        _score(kind, test, images, out, (url, api_key), as_json=as_json)
        if out is not None and not as_json:
            typer.echo(f"look at it before you hand it in: jaguar-reid check {plain(out)} --test {plain(test)}")


def _score(
    kind: "TableName",
    table: Path,
    images: Path | None,
    out: Path | None,
    service: tuple[str | None, str | None],
    *,
    as_json: bool,
) -> None:
    fail_on_options(as_json and out is None, "--json needs --out FILE: standard output is the CSV's otherwise")
    check_table(table)  # told before anything large is loaded
    began, answer = monotonic(), BytesIO()
    with open_engine(*service) as engine, progress() as tell:
        if out is None:
            engine.score(kind, table, images, answer, tell)
        else:
            with written(out, [table]) as file:
                scored = engine.score(kind, table, images, file, tell)
    if out is None:  # only now, that the bar is gone
        stdout = typer.get_binary_stream("stdout")
        stdout.write(answer.getbuffer())
        stdout.flush()
        return
    seconds = monotonic() - began
    if as_json:
        print_json({**asdict(scored), "out": str(out), "seconds": round(seconds, 3)})
    else:
        done = "" if scored.postprocess is None else f"post-processing: {scored.postprocess}, "
        typer.echo(f"{plain(out)}: model {scored.model_version}, {done}{seconds:.1f} s")
