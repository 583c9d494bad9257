"""What the README says that the code knows as well: calls, exit codes, metrics, pictures and links."""

import re

import pytest
from starlette.testclient import TestClient

from app.cli.exits import ExitCode
from app.main import create_app
from app.reid.bundle import Manifest
from app.reid.calibration import Calibration
from app.reid.embedder import load_model
from app.reid.postprocess import Postprocess
from app.settings import PREFIX, Settings
from tests.guide.blocks import README, ROOT, Block, blocks_of

TEXT = README.read_text(encoding="utf-8")
# Of the page, which is for people, and the page about calls itself.
UNLISTED = {("GET", "/"), ("GET", "/openapi.json")}


@pytest.fixture(scope="module")
def served(tiny_bundle, tmp_path_factory):
    settings = Settings(model=f"{tiny_bundle}", state=tmp_path_factory.mktemp("state"))
    with TestClient(create_app(settings, load_model(tiny_bundle))) as client:
        yield client


def test_the_table_has_every_call_and_no_other(served):
    told = re.findall(r"`(GET|POST|DELETE) (/[^`]*)`", TEXT.partition("## Calls")[2].partition("\n## ")[0])
    page = served.get("/openapi.json").json()
    calls = {(method.upper(), path) for path, methods in page["paths"].items() for method in methods}
    assert set(told) == calls | UNLISTED
    assert all(served.get(path).status_code == 200 for _, path in UNLISTED)


def test_every_metric_that_is_named_exists(served):
    known = served.get("/metrics").text
    named = set(re.findall(r"`((?:jaguar|http)_[a-z_]+)`", TEXT))
    assert {name for name in named if f"# HELP {name} " not in known} == set()
    assert len(named) > 5


def test_exit_codes_are_those_of_the_command_line():
    sentence = TEXT.partition("The exit code says how it")[2].partition("To have")[0]
    assert [int(number) for number in re.findall(r"\b\d+\b", sentence)] == [code.value for code in ExitCode]


def test_compose_passes_every_setting_on():
    """But for the store's, which is where compose mounts it."""
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    passed = re.findall(rf"^      ({PREFIX}\w+):", compose, re.MULTILINE)
    assert sorted(passed) == sorted(PREFIX + name.upper() for name in Settings.model_fields if name != "model_store")


def test_links_and_pictures_lead_somewhere():
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in headings_of(TEXT)}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (ROOT / target).is_file(), target


def test_files_that_are_named_are_there():
    named = set(re.findall(r"`((?:app|training|model_store|tests|docker)/[\w./-]+\.\w+)`", TEXT))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_the_page_about_bundles_names_every_field_of_a_manifest():
    page = (ROOT / "model_store" / "README.md").read_text(encoding="utf-8")
    manifest = page.partition("## manifest.json")[2].partition("\n## ")[0]
    told = [
        name
        for row in manifest.splitlines()
        for name in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")
    ]
    assert sorted(told) == sorted(Manifest.model_fields)
    calibration = page.partition("## Calibration")[2].partition("\n## ")[0]
    assert all(f"`{name}`" in calibration for name in Calibration.model_fields)
    assert all(f"`{name}`" in page.partition("## Post-processing")[2] for name in Postprocess.model_fields)


def headings_of(text: str) -> list[str]:
    bare = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line for line in bare.splitlines() if line.startswith("#")]


MARKDOWN = """\
# Title
```console
one   # a comment
two \\
    three#4 --set "a # b"

```
## Some heading
text
```json
{}
```
```python
# only a comment
five()
```
"""


def test_blocks_by_hand():
    first, second, third = blocks_of(MARKDOWN)
    assert (first.heading, first.line, first.language) == ("Title", 3, "console")
    assert first.commands == ["one", 'two three#4 --set "a']  # quotes are not read: commands only sort blocks
    assert second == Block("Some heading", 11, "json", "{}")
    assert second.name == "some-heading-line-11"
    assert (third.line, third.commands) == (14, ["five()"])


def test_a_block_that_is_not_closed_is_named():
    with pytest.raises(ValueError, match="line 2 is not closed"):
        list(blocks_of("```console\nls"))
