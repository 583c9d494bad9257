"""The table of settings is the code's, and each default can be written as it stands there."""

import pytest
from pydantic import BaseModel

from app.settings import PREFIX, Settings, load_settings
from tests.guide import settings_table
from tests.guide.blocks import README


def test_the_readme_has_the_table_as_the_code_has_it():
    text = README.read_text(encoding="utf-8")
    assert settings_table.replaced(text) == text, "run: python -m tests.guide.settings_table --write"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_default_can_be_written_as_the_table_shows_it(name, monkeypatch):
    default = Settings.model_fields[name].default
    row = next(row for row in settings_table.table().splitlines() if f"`{PREFIX}{name.upper()}`" in row)
    shown = row.split("|")[2].strip()
    value = "" if shown == "unset" else shown.strip("`")  # an empty value counts as unset
    monkeypatch.setenv(PREFIX + name.upper(), value)
    assert getattr(load_settings(), name) == default


class Two(BaseModel):
    """Two settings.

    Not a setting: a sentence with a colon.

    first, second: of which this
    is said.
    """

    first: int = 1
    second: int = 2


class Three(Two):
    """Three settings.

    first, second: told.
    fourth: there is none.
    """

    third: int = 3


def test_a_sentence_of_two_settings_and_two_lines():
    assert settings_table.descriptions(Two) == dict.fromkeys(("first", "second"), "of which this is said.")


def test_a_setting_without_a_sentence_and_a_sentence_without_a_setting_are_named():
    with pytest.raises(ValueError, match="of Three and its fields differ in: fourth, third"):
        settings_table.descriptions(Three)


@pytest.mark.parametrize("text", ["no marks", settings_table.BEGIN, f"{settings_table.BEGIN}{settings_table.END}" * 2])
def test_a_readme_without_its_two_marks_is_refused(text):
    with pytest.raises(ValueError, match="needs one"):
        settings_table.replaced(text)
