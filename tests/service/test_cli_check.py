"""`jaguar-reid check`: the verdict as an exit code, in words and as JSON. What it finds is tested in tests/reid."""

from itertools import permutations

import numpy as np
import pytest

from tests.service.cli import ask, python

COUNT = 34


@pytest.fixture(scope="module")
def competition(tmp_path_factory, tiny_bundle, draw, encode):
    """A folder with drawn cut-outs in test/test/, test.csv, and the submission that `jaguar-reid submission` makes."""
    top = tmp_path_factory.mktemp("competition")
    (top / "test" / "test").mkdir(parents=True)
    for seed in range(COUNT):
        (top / "test" / "test" / f"{seed}.png").write_bytes(encode(draw(seed, mode="RGBA")))
    rows = [f"{row},{query}.png,{gallery}.png" for row, (query, gallery) in enumerate(permutations(range(COUNT), 2))]
    (top / "test.csv").write_text("\n".join(["row_id,query_image,gallery_image", *rows, ""]))
    made = ("submission", top / "test.csv", "--images", top, "--out", top / "submission.csv")
    assert ask(*made, JAGUAR_MODEL=str(tiny_bundle)).code == 0
    return top


def changed(competition, tmp_path, change):
    """The submission's lines after `change(header, rows)`, in a file of their own."""
    header, *rows = (competition / "submission.csv").read_text().splitlines()
    path = tmp_path / "changed.csv"
    path.write_text("\n".join([*change(header, rows), ""]))
    return path


def shuffled(header, rows):
    return [header, *np.random.default_rng(1).permutation(rows)]


def without_one(header, rows):
    return [header, *rows[:5], *rows[6:]]


def random(header, rows):
    rng = np.random.default_rng(42)
    return [header, *(f"{row},{rng.random():.17g}" for row in range(len(rows)))]


def rounded(header, rows):
    return [header, *(f"{row.split(',')[0]},{float(row.split(',')[1]):.2f}" for row in rows)]


def check(competition, submission, *more):
    return ask("check", submission, "--test", competition / "test.csv", *more)


def test_a_right_file(competition):
    ended = check(competition, competition / "submission.csv")
    assert (ended.code, ended.err) == (0, "")
    first, facts, *_, last = ended.out.splitlines()
    assert first.endswith("submission.csv: 1,122 rows; test.csv asks for 1,122, of 34 photos")
    assert facts.startswith("tied 0.00%; asymmetry 0; agreement 0.")
    assert last == "nothing wrong was found"


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (shuffled, "rows-moved", "ERROR rows-moved: "),
        (without_one, "rows-missing", "ERROR rows-missing: 1 row missing of test.csv's 1,122\n    row_id '5'\n  -> "),
        (random, "random", "ERROR random: this looks random"),
        (rounded, "ties", "WARNING ties: "),
    ],
)
def test_a_wrong_file(competition, tmp_path, change, code, told):
    path = changed(competition, tmp_path, change)
    ended = check(competition, path)
    assert (ended.code, ended.err) == (1, "")
    assert told in ended.out
    assert "nothing wrong" not in ended.out
    report = check(competition, path, "--json")
    assert report.code == 1
    assert code in [finding["code"] for finding in report.json["findings"]]
    assert report.json["clean"] is False


def test_graver_findings_come_first(competition, tmp_path):
    lines = check(competition, changed(competition, tmp_path, random)).out.splitlines()
    marks = [line.split()[0] for line in lines if line[:5] in {"ERROR", "WARNI", "NOTE "}]
    assert marks == ["ERROR", "WARNING"]
    assert lines[-1] == "errors: 1, warnings: 1"


def test_json(competition):
    told = check(competition, competition / "submission.csv", "--json").json
    assert set(told) == {
        "clean", "errors", "warnings", "notes", "findings", "asked", "photos", "rows", "tied", "asymmetry", "structure"
    }  # fmt: skip
    assert (told["clean"], told["errors"], told["warnings"], told["notes"]) == (True, 0, 0, 0)
    assert set(told["structure"]) == {"photos", "agreement", "by_chance"}


def test_photos_are_looked_at_where_they_are_named(competition, tmp_path):
    ended = check(competition, competition / "submission.csv", "--images", competition)
    assert "NOTE small: " in ended.out
    (tmp_path / "empty").mkdir()
    ended = check(competition, competition / "submission.csv", "--images", tmp_path / "empty")
    assert (ended.code, "ERROR images-missing: not in the folder: 34 photos of the 34" in ended.out) == (1, True)


def test_what_is_no_table(competition, tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff")
    ended = check(competition, tmp_path / "x.csv")
    assert (ended.code, "x.csv: unreadable; test.csv asks for 1,122" in ended.out) == (1, True)
    assert "ERROR unreadable: " in ended.out


def test_a_test_csv_that_is_none(competition):
    """There is nothing to compare with: that is bad input, and no verdict on the submission."""
    ended = ask("check", competition / "submission.csv", "--test", competition / "submission.csv")
    assert (ended.code, ended.out) == (2, "")
    assert "submission.csv': 2 problems\n  line 1: the column query_image is missing" in ended.err


@pytest.mark.parametrize("missing", ["submission", "test", "images"])
def test_files_that_are_not_there(competition, tmp_path, missing):
    paths = {"submission": competition / "submission.csv", "test": competition / "test.csv", "images": competition}
    paths[missing] = tmp_path / "nowhere"
    ended = ask("check", paths["submission"], "--test", paths["test"], "--images", paths["images"])
    assert (ended.code, ended.out) == (2, "")
    assert "nowhere' cannot be read: no such file or directory" in ended.err


def test_it_loads_no_model(competition):
    """It works wherever there are two CSVs, and in a moment."""
    words = ["check", str(competition / "submission.csv"), "--test", str(competition / "test.csv")]
    ended = python(
        f"import sys; from app.cli import app; app({words!r}, standalone_mode=False)\n"
        "sys.exit(any(name in sys.modules for name in ('onnxruntime', 'app.settings')))"
    )
    assert ended.returncode == 0, ended.stderr
