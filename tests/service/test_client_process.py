"""The Python client and a real server process: the examples in its docstrings, and a kill -9 during a job."""

import doctest
import importlib
import pkgutil

import pytest

from app import client as package
from app.client import Client
from tests.service.live import Relay

ADDRESS = "http://127.0.0.1:8000"


def examples():
    """The doctests of all the client's modules."""
    names = [
        package.__name__,
        *(f"{package.__name__}.{found.name}" for found in pkgutil.iter_modules(package.__path__)),
    ]
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for name in names for test in finder.find(importlib.import_module(name)) if test.examples]


def test_the_examples_in_the_docstrings(server, photo, tmp_path, monkeypatch):
    address = server()
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate(("a.jpg", "b.jpg", "photos/a.jpg", "photos/b.jpg")):
        (tmp_path / name).write_bytes(photo(seed % 2))
    (tmp_path / "test.csv").write_text("row_id,query_image,gallery_image\n0,a.jpg,b.jpg\n1,b.jpg,a.jpg\n")
    monkeypatch.chdir(tmp_path)
    found = examples()
    assert {test.name.rpartition(".")[2] for test in found} >= {
        "Client", "AsyncClient", "similarity", "embed", "batch", "submission", "start_submission", "model", "ready"
    }  # fmt: skip
    said = []
    with Client(address) as client:
        for test in found:
            for example in test.examples:
                example.source = example.source.replace(ADDRESS, address)
            test.globs = {"client": client}
            doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("as_job", [False, True])
def test_one_photo_more_than_a_real_service_takes_as_parts(server, photo, as_job):
    """501 photos: sent as a zip, to a service that takes 500 files and the CSV."""
    address = server(JAGUAR_MAX_FILES="500")
    names = [f"{number}.png" for number in range(501)]
    told = []
    with Client(address) as client:
        scores = client.batch(
            zip(names, names[1:] + names[:1], strict=True),
            {name: photo(place % 7) for place, name in enumerate(names)},
            as_job=as_job,
            progress=lambda *now: told.append(now),
        )
    assert scores.content.count(b"\n") == 502
    assert told[-1][:2] == ((501, 501) if as_job else (told[-1][1], told[-1][1]))


def test_a_server_killed_in_the_middle_of_a_job(server, draw, encode, tmp_path):
    """kill -9, and another process over the same folder: the client waits, and gets the answer of an unbroken run."""
    environment = {"JAGUAR_STATE": str(tmp_path / "state"), "JAGUAR_CACHE": "off"}
    large = encode(draw(1, size=(1600, 1200)), "JPEG", quality=60)
    photos = {f"{number}.jpg": large for number in range(240)}
    names = list(photos)
    rows = list(zip(names, names[1:] + names[:1], strict=True))
    relay = Relay(int(server(**environment).rpartition(":")[2]))
    told = []

    def kill(done, total, state):
        told.append((done, total, state))
        if state == "running" and done > 0 and len(server.processes) == 1:
            server.processes[0].kill()
            server.processes[0].wait()
            relay.target = int(server(**environment).rpartition(":")[2])

    try:
        with Client(relay.url) as client:
            scores = client.batch(
                rows, photos, out=tmp_path / "pairs.csv", as_job=True, progress=kill, delete_after=True
            )
            expected = client.batch(rows[:3], photos)
    finally:
        relay.close()
    assert len(server.processes) == 2
    lines = (tmp_path / "pairs.csv").read_bytes().splitlines()
    assert len(lines) == 241
    assert lines[:4] == expected.content.splitlines()
    assert told[-1] == (240, 240, "done")
    assert scores.model_version == expected.model_version
    assert [path.name for path in tmp_path.iterdir() if ".part" in path.name] == []
