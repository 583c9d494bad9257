"""The commands with `--url`: what they answer without, and every way in which a service says no."""

import socket
from itertools import permutations

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.cli.remote import RemoteEngine
from app.client import ConnectionFailedError
from tests.reid.placed import save_placed
from tests.service.cli import ask, ask_bytes, python
from tests.service.live import Live, raw, serving


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    return save_placed(tmp_path_factory.mktemp("store") / "placed")


@pytest.fixture(scope="module")
def photos(tmp_path_factory, photo):
    """A folder: 0.png to 3.png, test.csv over them, and keys."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(4):
        (folder / f"{seed}.png").write_bytes(photo(seed))
    rows = [f"{row},{query}.png,{gallery}.png" for row, (query, gallery) in enumerate(permutations(range(4), 2))]
    (folder / "test.csv").write_text("\n".join(["row_id,query_image,gallery_image", *rows, ""]))
    (folder / "key").write_text("geheim\n")
    (folder / "none").write_text("\n")
    return folder


@pytest.fixture(scope="module")
def live(placed, photos, tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    with serving(placed, state, image_root=photos, api_keys=("geheim",), max_files=3) as service:
        yield service


@pytest.fixture
def url(live):
    """The words that ask it."""
    return "--url", live.url, "--api-key", "geheim"


@pytest.fixture
def env(placed):
    return {"JAGUAR_MODEL": str(placed)}


class TestTheSameAnswers:
    def test_similarity(self, env, url, photos):
        asked = ("similarity", photos / "0.png", photos / "1.png")
        assert ask(*asked, "--json", *url).json == ask(*asked, "--json", **env).json
        assert ask(*asked, *url).out == ask(*asked, **env).out

    def test_explain(self, env, url, photos, tmp_path):
        asked = ("similarity", photos / "0.png", photos / "1.png", "--json", "--explain")
        here, there = ask(*asked, tmp_path / "a.png", **env), ask(*asked, tmp_path / "b.png", *url)
        assert here == there
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    def test_embed(self, env, url, photos, tmp_path):
        asked = ("embed", photos / "0.png", photos / "2.png", "--out")
        assert ask(*asked, tmp_path / "a.npy", **env).code == ask(*asked, tmp_path / "b.npy", *url).code == 0
        assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()

    def test_rank(self, env, url, photos, tmp_path):
        (tmp_path / "query.png").write_bytes((photos / "0.png").read_bytes())
        for number in (1, 2):
            (tmp_path / f"{number}.png").write_bytes((photos / f"{number}.png").read_bytes())
        asked = ("rank", tmp_path / "query.png", "--gallery", tmp_path, "--json")
        assert ask(*asked, *url) == ask(*asked, **env)

    @pytest.mark.parametrize("named", [False, True])
    def test_a_table_whose_photos_are_there_or_here(self, env, url, photos, tmp_path, live, named):
        (tmp_path / "pairs.csv").write_text("query_image,gallery_image\n0.png,1.png\n1.png,0.png\n")
        for kind, table in (("batch", tmp_path / "pairs.csv"), ("submission", photos / "test.csv")):
            if named and kind == "submission":
                continue  # four photos are more than this service takes at once, which is another test
            images = ("--images", photos) if named else ()
            here = ask_bytes(kind, table, "--images", photos, **env)
            assert ask_bytes(kind, table, *images, *url) == here
            assert ask(kind, table, *images, "--out", tmp_path / "out.csv", *url).code == 0
            assert (tmp_path / "out.csv").read_bytes() == here
        methods = [(method, path) for method, path, _ in live.seen if path.startswith("/jobs/")]
        assert methods[-1][0] == "DELETE"  # nothing of it stays there

    def test_model(self, env, url):
        assert ask("model", "show", "--json", *url).json == ask("model", "show", "--json", **env).json
        assert ask("model", "show", *url).out == ask("model", "show", **env).out

    def test_a_key_from_a_file(self, live, photos):
        asked = ("model", "show", "--url", live.url, "--api-key")
        assert ask(*asked, f"@{photos / 'key'}").code == 0
        assert "holds no key" in ask(*asked, f"@{photos / 'none'}").err
        assert "cannot be read" in ask(*asked, f"@{photos / 'nokey'}").err

    def test_settings_do_not_matter(self, url, photos):
        assert ask("model", "show", *url, JAGUAR_MODEL="nowhere", JAGUAR_MAX_FILE="x").code == 0


class TestNo:
    def test_no_key(self, live):
        ended = ask("model", "show", "--url", live.url)
        assert (ended.code, ended.out) == (2, "")
        assert "(401 unauthorized, request_id " in ended.err
        assert "--api-key" in ended.err

    def test_a_photo_that_is_none(self, url, photos):
        ended = ask("similarity", photos / "0.png", photos / "test.csv", *url)
        assert (ended.code, "415 unsupported-format" in ended.err) == (2, True)

    def test_too_many_photos(self, url, photos, tmp_path):
        ended = ask("embed", photos, "--json", *url)
        assert (ended.code, "413 too-many-parts" in ended.err, "raise the limit" in ended.err) == (2, True, True)

    def test_findings_are_listed(self, url, photos, tmp_path):
        (tmp_path / "pairs.csv").write_text("query_image,gallery_image\n0.png,8.png\n9.png,0.png\n")
        for images in ((), ("--images", photos)):
            ended = ask("batch", tmp_path / "pairs.csv", *images, *url)
            assert ended.code == 2
            assert "line 2: '8.png'\n  line 3: '9.png'\n" in ended.err

    def test_a_model_without_places(self, tiny_bundle, photos, tmp_path):
        with serving(tiny_bundle, tmp_path / "state") as service:
            asked = ("similarity", photos / "0.png", photos / "1.png", "--explain", tmp_path / "a.png")
            ended = ask(*asked, "--url", service.url)
        assert (ended.code, "501 no-places" in ended.err, "another one may" in ended.err) == (2, True, True)
        assert not (tmp_path / "a.png").exists()

    def test_nobody_there(self, photos, monkeypatch):
        monkeypatch.setattr("app.client.retries._FIRST_S", 0.001)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        ended = ask("model", "show", "--url", f"http://127.0.0.1:{port}")
        assert (ended.code, ended.out) == (3, "")
        assert "cannot be reached (" in ended.err
        assert "Errno" not in ended.err

    def test_another_program_there(self):
        answer = b"HTTP/1.1 404 X\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<ht>"
        with raw(answer) as address:
            ended = ask("model", "show", "--url", address)
        assert (ended.code, ended.out) == (3, "")
        assert "not the service, answered 404 (Not Found)\n  Is the address right" in ended.err
        assert "the service says" not in ended.err

    @pytest.mark.parametrize(("status", "told"), [(500, "500 internal-error"), (429, "429 internal-error")])
    def test_a_service_that_cannot(self, status, told, monkeypatch):
        monkeypatch.setattr("app.client.retries._FIRST_S", 0.001)
        body = {"type": "urn:x:internal-error", "title": "t", "status": status, "detail": "It broke.", "problems": []}

        async def broken(request):
            return JSONResponse(body, status, media_type="application/problem+json")

        service = Live(Starlette(routes=[Route("/model", broken)]))
        try:
            ended = ask("model", "show", "--url", service.url)
        finally:
            service.stop()
        assert (ended.code, f"the service says: It broke ({told})" in ended.err) == (3, True)

    def test_something_else_lives_there(self):
        async def page(request):
            return JSONResponse({"hello": "world"})

        service = Live(Starlette(routes=[Route("/model", page)]))
        try:
            ended = ask("model", "show", "--url", service.url)
        finally:
            service.stop()
        assert (ended.code, "is not what a Model" in ended.err) == (3, True)

    @pytest.mark.parametrize("url", ["here", "ftp://a.org", "http://"])
    def test_an_address_that_is_none(self, url):
        ended = ask("model", "show", "--url", url)
        assert (ended.code, "is no address" in ended.err) == (2, True)

    def test_a_key_without_an_address(self, photos):
        for asked in (("model", "show"), ("model", "show", "x"), ("embed", photos, "--json")):
            ended = ask(*asked, "--api-key", "x")
            assert (ended.code, "--api-key goes with --url" in ended.err) == (2, True)

    def test_a_service_that_goes_away_keeps_the_job(self, url, live, photos, monkeypatch):
        def broken(self, job_id, **_):
            raise ConnectionFailedError("gone", job_id)

        monkeypatch.setattr("app.client.Client.wait", broken)
        ended = ask("submission", photos / "test.csv", *url)
        assert (ended.code, f"{live.url}/jobs/" in ended.err) == (3, True)

    def test_ctrl_c_takes_the_job_back(self, url, live, photos, monkeypatch):
        def interrupted(self, job_id, **_):
            raise KeyboardInterrupt

        monkeypatch.setattr("app.client.Client.wait", interrupted)
        ended = ask("submission", photos / "test.csv", *url)
        assert (ended.code, ended.err) == (130, "jaguar-reid: interrupted; no file was written\n")
        method, path, _ = live.seen[-1]
        assert (method, path.startswith("/jobs/")) == ("DELETE", True)

    def test_without_the_http_client(self):
        code = "import sys; sys.modules['httpx2'] = None; from app.cli import app; app(['model', 'show', '--url', 'x'])"
        ended = python(code)
        assert ended.returncode == 2
        assert "pip install 'httpx2" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_progress_is_told_in_words(live, photos):
    told = []
    with RemoteEngine.connect(live.url, "geheim") as engine, (photos / "out.csv").open("wb") as file:
        engine.score("submission", photos / "test.csv", None, file, lambda *now: told.append(now))
    assert told[0][2] == "sending"
    assert told[-1] == (4, 4, "done")
    assert {state for _, _, state in told} <= {"sending", "waiting", "photos", "done"}
