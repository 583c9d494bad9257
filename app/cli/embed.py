# ruff: noqa: PLC0415 - errors in the arguments are told before anything large is loaded
"""`jaguar-reid embed`."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.engine import open_engine
from app.cli.exits import fail_on_options, told
from app.cli.files import photos_in, written
from app.cli.options import ApiKey, AsJson, Debug, Url
from app.cli.output import plain, print_json
from app.cli.progress import progress


def embed(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTOS...", help="Photos, and folders of photos.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="X.npy", help="NumPy file to write, float32 (N, 512); replaces what was there."),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Embeds photos: rows of norm 1, in the order of the photos, whose dot products are cosines.

    With --json and no --out, the embeddings are printed as POST /embed answers them; else the photos by row.
    """
    with told(debug=debug):
        fail_on_options(out is None and not as_json, "embeddings need --out X.npy or --json")
        found = photos_in(photos)
        with open_engine(url, api_key) as engine, progress() as tell:
            if out is None:
                version, embeddings = engine.embed(found, tell)
            else:
                from app.cli.arrays import save

                with written(out, found) as file:
                    version, embeddings = engine.embed(found, tell)
                    save(embeddings, file)
        names = [str(path) for path in found]
        if out is None:
            rows = [{"filename": name, "embedding": row} for name, row in zip(names, embeddings.tolist(), strict=True)]
            print_json({"model_version": version, "embeddings": rows})
        elif as_json:
            shape = list(embeddings.shape)
            print_json({"model_version": version, "out": str(out), "shape": shape, "photos": names})
        else:
            typer.echo(f"{plain(out)}: {len(found)} embeddings of {embeddings.shape[1]}, model {version}")
