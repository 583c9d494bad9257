"""Any damage to a bundle: it is loaded where it still says what it is, or refused in one line."""

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.reid.bundle import MANIFEST, ONNX_WEIGHTS, Bundle, open_bundle
from app.reid.embedder import load_model
from app.reid.errors import BundleError
from tests.conftest import tiny_manifest, tiny_onnx

WEIGHTS = tiny_onnx()
TEXT = tiny_manifest(WEIGHTS).model_dump_json(indent=2).encode()
VALUES = json.loads(TEXT)


@pytest.fixture(scope="module")
def folder(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that every example damages anew."""
    return Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("fuzz") / "jaguar"))


def written(folder: Path, manifest: bytes = TEXT, weights: bytes = WEIGHTS) -> Path:
    (folder / MANIFEST).write_bytes(manifest)
    (folder / ONNX_WEIGHTS).write_bytes(weights)
    return folder


def loaded(folder: Path) -> Bundle | None:
    """The bundle; None where it was refused as it should be."""
    try:
        return open_bundle(folder)
    except BundleError as error:
        check(error, folder)
        return None


def check(error: BundleError, folder: Path) -> None:
    """A refusal is one line, and never tells where the bundle is."""
    assert str(error).isprintable(), str(error)
    assert str(folder.parent) not in str(error)


def places(values: object, *before: str | int) -> Iterator[tuple[str | int, ...]]:
    """The way to every value in a JSON document; of a long list, to the first."""
    yield before
    if isinstance(values, dict):
        for name, value in values.items():
            yield from places(value, *before, name)
    elif isinstance(values, list) and values:
        yield from places(values[0], *before, 0)


def at(values: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        values = values[step]
    return values


def says(taken: Any, said: Any) -> None:
    """What was taken is what was said; what was not said has its default, and one number is a square's side."""
    if isinstance(said, dict):
        for name, value in said.items():
            says(taken[name], value)
    else:
        assert taken in (said, [said, said])


PLACES = [place for place in places(VALUES) if place]
ODD = [
    None, True, "", "x", "a\nb", "\x1b[1m", "\u2028", "../x", "a\0b", "é" * 300, -1, 0, 2, 16, 4_097, 2**70, 1e308, [],
    [1], {}, {"a": {"b": []}}, float("nan"), float("inf"),
]  # fmt: skip
PIECE = st.sampled_from([b'"', b"{", b"}", b",", b"1e999", b"\\n", b"\xff"])
FUZZ = settings(derandomize=True, deadline=None, max_examples=150)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Some bytes of a file overwritten, cut out, put in or repeated."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(changed)))
        piece = draw(
            st.binary(min_size=1, max_size=4) | st.sampled_from([b'"', b"{", b"}", b",", b"1e999", b"\\n", b"\xff"])
        )
        match draw(st.sampled_from(["overwrite", "cut", "insert", "end", "repeat"])):
            case "overwrite":
                changed[place : place + len(piece)] = piece
            case "cut":
                del changed[place : place + draw(st.integers(1, 500))]
            case "insert":
                changed[place:place] = piece
            case "end":
                del changed[place:]
            case "repeat":
                changed[place:place] = changed[place : place + 300]
    return bytes(changed)


@FUZZ
@given(damaged(WEIGHTS))
@example(WEIGHTS)
@example(b"")
@example(WEIGHTS + b"\0")
def test_weights_are_taken_only_as_they_were(folder: Path, weights: bytes) -> None:
    bundle = loaded(written(folder, weights=weights))
    assert (bundle is not None) == (weights == WEIGHTS)


@FUZZ
@given(damaged(TEXT))
@example(TEXT)
@example(b"\xef\xbb\xbf" + TEXT)
@example(TEXT.replace(b'"seed": 3', b'"seed": 3, "seed": 4'))
@example(TEXT.replace(b'"seed": 3', b'"seed": ' + b"9" * 5_000))
def test_a_damaged_manifest_is_refused_or_still_means_the_weights(folder: Path, text: bytes) -> None:
    bundle = loaded(written(folder, manifest=text))
    if bundle is None:
        assert text != TEXT
        return
    said = json.loads(text)
    assert set(bundle.manifest.files) == set(said["files"])
    for name, entry in said["files"].items():
        data = (folder / name).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (entry["sha256"], entry["bytes"])


@FUZZ
@given(st.sampled_from(PLACES), st.sampled_from(ODD), st.booleans())
def test_an_odd_value_is_refused_or_taken_as_it_is(
    folder: Path, place: tuple[str | int, ...], odd: object, named: bool
) -> None:
    """In the place of a value, or under an odd name beside it."""
    values = copy.deepcopy(VALUES)
    *way, last = place
    inner = at(values, tuple(way))
    if named and isinstance(inner, dict):
        inner[str(odd)] = inner[last]
    else:
        inner[last] = odd
    bundle = loaded(written(folder, manifest=json.dumps(values).encode()))
    if bundle is not None:
        says(bundle.manifest.model_dump(mode="json"), values)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.sampled_from([place for place in PLACES if place[0] != "files"]), st.sampled_from(ODD))
@example(("name",), "a\nb")
@example(("preprocess", "size"), [4_096, 4_096])
@example(("preprocess", "size"), [48, 32])
@example(("embedding_dim",), 511)
@example(("probe", "embedding"), [0.0] * 512)
@example(("probe", "embedding"), [1e308] * 512)
def test_what_is_served_answers_the_probe(folder: Path, place: tuple[str | int, ...], odd: object) -> None:
    """Whatever the manifest says: the network is served, or refused in one line."""
    values = copy.deepcopy(VALUES)
    at(values, place[:-1])[place[-1]] = odd
    written(folder, manifest=json.dumps(values).encode())
    try:
        model = load_model(folder, threads=1)
    except BundleError as error:
        check(error, folder)
        return
    assert model.manifest.probe.embedding == pytest.approx(VALUES["probe"]["embedding"], abs=0.05)
