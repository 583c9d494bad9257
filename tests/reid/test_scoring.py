"""A table's pairs, their photos and their scores; and the whole road against the plain one."""

import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice, permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.reid.calibration import Calibration, Logistic, Scale
from app.reid.embedder import load_model
from app.reid.errors import RowLimitError, UnknownImageError, UnsafeNameError
from app.reid.photos import Photo
from app.reid.postprocess import Postprocess, Rerank, postprocess
from app.reid.scoring import BATCH, POSTPROCESSED, SUBMISSION, PhotoPairs, TableKind, find_photos, score_pairs
from tests.reid.plain import plain_rows, plain_text

HEADERS = {BATCH: "query_image,gallery_image", SUBMISSION: "row_id,query_image,gallery_image"}


@dataclass(frozen=True)
class Named:
    """A photo that is its key."""

    key: str

    def read(self) -> bytes:
        return self.key.encode()


@dataclass
class Shelf:
    """A source that has every photo; names that differ in their ending alone are one. `asked` is what it was asked."""

    asked: list[dict[str, int]] = field(default_factory=list)
    missing: Callable[[str], bool] = lambda name: False

    def find(self, names: Mapping[str, int]) -> dict[str, Photo]:
        self.asked.append(dict(names))
        if missing := [f"line {line}: {name!r}" for name, line in names.items() if self.missing(name)]:
            raise UnknownImageError("photos that are not on the shelf", missing)
        return {name: Named(name.partition(".")[0]) for name in names}


def pairs_of(text: str) -> PhotoPairs:
    return find_photos(BATCH.read(f"query_image,gallery_image\n{text}".encode(), max_rows=99), Shelf())


def test_each_photo_stands_once_with_the_first_name_that_it_goes_by() -> None:
    pairs = pairs_of("b.png,a\na,c\nb,b.jpg\na.jpg,c\n")
    assert pairs.photos == [("'b.png'", Named("b")), ("'a'", Named("a")), ("'c'", Named("c"))]
    assert pairs.query.tolist() == [0, 1, 0, 1]
    assert pairs.gallery.tolist() == [1, 2, 0, 2]


def test_photos_are_called_by_escaped_names() -> None:
    assert [called for called, _ in pairs_of("a\x1b[1m,b\n").photos] == [r"'a\x1b[1m'", "'b'"]


def test_scores_by_hand() -> None:
    pairs = pairs_of("x,y\nx,x\nx,z\ny,x\n")
    scores = score_pairs(pairs, np.array([[2, 0], [0, 3], [-1, 0]], dtype=np.float32))
    assert scores.cosine.tolist() == [0.0, 1.0, -1.0, 0.0]
    assert scores.similarity.tolist() == [0.5, 1.0, 0.0, 0.5]


def test_the_competition_in_small() -> None:
    """All ordered pairs without self: symmetric, and what a plain product of the unit rows gives."""
    names = [f"test_{number:04d}" for number in range(20)]
    orders = list(permutations(names, 2))
    pairs = pairs_of("".join(f"{a},{b}\n" for a, b in orders[:99]))
    embeddings = np.random.default_rng(0).standard_normal((20, 512)).astype(np.float32)
    unit = embeddings / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    place = {photo.key: number for number, (_, photo) in enumerate(pairs.photos)}
    table = dict(zip(orders, score_pairs(pairs, embeddings).cosine.tolist(), strict=False))
    for (a, b), cosine in table.items():
        assert cosine == table.get((b, a), cosine)
        assert cosine == pytest.approx(float(unit[place[a]] @ unit[place[b]]), abs=1e-12)


def test_a_few_names_are_looked_up_at_once_and_all_that_are_missing_told() -> None:
    shelf = Shelf(missing=lambda name: name in "bd")
    table = BATCH.read(b"query_image,gallery_image\na,b\nc,d\n", max_rows=9)
    with pytest.raises(UnknownImageError, match="^photos that are not on the shelf; line 2: 'b'; line 3: 'd'$"):
        find_photos(table, shelf)
    assert shelf.asked == [{"a": 2, "b": 2, "c": 3, "d": 3}]


def test_of_very_many_names_the_look_up_ends_with_the_first_ten_thousand_that_lack_one() -> None:
    text = "query_image,gallery_image\n" + "".join(f"a{row},b{row}\n" for row in range(15_000))
    table = BATCH.read(text.encode(), max_rows=15_000)
    shelf = Shelf()
    pairs = find_photos(table, shelf)
    assert [len(names) for names in shelf.asked] == [10_000] * 3
    assert [photo.key for _, photo in pairs.photos] == table.names
    shelf = Shelf(missing=lambda name: name in {"b6000", "a14000"})
    with pytest.raises(UnknownImageError) as caught:
        find_photos(table, shelf)
    assert caught.value.summary == "photos that are not on the shelf, as far as line 10001"
    assert caught.value.all_problems == ("line 6002: 'b6000'",)
    shelf = Shelf(missing=lambda name: name == "a14000")
    with pytest.raises(UnknownImageError, match="^photos that are not on the shelf; line 14002: 'a14000'$"):
        find_photos(table, shelf)


def test_the_look_ups_own_kind_of_error_is_kept() -> None:
    class Locked(Shelf):
        def find(self, names: Mapping[str, int]) -> dict[str, Photo]:
            raise UnsafeNameError("names that lead out of the shelf", ["line 2: 'a0'"])

    text = "query_image,gallery_image\n" + "".join(f"a{row},b{row}\n" for row in range(6_000))
    with pytest.raises(UnsafeNameError):
        find_photos(BATCH.read(text.encode(), max_rows=6_000), Locked())


NOTE = st.text(st.sampled_from('xy,"\n\r é\0'), max_size=4)
NAME = st.sampled_from(["a", "b.png", 'c "d"', "e,f", "g\nh", "i\rj", "é"])


@given(
    st.sampled_from([BATCH, SUBMISSION]),
    st.lists(st.tuples(NAME, NAME, NOTE), min_size=1, max_size=6),
    st.sampled_from([0, 300, 8_190]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_the_answer_is_the_plain_roads_to_the_byte(
    kind: TableKind, rows: list[tuple[str, str, str]], before: int, bom: bytes
) -> None:
    table = [["x", "y", "z", ""]] * before + [[f"{note}{number}", *rest] for number, (*rest, note) in enumerate(rows)]
    table = [[f"{number}{row[0]}", *row[1:3], row[-1]] for number, row in enumerate(table)]
    data = bom + plain_text(["row_id", "query_image", "gallery_image", "note"], table).encode()
    read = kind.read(data, max_rows=10_000)
    pairs = find_photos(read, Shelf())
    embeddings = np.random.default_rng(0).standard_normal((len(pairs.photos), 8)).astype(np.float32)
    scores = score_pairs(pairs, embeddings)
    header, plain = plain_rows(data)
    numbers = zip(scores.cosine.tolist(), scores.similarity.tolist(), strict=True)
    if kind is SUBMISSION:
        columns = ["row_id", "similarity"]
        expected = [[row[0], f"{similarity:.9g}"] for (row, _), (_, similarity) in zip(plain, numbers, strict=True)]
    else:
        columns = [*header, "cosine", "similarity", "probability", "verdict"]
        expected = [
            [*row, f"{cosine:.9g}", f"{similarity:.9g}", "", ""]
            for (row, _), (cosine, similarity) in zip(plain, numbers, strict=True)
        ]
    assert "".join(kind.write(read, scores)) == plain_text(columns, expected)


def test_with_a_scale_each_pair_is_read_in_it() -> None:
    """Even odds at 0.6, and e^-6 and e^4 to one at 0 and 1."""
    curve = Logistic(slope=10, intercept=-6)
    scale = Scale.of(Calibration.fitted("0" * 12, curve, (0.8, 0.4), {}), None)
    table = BATCH.read(b"query_image,gallery_image\nx,x\nx,y\nx,z\n", max_rows=9)
    embeddings = np.array([[1, 0], [0.2, np.sqrt(0.96)], [-1, 0]], dtype=np.float32)
    lines = "".join(BATCH.write(table, score_pairs(find_photos(table, Shelf()), embeddings, scale))).splitlines()[1:]
    assert lines[0] == f"x,x,1,1,{1 / (1 + np.exp(-4)):.9g},same"
    assert lines[1].endswith(",uncertain")
    assert float(lines[1].split(",")[-2]) == pytest.approx(0.5, abs=1e-6)
    assert lines[2] == f"x,z,-1,0,{1 / (1 + np.exp(6)):.9g},different"


class TestPostprocessed:
    """What a manifest says is worth it, where that is asked for."""

    STEPS = Postprocess(model_version="0" * 12, flip=True, rerank=Rerank(k1=3, k2=2, weight=0.3))

    def test_by_the_matrix(self) -> None:
        table = SUBMISSION.read(b"row_id,query_image,gallery_image\n0,x,y\n1,z,x\n", max_rows=9)
        pairs = find_photos(table, Shelf())
        embeddings = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
        scores = score_pairs(pairs, embeddings, None, self.STEPS)
        expected = postprocess(embeddings, self.STEPS)
        assert scores.similarity.tolist() == [expected[0, 1], expected[2, 0]]
        assert scores.cosine.tolist() == pytest.approx([2 * expected[0, 1] - 1, 2 * expected[2, 0] - 1])

    def test_who_asks_gets_what_the_manifest_says(self, tiny_bundle: Path) -> None:
        plain = load_model(tiny_bundle)
        whole = replace(plain, manifest=plain.manifest.model_copy(update={"postprocess": self.STEPS}))
        for kind in (SUBMISSION, BATCH):
            assert (kind.steps(whole.manifest), kind.applied(whole.manifest)) == (None, None)
            assert kind.model(whole) is whole
        assert POSTPROCESSED.steps(whole.manifest) is self.STEPS
        assert POSTPROCESSED.applied(whole.manifest) == "flip,rerank(k1=3,k2=2,weight=0.3)"
        assert POSTPROCESSED.applied(plain.manifest) == "none"
        assert POSTPROCESSED.model(whole).version == whole.mirrored().version
        assert POSTPROCESSED.model(plain) is plain

    def test_too_many_photos(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.reid.postprocess.MAX_PHOTOS", 1)
        SUBMISSION.check(pairs_of("x,y\n"))
        with pytest.raises(RowLimitError, match="the table has 2 photos"):
            POSTPROCESSED.check(pairs_of("x,y\n"))


@pytest.mark.parametrize("kind", [BATCH, SUBMISSION], ids=lambda kind: kind.name)
def test_a_row_more_takes_less_than_200_bytes_more(kind: TableKind) -> None:
    """The CSV's own bytes, some 40 a row, included."""
    few, many = 20_000, 80_000
    assert (peak_bytes(kind, many) - peak_bytes(kind, few)) / (many - few) < 200


def peak_bytes(kind: TableKind, rows: int) -> int:
    """What reading, scoring and writing so many rows takes at most, the CSV included."""
    names = permutations([f"test_{number:04d}.png" for number in range(300)], 2)
    lines = [f"{row},{query},{gallery},rivière" for row, (query, gallery) in enumerate(islice(names, rows))]
    data = "\n".join(["row_id,query_image,gallery_image,note", *lines]).encode()
    embeddings = np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32)
    tracemalloc.start()
    try:
        table = kind.read(data, max_rows=rows)
        scores = score_pairs(find_photos(table, Shelf()), embeddings[: len(table.names)])
        assert sum(piece.count("\n") for piece in kind.write(table, scores)) == rows + 1
        return len(data) + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
