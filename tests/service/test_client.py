"""The Python client against the real application over sockets: what it sends, what it gives back."""

import io
import os
import subprocess
import sys
import tracemalloc
import zipfile
from contextlib import ExitStack, closing, nullcontext
from dataclasses import fields
from itertools import permutations
from pathlib import Path

import httpx2
import numpy as np
import pytest

from app import schemas
from app.client import (
    Client,
    InputError,
    Job,
    Model,
    ModelChangedError,
    ServerError,
    Similarity,
    Split,
    UnauthorizedError,
    images,
)
from app.client.sources import Source
from app.client.zips import stored_zip
from tests.reid.placed import save_placed
from tests.service.live import Live, ask, serving

FACES = pytest.mark.parametrize("face", ["sync", "async"])
PAIRS = b"query_image,gallery_image\n0.png,1.png\n2.png,0.png\n"
TEST = b"row_id,query_image,gallery_image\n7,0.png,1.png\n3,test/2.png,0.png\n"


@pytest.fixture(scope="module")
def plain(tiny_bundle, tmp_path_factory):
    """The address of a service with default settings."""
    with serving(tiny_bundle, tmp_path_factory.mktemp("state")) as service:
        yield service.url


@pytest.fixture
def live(tiny_bundle, tmp_path_factory):
    """`live(**settings)` -> a service of the test's own."""
    with ExitStack() as stack:
        yield lambda **values: stack.enter_context(serving(tiny_bundle, tmp_path_factory.mktemp("state"), **values))


@pytest.fixture
def folder(tmp_path, photo):
    """A folder with 0.png to 4.png, the last three in test/."""
    (tmp_path / "photos" / "test").mkdir(parents=True)
    for seed in range(5):
        (tmp_path / "photos" / ("test" if seed > 1 else "") / f"{seed}.png").write_bytes(photo(seed))
    return tmp_path / "photos"


def answer_of(url, path, part, table, photo):
    """What the service says to a request that httpx2 made."""
    files = [(part, ("t.csv", table)), *(("images", (f"{seed}.png", photo(seed))) for seed in range(5))]
    response = httpx2.post(url + path, files=files)
    assert response.status_code == 200, response.text
    return response


# Two photos, and many


@FACES
@pytest.mark.parametrize("given", ["path", "text", "bytes", "view", "file", "buffer", "pipe"])
def test_similarity_of_photos_given_in_any_way(plain, tiny_embedding, photo, folder, face, given):
    paths = [folder / "0.png", folder / "1.png"]
    pipes = []

    def made(path):
        if given == "pipe":
            read, write = os.pipe()
            os.write(write, path.read_bytes())
            os.close(write)
            pipes.append(os.fdopen(read, "rb"))
            return pipes[-1]
        makers = {
            "path": Path,
            "text": str,
            "bytes": Path.read_bytes,
            "view": lambda path: memoryview(path.read_bytes()),
            "file": lambda path: path.open("rb"),
            "buffer": lambda path: io.BytesIO(path.read_bytes()),
        }
        return makers[given](path)

    photos = [made(path) for path in paths]
    answer = ask(face, plain, lambda client: client.similarity(*photos))
    for thing in photos:
        if hasattr(thing, "close"):
            thing.close()
    cosine = float(tiny_embedding(photo(0)) @ tiny_embedding(photo(1)))
    assert answer.cosine == pytest.approx(cosine, abs=1e-5)
    assert answer.similarity == pytest.approx((cosine + 1) / 2, abs=1e-5)
    assert (answer.probability, answer.verdict) == (None, None)
    assert len(answer.model_version) == 12


@FACES
def test_embeddings_come_in_order_over_several_requests(live, tiny_embedding, photo, face):
    service, told = live(), []
    photos = [photo(seed) for seed in range(8)]
    split = Split(max_photos=3, at_once=2)
    found = ask(face, service.url, lambda client: client.embed(photos, split=split, progress=lambda *n: told.append(n)))
    assert (found.shape, found.dtype) == ((8, 512), np.float32)
    np.testing.assert_allclose(found, [tiny_embedding(data) for data in photos], atol=1e-5)
    assert service.paths() == ["/embed"] * 3
    assert told == [(3, 8, "running"), (6, 8, "running"), (8, 8, "running")]


def test_photos_are_split_by_bytes_as_well():
    sizes = [5, 5, 1, 20, 3, 3, 3, 3, 3]
    photos = [Source(str(size), size, lambda: iter(())) for size in sizes]
    groups = [[photo.size for photo in group] for group in Split(max_photos=4, max_bytes=10).groups(photos)]
    assert groups == [[5, 5], [1], [20], [3, 3, 3], [3, 3]]
    assert [len(group) for group in Split(max_photos=4, max_bytes=10**6).groups(photos)] == [4, 4, 1]


@FACES
def test_one_bad_photo_among_many_ends_all_and_is_named(plain, photo, face):
    photos = [photo(0), photo(1), photo(2)[:50], *(photo(seed) for seed in range(3, 9))]
    with pytest.raises(Exception, match=r"photos\[2\].*422 unreadable-image") as caught:
        ask(face, plain, lambda client: client.embed(photos, split=Split(max_photos=1, at_once=2)))
    assert type(caught.value).__name__ == "BadInputError"


def test_embeddings_of_two_models_are_not_mixed(plain, photo):
    with Client(plain) as client:
        version = client.model().model_version
        assert client.embed([photo(1)], model_version=version).shape == (1, 512)
        with pytest.raises(ModelChangedError, match=rf"({version}.*000000000000|000000000000.*{version}).*embed all"):
            client.embed([photo(1)], model_version="000000000000")


# Tables


IMAGES = {
    "folder": lambda folder: folder,
    "folder as text": str,
    "by name": lambda folder: {path.name: path.read_bytes() for path in folder.rglob("*.png")},
    "paths by name": lambda folder: {path.name: str(path) for path in folder.rglob("*.png")},
    "paths": lambda folder: list(folder.rglob("*.png")),
    "a generator": lambda folder: (path for path in folder.rglob("*.png")),
    "zip": lambda folder: folder.parent / "all.zip",
    "zip as bytes": lambda folder: (folder.parent / "all.zip").read_bytes(),
    "zip and path": lambda folder: [folder / "0.png", folder.parent / "rest.zip"],
    "open zip": lambda folder: (folder.parent / "all.zip").open("rb"),
    "open photo and zip": lambda folder: [io.BytesIO((folder.parent / "rest.zip").read_bytes()), folder / "0.png"],
}


@FACES
@pytest.mark.parametrize("given", IMAGES)
def test_images_in_any_form_give_the_same_scores(plain, photo, zipped, folder, face, given):
    names = ("0.png", "1.png", "test/2.png")
    (folder.parent / "all.zip").write_bytes(zipped({name: photo(seed) for seed, name in enumerate(names)}))
    (folder.parent / "rest.zip").write_bytes(zipped({name: photo(seed) for seed, name in enumerate(names) if seed}))
    expected = answer_of(plain, "/submission", "test_csv", TEST, photo)
    images = IMAGES[given](folder)
    with closing(images) if hasattr(images, "read") else nullcontext():
        scores = ask(face, plain, lambda client: client.submission(TEST, images=images))
    assert scores.content == scores.read() == expected.content
    assert scores.content.startswith(b"row_id,similarity\n7,")
    assert scores.model_version == expected.headers["x-model-version"]


def test_only_the_photos_that_a_table_names_are_sent(live, photo, folder):
    service = live()
    (folder / "large.png").write_bytes(bytes(10**6))
    with Client(service.url) as client:
        client.batch(PAIRS, folder)
    assert int(service.seen[-1][2]["content-length"]) < sum(len(photo(seed)) for seed in range(3)) + 2_000


def test_names_of_one_file_in_a_folder(plain, photo, folder):
    """`2.png` and `test/2.png` are one name to a service; a link has a name of its own."""
    (folder / "link.png").symlink_to("test/2.png")
    with Client(plain) as client:
        scores = client.batch([("2.png", "test/2.png"), ("link.png", "0.png"), ("2.png", "0.png")], folder)
        lines = scores.content.decode().splitlines()
        assert float(lines[1].split(",")[3]) > 0.99999
        assert lines[2].split(",")[2:] == lines[3].split(",")[2:]
        (folder / "2.png").write_bytes(photo(9))
        with pytest.raises(InputError, match="two different files in .* match; line 2: '2.png'"):
            client.batch([("2.png", "0.png")], folder)
        (folder / "train").mkdir()
        (folder / "train" / "3.png").write_bytes(photo(8))
        with pytest.raises(InputError, match="same name; .*; 'train/3.png' and 'test/3.png'"):
            client.batch([("train/3.png", "test/3.png")], folder)


def test_without_images_the_service_looks_below_its_own_root(live, photo, folder):
    service = live(image_root=folder)
    with Client(service.url) as client:
        scores = client.batch(PAIRS)
        assert scores.content == answer_of(service.url, "/similarity/batch", "pairs", PAIRS, photo).content


@FACES
@pytest.mark.parametrize("given", ["path", "bytes", "file", "rows", "generator"])
def test_a_table_in_any_form(plain, photo, folder, tmp_path, face, given):
    (tmp_path / "pairs.csv").write_bytes(PAIRS)
    rows = [("0.png", "1.png"), ["2.png", "0.png"]]
    makers = {"path": tmp_path / "pairs.csv", "bytes": PAIRS, "file": io.BytesIO(PAIRS), "rows": rows,
              "generator": (row for row in rows)}  # fmt: skip
    scores = ask(face, plain, lambda client: client.batch(makers[given], images=folder))
    assert scores.content == answer_of(plain, "/similarity/batch", "pairs", PAIRS, photo).content


def test_rows_of_a_submission_may_hold_numbers_and_names_that_need_quotes(plain, photo):
    odd = 'a, "b".png'
    with Client(plain) as client:
        scores = client.submission([(5, odd, "1.png"), (6, "1.png", odd)], {odd: photo(0), "1.png": photo(1)})
        expected = client.similarity(photo(0), photo(1)).similarity
    lines = scores.content.decode().splitlines()
    assert lines[0] == "row_id,similarity"
    assert [line.split(",")[0] for line in lines[1:]] == ["5", "6"]
    assert [float(line.split(",")[1]) for line in lines[1:]] == pytest.approx([expected] * 2, abs=1e-8)


@FACES
def test_too_many_photos_for_parts_go_as_a_zip_that_is_made_on_the_way(live, photo, folder, monkeypatch, face):
    service = live(max_files=2)
    monkeypatch.setattr(images, "MAX_PARTS", 2)
    table = [(f"{a}.png", f"{b}.png") for a, b in permutations(range(5), 2)]
    scores = ask(face, service.url, lambda client: client.batch(table, folder))
    assert "content-length" in service.seen[-1][2]
    text = "\n".join(["query_image,gallery_image", *map(",".join, table), ""]).encode()
    other = live()
    assert scores.content == answer_of(other.url, "/similarity/batch", "pairs", text, photo).content


@pytest.mark.parametrize("large", [False, True])
def test_the_zips_length_is_known_before_it_is_made(photo, monkeypatch, large):
    """Beyond 2 GiB, or 65,535 members, a zip's directory is written in another way; here beyond very little."""
    if large:
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 40_000)
    contents = {f"{seed}é.png": os.urandom(9_000 * (seed % 3)) for seed in range(7)}
    members = [Source(name, len(data), lambda data=data: iter([data[:5], data[5:]])) for name, data in contents.items()]
    made = stored_zip(members, "images.zip")
    data = b"".join(made.pieces())
    assert (made.size, made.is_repeatable) == (len(data), True)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {info.filename: archive.read(info) for info in archive.infolist()} == contents
    assert b"".join(made.pieces()) == data


@FACES
def test_a_large_zip_is_never_in_memory_whole(tmp_path, face):
    """128 MiB go to an application that throws them away; what Python holds meanwhile stays below 16 MiB."""

    async def sink(scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            return
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        headers = [(b"content-type", b"text/csv"), (b"x-model-version", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(64):
            await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
        await send({"type": "http.response.body"})

    with (tmp_path / "large.zip").open("wb") as file:
        file.write(b"PK")
        file.truncate(128 * 2**20)
    service, told = Live(sink), []
    tracemalloc.start()
    try:
        out, images = tmp_path / "out.csv", tmp_path / "large.zip"
        scores = ask(
            face,
            service.url,
            lambda client: client.submission(TEST, images, out=out, progress=lambda *now: told.append(now)),
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        service.stop()
    assert peak < 16 * 2**20
    assert scores.path == tmp_path / "out.csv"
    assert scores.path.stat().st_size == 64 * 2**20
    total = int(service.seen[0][2]["content-length"])
    assert int(scores.model_version) == total > 128 * 2**20
    assert told[-1] == (total, total, "sending")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


@FACES
def test_an_answer_goes_to_a_file_whole(plain, photo, folder, tmp_path, face):
    place = tmp_path / "answers"
    place.mkdir()
    (place / "real.csv").write_text("old")
    (place / "link.csv").symlink_to("real.csv")
    scores = ask(face, plain, lambda client: client.submission(TEST, folder, out=place / "link.csv"))
    expected = answer_of(plain, "/submission", "test_csv", TEST, photo).content
    assert (place / "real.csv").read_bytes() == scores.read() == expected
    assert (place / "link.csv").is_symlink()
    assert scores.content is None
    assert sorted(path.name for path in place.iterdir()) == ["link.csv", "real.csv"]


# The service itself


def test_fields_are_those_of_the_services_schemas():
    for mine, theirs in ((Similarity, schemas.Similarity), (Model, schemas.ModelInfo), (Job, schemas.JobStatus)):
        assert {field.name for field in fields(mine)} <= set(theirs.model_fields)


@FACES
def test_model_ready_and_reload(live, tiny_bundle, face):
    service = live(model=str(tiny_bundle), admin_key="admin", api_keys="user")
    model = ask(face, service.url, lambda client: client.model(), api_key="user")
    assert (model.name, model.embedding_dim, model.backbone) == ("tiny", 512, "tiny")
    assert model.metrics == {"id_map": 0.5}
    assert model.preprocess["size"] == [32, 48]
    assert ask(face, service.url, lambda client: client.reload(), api_key="admin") == model
    assert ask(face, service.url, lambda client: client.ready()) is True
    for key, status in (("user", 403), ("wrong", 401), (None, 401)):
        with pytest.raises(UnauthorizedError, match="Client\\(url, api_key=") as caught:
            ask(face, service.url, lambda client: client.reload(), api_key=key)
        assert caught.value.status == status


def test_a_key_is_sent_beside_the_password_of_a_proxy(live):
    service = live(api_keys="key")
    with Client(service.url.replace("//", "//me:secret@"), api_key="key") as client:
        client.model()
        assert "key" not in repr(client).replace("api_key", "")
    headers = service.seen[-1][2]
    assert headers["x-api-key"] == "key"
    assert headers["authorization"].startswith("Basic ")


@FACES
def test_an_explanation_adds_up_to_the_cosine(tmp_path, photo, face):
    bundle = save_placed(tmp_path / "placed")
    with serving(bundle, tmp_path / "state") as service:
        told = ask(face, service.url, lambda client: client.explain(photo(1), photo(2), links=3))
        drawn = ask(face, service.url, lambda client: client.explain_png(photo(1), photo(2), links=0, opacity=0.3))
        other = ask(face, service.url, lambda client: client.explain_png(photo(1), photo(2)))
        score = ask(face, service.url, lambda client: client.similarity(photo(1), photo(2)))
    assert len(told["links"]) == 3
    for side in ("query", "gallery"):
        assert np.sum(told[side]["grid"]) == pytest.approx(score.cosine, abs=1e-4)
    assert drawn[:8] == other[:8] == b"\x89PNG\r\n\x1a\n"
    assert drawn != other


@FACES
def test_explaining_with_a_model_that_cannot(plain, photo, face):
    """The tiny bundle has no `places`."""
    for call in (
        lambda client: client.explain(photo(0), photo(1)),
        lambda client: client.explain_png(photo(0), photo(1)),
    ):
        with pytest.raises(ServerError) as caught:
            ask(face, plain, call)
        assert caught.value.status == 501


def test_without_httpx2_a_sentence_says_what_to_do():
    code = "import sys; sys.modules['httpx2'] = None\nimport app.client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 1
    assert "ImportError: the Python client needs httpx2, which is not installed here: pip install" in done.stderr


def test_the_client_needs_nothing_of_the_server():
    code = "import sys, app.client; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    loaded = set(done.stdout.split())
    assert not loaded & {"onnxruntime", "fastapi", "starlette", "uvicorn", "torch", "PIL", "app.errors", "app.settings"}
    assert "app.client.sync" in loaded


# What cannot be sent


@pytest.fixture
def offline():
    """A client of a place where nobody is: whatever it says, it says before it asks."""
    with Client("http://127.0.0.1:9") as client:
        yield client


def test_photos_that_cannot_be_sent(offline, tmp_path):
    for photo, words in (
        (tmp_path / "none.png", r"none.png' cannot be read: no such file"),
        (str(tmp_path), "is a folder or a device; a file is needed"),
        ("a\0b.png", "cannot be read: embedded null"),
        (7, "query_image is a int; give a path, a file's bytes or an open file"),
        (io.StringIO("text"), "the file was opened as text; open it in binary mode|was opened as text"),
    ):
        with pytest.raises(InputError, match=words):
            offline.similarity(photo, b"x")
    with pytest.raises(InputError, match="there are no photos"):
        offline.embed([])
    for one in ("a.png", b"x", Path("a.png"), io.BytesIO()):
        with pytest.raises(InputError, match=r"make a list: \[photo\]"):
            offline.embed(one)


def test_tables_that_cannot_be_sent(offline):
    for table, words in (
        ([("a.png",)], r"row 1 is \"\('a.png',\)\"; every row is a query_image, a gallery_image"),
        (["ab"], "row 1 is"),
        (7, "the table is a int"),
        ("none.csv", "'none.csv' cannot be read"),
    ):
        with pytest.raises(InputError, match=words):
            offline.batch(table)


def test_images_that_cannot_be_sent(offline, folder, photo):
    for given, words in (
        ([photo(0)], r"images\[0\] has no name"),
        (photo(0), "images as bytes are a zip; give single photos by name"),
        (7, "images are a int"),
        ([folder / "0.png", folder / "0.png"], "same name; .*; '0.png' and '0.png'"),
        ({"0.png": photo(0), "test/0.png": photo(1)}, "same name; .*; '0.png' and 'test/0.png'"),
        ({"../a.png": photo(0)}, r"names that no photo can be sent under; .*'../a.png'"),
        ({"\udc80.png": photo(0)}, "names that no photo can be sent under"),
        ([folder / "none.png"], "none.png' cannot be read"),
        ([folder / "test"], "is a folder"),
    ):
        with pytest.raises(InputError, match=words):
            offline.batch(PAIRS, given)


def test_a_folder_that_lacks_photos_is_told_by_line_before_anything_is_sent(offline, folder):
    with pytest.raises(InputError) as caught:
        offline.batch([("0.png", "no.png"), ("neither.png", "0.png")], folder)
    assert caught.value.problems == ("line 2: 'no.png'", "line 3: 'neither.png'")
    assert str(caught.value).startswith(f"photos that are not in {folder}; line 2: 'no.png'")
    with pytest.raises(InputError, match="pairs: 1 problem; line 1: the column gallery_image is missing"):
        offline.batch(b"query_image\n0.png\n", folder)


def test_a_stream_without_a_length_cannot_be_zipped(offline, monkeypatch):
    monkeypatch.setattr(images, "MAX_PARTS", 0)
    read, write = os.pipe()
    os.close(write)
    with os.fdopen(read, "rb") as pipe, pytest.raises(InputError, match="is a stream without a length"):
        offline.batch(PAIRS, [pipe])


def test_places_where_no_answer_can_be_written(offline, tmp_path):
    for out, words in (
        (tmp_path / "no" / "s.csv", "cannot be written: no such file or directory; name another file"),
        (tmp_path, "is a folder; name a file in it"),
    ):
        with pytest.raises(InputError, match=words):
            offline.submission(TEST, out=out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: Client("127.0.0.1:8000"),
        lambda: Client("ftp://a"),
        lambda: Client("http://"),
        lambda: Client("http://a/?x=1"),
        lambda: Client("http://a:port"),
        lambda: Client(7),
        lambda: Client("http://a", api_key="with space"),
        lambda: Split(max_photos=0),
    ],
)
def test_clients_that_cannot_be(make):
    with pytest.raises(InputError):
        make()


@FACES
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: os.truncate(path, 10), "'.*0.png' changed while it was being sent; ask again"),
        (lambda path: os.truncate(path, 10**6), "'.*0.png' changed while it was being sent; ask again"),
        (lambda path: path.unlink(missing_ok=True), "'.*0.png' cannot be read: no such file"),
    ],
)
def test_a_file_that_changes_while_it_is_sent(plain, folder, face, change, words):
    """Its length was announced, and the service would wait for the rest."""
    (folder / "first.png").write_bytes(bytes(2**20))
    photos = {"first.png": folder / "first.png", "0.png": folder / "0.png"}
    with pytest.raises(InputError, match=words):
        ask(face, plain, lambda client: client.batch(PAIRS, photos, progress=lambda *_: change(folder / "0.png")))
    assert ask(face, plain, lambda client: client.ready())


def test_photos_too_large_for_a_zip(offline, folder, monkeypatch):
    monkeypatch.setattr(images, "MAX_PARTS", 2)
    with (folder / "large.png").open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(InputError, match="'large.png' has 1073741825 bytes; a photo has 1073741824 at most"):
        offline.batch(PAIRS, sorted(folder.rglob("*.png")))
