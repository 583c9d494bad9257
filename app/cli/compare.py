# ruff: noqa: PLC0415 - errors in the arguments are told before anything large is loaded
"""`jaguar-reid similarity` and `jaguar-reid rank`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.engine import open_engine
from app.cli.exits import CommandError, told
from app.cli.files import check_folder, check_photo, photos_in, shown, written
from app.cli.options import ApiKey, AsJson, Debug, Url
from app.cli.output import plain, print_columns, print_json
from app.cli.progress import progress

if TYPE_CHECKING:
    from app.cli.answers import Float32


def similarity(
    a: Annotated[Path, typer.Argument(metavar="A", help="A photo: JPEG, PNG or WebP.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    explain: Annotated[
        Path | None, typer.Option("--explain", metavar="OUT.png", help="Also draw where the score comes from.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Do two photos show the same jaguar? 1 is the same photo, 0.5 is unrelated."""
    with told(debug=debug):
        check_photo(a)
        check_photo(b)
        with open_engine(url, api_key) as engine:
            if explain is None:
                answer = engine.compare(a, b)
            else:
                with written(explain, [a, b]) as file:
                    answer, picture = engine.explain(a, b)
                    file.write(picture)
        if as_json:
            print_json(asdict(answer))
            return
        typer.echo(f"similarity   {answer.similarity:.6f}")
        typer.echo(f"cosine       {answer.cosine:.6f}")
        if answer.probability is None:
            typer.echo("probability  not known: this model is uncalibrated")
        else:
            typer.echo(f"probability  {answer.probability:.4f}")
            typer.echo(f"verdict      {answer.verdict}")
        typer.echo(f"model        {answer.model_version}")
        if explain is not None:
            typer.echo(f"drawn        {plain(explain)}")


def rank(
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="The photo that the others are compared with.")],
    gallery: Annotated[Path, typer.Option("--gallery", metavar="DIR", help="The photos to rank, in it and below it.")],
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Print so many of the most alike.")] = 10,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Which photos in a folder are most like this one? The photo itself is left out where it lies there."""
    with told(debug=debug):
        check_photo(query)
        check_folder(gallery)
        photos = [path for path in photos_in([gallery]) if not path.samefile(query)]
        if not photos:
            raise CommandError(f"{shown(gallery)} holds no other photo", advice="Name the folder to look in.")
        with open_engine(url, api_key) as engine, progress() as tell:
            version, embeddings = engine.embed([query, *photos], tell)
            facts = engine.model()
        matches = _matches(photos, embeddings, top, facts)
        if as_json:
            print_json({"model_version": version, "query": str(query), "photos": len(photos), "matches": matches})
            return
        print_columns(_columns(matches))


def _matches(photos: "list[Path]", embeddings: "Float32", top: int, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The nearest photos, as `--json` prints them."""
    from app.cli.arrays import nearest, scale_told

    scale = scale_told(facts)
    matches = []
    for place, (found, cosine) in enumerate(nearest(embeddings, top), 1):
        similarity = (cosine + 1.0) / 2.0
        probability, verdict = (None, None) if scale is None else scale.read(similarity)
        match = {"rank": place, "photo": str(photos[found]), "similarity": similarity, "cosine": cosine}
        matches.append(match | {"probability": probability, "verdict": verdict})
    return matches


def _columns(matches: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The same for people; probability and verdict where they are known."""
    known = any(match["verdict"] is not None for match in matches)
    rows: list[tuple[str, ...]] = [("rank", "similarity", *(("probability", "verdict") if known else ()), "photo")]
    for match in matches:
        read = (f"{match['probability']:.4f}", match["verdict"]) if known else ()
        rows.append((str(match["rank"]), f"{match['similarity']:.6f}", *read, plain(str(match["photo"]))))
    return rows
