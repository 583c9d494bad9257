# ruff: noqa: PLC0415 - nothing large is loaded for help and completion
"""`jaguar-reid model show` and `jaguar-reid model verify`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.exits import ExitCode, fail_on_options, told
from app.cli.options import ApiKey, AsJson, Debug, Url
from app.cli.output import print_columns, print_json

if TYPE_CHECKING:
    from app.cli.bundles import Check

app = typer.Typer(no_args_is_help=True, help="What a model bundle is, and whether it is whole.")


def complete(incomplete: str) -> list[str]:
    """For the shell: the bundles in the store."""
    from app.cli.bundles import names_in_store

    return [name for name in names_in_store() if name.startswith(incomplete)]


Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        autocompletion=complete,
        help="A bundle's name in JAGUAR_MODEL_STORE, or a path with a slash. Without it, JAGUAR_MODEL.",
    ),
]


@app.command()
def show(
    name: Name = None, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """What a bundle is: the fields of GET /model. It is loaded for that, so that what is shown would be served."""
    with told(debug=debug):
        facts = _facts(name, url, api_key)
        if as_json:
            print_json(facts)
            return
        rows = [(field, str(value)) for field, value in _flat(facts)]
        print_columns([("field", "value"), *rows])


@app.command()
def verify(name: Name = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Is a bundle whole? Sizes, hashes, and the probe picture through each of its networks. Ends with 1 where not."""
    with told(debug=debug):
        from app.cli.bundles import verify as look
        from app.settings import load_settings

        folder, checks = look(load_settings(), name)
        fails = any(check.holds is False for check in checks)
        if as_json:
            print_json({"bundle": folder, "whole": not fails, "checks": [_as_dict(check) for check in checks]})
        else:
            words = {True: "holds", False: "FAILS", None: "skipped"}
            rows = [(check.what, words[check.holds], check.told) for check in checks]
            print_columns([("check", "outcome", "what"), *rows])
        if fails:
            raise typer.Exit(ExitCode.FOUND)


def _facts(name: str | None, url: str | None, api_key: str | None) -> dict[str, Any]:
    fail_on_options(url is not None and name is not None, "a service shows what it serves: leave out NAME or --url")
    if url is not None or name is None:
        from app.cli.engine import open_engine

        with open_engine(url, api_key) as engine:
            return engine.model()
    from app.cli.bundles import named
    from app.cli.local import LocalEngine
    from app.settings import load_settings

    fail_on_options(api_key is not None, "--api-key goes with --url")
    return LocalEngine(named(load_settings(), name)).model()


def _flat(facts: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Fields of fields as `preprocess.size`."""
    rows: list[tuple[str, Any]] = []
    for field, value in facts.items():
        rows += _flat(value, f"{before}{field}.") if isinstance(value, dict) else [(before + field, value)]
    return rows


def _as_dict(check: "Check") -> dict[str, Any]:
    return {"check": check.what, "holds": check.holds, "told": check.told}
