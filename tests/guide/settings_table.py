"""The README's table of settings, made from `app/settings.py`.

    python -m tests.guide.settings_table            prints it
    python -m tests.guide.settings_table --write    puts it into the README

A setting's sentence is the one that the docstring of `Settings` has for it; its default is the class's own.
"""

import argparse
import inspect
import re

from pydantic import ByteSize

from app.settings import PREFIX, Settings
from tests.guide.blocks import README

BEGIN, END = "<!-- settings: made by python -m tests.guide.settings_table --write -->", "<!-- end of settings -->"
_ENTRY = re.compile(r"(?P<names>[a-z0-9_]+(?:, [a-z0-9_]+)*): (?P<text>.+)")


def descriptions(settings: type = Settings) -> dict[str, str]:
    """Every setting's sentence. Raises ValueError: a setting has none, or a sentence has no setting."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(settings.__doc__ or "").splitlines()[1:]:
        if match := _ENTRY.fullmatch(line):
            names = match["names"].split(", ")
            found |= dict.fromkeys(names, match["text"])
        elif line and names:  # the sentence goes on
            found |= dict.fromkeys(names, f"{found[names[0]]} {line.strip()}")
    if found.keys() != settings.model_fields.keys():
        odd = ", ".join(sorted(found.keys() ^ settings.model_fields.keys()))
        raise ValueError(f"the docstring of {settings.__name__} and its fields differ in: {odd}")
    return found


def shown(default: object) -> str:
    """A default as a person writes it into the environment."""
    if default is None or default == ():
        return "unset"
    if isinstance(default, ByteSize):
        return f"`{default.human_readable().replace('.0', '')}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def table() -> str:
    """The table in Markdown, in the order of the code."""
    told = descriptions()
    lines = ["| setting | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        lines.append(f"| `{PREFIX}{name.upper()}` | {shown(field.default)} | {told[name].rstrip('.')} |")
    return "\n".join(lines)


def replaced(text: str) -> str:
    """A README with the table as the code has it now. Raises ValueError: the two marks are not there once each."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{README.name} needs one {BEGIN!r} and one {END!r}")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    """Prints or writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put it into the README")
    if parser.parse_args().write:
        README.write_text(replaced(README.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table())


if __name__ == "__main__":
    main()
