"""The house rules that no linter knows: one home for each thing, and nothing that grows without end."""

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for package in ("app", "training") for path in (ROOT / package).rglob("*.py"))
ENGINE = ROOT / "app" / "reid"

MAX_FUNCTION_LINES, MAX_FILE_LINES = 40, 300


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def where(sought: Callable[[ast.AST], bool]) -> Iterator[str]:
    """`app/file.py:line` of every piece of code that is sought."""
    for path in FILES:
        for node in nodes(path):
            if sought(node):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def outside(home: str, sought: Callable[[ast.AST], bool]) -> list[str]:
    """Where a thing is found outside its home; that it is found at home shows that the search finds."""
    found = list(where(sought))
    assert any(place.startswith(f"{home}:") for place in found), f"nothing found in {home} itself"
    return [place for place in found if not place.startswith(f"{home}:")]


def uses(module: str, name: str) -> Callable[[ast.AST], bool]:
    """`module.name`, however the module is reached, and `from ...module import name`."""

    def sought(node: ast.AST) -> bool:
        if isinstance(node, ast.ImportFrom):
            last = (node.module or "").rpartition(".")[2]
            return last == module and any(alias.name in {name, "*"} for alias in node.names)
        if not isinstance(node, ast.Attribute) or node.attr != name:
            return False
        owner = node.value
        return (
            isinstance(owner, (ast.Name, ast.Attribute)) and getattr(owner, "id", getattr(owner, "attr", "")) == module
        )

    return sought


def literal(*values: object) -> Callable[[ast.AST], bool]:
    return lambda node: (
        isinstance(node, ast.Constant)
        and any(type(node.value) is type(value) and node.value == value for value in values)
    )


def either(*sought: Callable[[ast.AST], bool]) -> Callable[[ast.AST], bool]:
    return lambda node: any(one(node) for one in sought)


HOMES = {
    "opening a picture": ("app/reid/preprocess.py", uses("Image", "open")),
    "building a timm network": ("app/reid/network.py", uses("timm", "create_model")),
    "channel means and deviations": ("app/reid/spec.py", literal(0.485, 0.456, 0.406, 0.229, 0.224, 0.225)),
    "the competition's columns": (
        "app/reid/tables.py",
        literal("ground_truth", "query_image", "gallery_image", "row_id"),
    ),
    "average precision": (
        "app/reid/metric.py",
        lambda node: isinstance(node, ast.FunctionDef) and ("average_precision" in node.name or "_map" in node.name),
    ),
}


@pytest.mark.parametrize("thing", HOMES)
def test_each_thing_has_one_home(thing: str) -> None:
    assert outside(*HOMES[thing]) == []


def test_environment_variables_are_read_in_the_settings_alone() -> None:
    """pydantic-settings reads them there. `app/__init__.py` sets one, for ONNX Runtime, before anything is imported."""
    sought = either(uses("os", "environ"), uses("os", "environb"), uses("os", "getenv"))
    homes = ("app/settings.py:", "app/__init__.py:")
    assert [place for place in where(sought) if not place.startswith(homes)] == []


def test_no_assert_and_no_bare_except() -> None:
    """An assertion vanishes under -O, and a bare except swallows Ctrl-C."""
    assert list(where(lambda node: isinstance(node, ast.Assert))) == []
    assert list(where(lambda node: isinstance(node, ast.ExceptHandler) and node.type is None)) == []


def test_no_unpickling() -> None:
    pickles = {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}

    def sought(node: ast.AST) -> bool:
        if isinstance(node, ast.Import):
            return any(alias.name in pickles for alias in node.names)
        return isinstance(node, ast.ImportFrom) and node.module in pickles

    assert list(where(sought)) == []


def test_torch_reads_tensors_only() -> None:
    def sought(node: ast.AST) -> bool:
        """`torch.load(...)` that does not say `weights_only=True`."""
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != "torch.load":
            return False
        return "weights_only=True" not in [ast.unparse(keyword) for keyword in node.keywords]

    assert list(where(sought)) == []


def test_functions_fit_on_a_screen() -> None:
    def sought(node: ast.AST) -> bool:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return False
        return (node.end_lineno or node.lineno) - node.lineno + 1 > MAX_FUNCTION_LINES

    assert list(where(sought)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("path", sorted(ENGINE.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_each_part_of_the_engine_has_its_tests(path: Path) -> None:
    places = (ROOT / "tests" / "reid", ROOT / "tests" / "reid" / "torch")
    assert any((place / f"test_{path.stem}.py").exists() for place in places)
