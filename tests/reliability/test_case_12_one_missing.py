"""Case 12: a whole competition, but for one photo."""

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from itertools import pairwise, permutations

import pytest
from PIL import Image

from tests.reliability.harness import Server
from tests.reliability.pictures import encoded, noise

PHOTOS, SIZE = 371, (48, 32)
NAMES = [f"test_{number:04d}.png" for number in range(1, PHOTOS + 1)]
# The last one in the order of the table, so that whoever looks only when its turn comes has done all others by then.
VICTIM = NAMES[-1]


@pytest.fixture(scope="module")
def photos() -> dict[str, bytes]:
    return {name: encoded(Image.fromarray(noise(seed, SIZE))) for seed, name in enumerate(NAMES, 5_000)}


def table(pairs: Iterable[tuple[str, str]]) -> str:
    rows = (f"{row},{one},{other}\n" for row, (one, other) in enumerate(pairs))
    return "row_id,query_image,gallery_image\n" + "".join(rows)


@pytest.fixture(scope="module")
def _uncached(lasting_servers) -> Server:
    return lasting_servers(JAGUAR_CACHE="off")


@pytest.fixture
def server(_uncached) -> Iterator[Server]:
    """Without a cache: a photo that it knew would need no forward pass and hide one too many."""
    yield _uncached
    _uncached.check_unharmed()


def submit(server, table: str, photos: dict[str, bytes]):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in photos.items():
            archive.writestr(f"test/test/{name}", data)
    return server.post("/submission", files=[("test_csv", ("t.csv", table)), ("images", ("t.zip", buffer.getvalue()))])


def spoilt(what: str, photos: dict[str, bytes]) -> dict[str, bytes]:
    data = photos[VICTIM]
    changed = {
        "missing": {},
        "cut short": {VICTIM: data[: len(data) * 2 // 3]},
        "empty": {VICTIM: b""},
        "no picture": {VICTIM: b"<html>404</html>"},
        "a changed byte": {VICTIM: data[:-40] + bytes([data[-40] ^ 0xFF]) + data[-39:]},
    }
    return {**{name: kept for name, kept in photos.items() if name != VICTIM}, **changed[what]}


@pytest.mark.parametrize("what", ["missing", "cut short", "empty", "no picture", "a changed byte"])
def test_case_12_one_of_371(server, photos, what, seen):
    before = server.embedded()
    response = submit(server, table(pairwise(NAMES)), spoilt(what, photos))
    forwards = server.embedded() - before
    seen(f"{what}: {response.status_code}, named: {VICTIM in response.text}, {forwards} forwards")
    assert response.status_code == (415 if what == "no picture" else 422), response.text
    assert VICTIM in response.text
    assert forwards == 0


def test_case_12_all_there(server, photos, seen):
    """371 x 370 ordered pairs."""
    before = server.embedded()
    response = submit(server, table(permutations(NAMES, 2)), photos)
    assert response.status_code == 200, response.text
    rows = list(csv.reader(io.StringIO(response.text)))
    assert rows[0] == ["row_id", "similarity"]
    assert [row[0] for row in rows[1:]] == [str(number) for number in range(PHOTOS * (PHOTOS - 1))]
    assert server.embedded() - before == PHOTOS
    seen(f"all there: 200, {len(rows) - 1} rows, {PHOTOS} forwards")
