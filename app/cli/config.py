# ruff: noqa: PLC0415 - nothing large is loaded for help and completion
"""`jaguar-reid config`."""

from typing import TYPE_CHECKING, Any

from app.cli.exits import told
from app.cli.options import AsJson, Debug
from app.cli.output import print_columns, print_json

if TYPE_CHECKING:
    from app.settings import Settings

_DEFAULT, _ENVIRONMENT = "default", "environment"


def config(as_json: AsJson = False, debug: Debug = False) -> None:
    """The settings that are in effect, and where each comes from. Keys are counted and never shown.

    All come from JAGUAR_... variables of the environment; --url, --api-key and the other options have none.
    """
    with told(debug=debug):
        from app.settings import load_settings

        rows = _effective(load_settings())
        if as_json:
            print_json(rows)
            return
        print_columns([("setting", "from", "value"), *((row["name"], row["from"], _text(row)) for row in rows)])


def _effective(settings: "Settings") -> list[dict[str, Any]]:
    from app.settings import PREFIX

    derived = {
        "cache": ("off" if settings.cache_file is None else str(settings.cache_file), "state"),
        "jobs": (str(settings.jobs_folder), "state"),
    }
    rows = []
    for field in type(settings).model_fields:
        value, source = _plain(getattr(settings, field)), _DEFAULT
        if field in settings.model_fields_set:
            source = _ENVIRONMENT
        elif field in derived:
            value, parent = derived[field]
            source = f"{_DEFAULT}, below {PREFIX}{parent.upper()}"
        rows.append({"name": PREFIX + field.upper(), "value": value, "from": source})
    return rows


def _plain(value: object) -> object:
    """As JSON has it; of keys, how many."""
    from pathlib import Path

    from pydantic import SecretStr

    if isinstance(value, tuple):
        secret = any(isinstance(part, SecretStr) for part in value)
        return f"{len(value)} hidden" if secret else list(value)
    return str(value) if isinstance(value, Path) else value


def _text(row: dict[str, Any]) -> str:
    from pydantic import ByteSize

    value = row["value"]
    if isinstance(value, ByteSize):
        return f"{value:d} ({value.human_readable()})"
    if value is None or value == []:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
