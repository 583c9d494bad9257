"""`POST /similarity/explain`: the engine's numbers over HTTP, the drawing, what is refused; and how threads run it."""

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from app.errors import ForwardTimeoutError
from app.reid.embedder import load_model
from app.reid.explain import explain, photo_box
from app.reid.overlay import Panel, draw_overlay, thumbnail
from app.reid.preprocess import decode_image, fit
from app.workers import Workers
from tests.reid.placed import GRID, PAD, SQUASH, save_placed

CALL = "/similarity/explain"
PNG = {"Accept": "image/png"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(save_placed(tmp_path_factory.mktemp("store") / "placed"))


@pytest.fixture(scope="module")
def padded(tmp_path_factory):
    return load_model(save_placed(tmp_path_factory.mktemp("store") / "padded", PAD))


@pytest.fixture
def files(photo):
    return {"query_image": photo(1), "gallery_image": photo(2)}


class TestAnswers:
    def test_it_is_the_engines(self, service, model, files):
        body = service(model=model).post(CALL, files=files).json()
        expected = explain(model.embedder, *(model.embedder.prepare(data) for data in files.values()))
        scores = {"model_version", "cosine", "similarity", "probability", "verdict"}
        assert set(body) == {*scores, "grid_shape", "query", "gallery", "links"}
        assert (body["probability"], body["verdict"]) == (None, None)
        assert body["model_version"] == model.version
        assert body["cosine"] == expected.cosine
        assert body["similarity"] == (expected.cosine + 1) / 2
        assert body["grid_shape"] == list(GRID)
        for side, values in (("query", expected.query), ("gallery", expected.gallery)):
            assert body[side]["grid"] == values.tolist()
            assert sum(map(sum, body[side]["grid"])) == pytest.approx(body["cosine"], abs=1e-6)
            assert body[side]["size"] == [120, 80]
            assert body[side]["box"] == [0, 0, 6, 4]
            assert body[side]["coverage"] == np.ones(GRID).tolist()
        assert len(body["links"]) == 12
        for told, link in zip(body["links"], expected.links, strict=True):
            assert told["value"] == link.value
            for side, place in (("query", link.query), ("gallery", link.gallery)):
                middle = ((place[1] + 0.5) / 6, (place[0] + 0.5) / 4)
                assert (told[side]["row"], told[side]["column"]) == place
                assert (told[side]["x"], told[side]["y"]) == pytest.approx(middle)

    def test_the_score_is_that_of_similarity(self, service, model, files):
        client = service(model=model)
        plain, explained = client.post("/similarity", files=files), client.post(CALL, files=files)
        for field in ("cosine", "similarity", "model_version"):
            assert plain.json()[field] == explained.json()[field]
        assert explained.headers["x-model-version"] == model.version
        assert explained.headers["vary"] == "Accept"
        assert {entry.split(";")[0] for entry in explained.headers["server-timing"].split(", ")} == {
            "admission", "upload", "queue", "total"
        }  # fmt: skip

    def test_padding_is_told(self, service, padded, draw, encode):
        square = encode(draw(1, size=(90, 90)), "JPEG")
        body = (
            service(model=padded)
            .post(CALL, params={"links": 64}, files={"query_image": square, "gallery_image": square})
            .json()
        )
        assert body["query"]["box"] == [1, 0, 5, 4]
        assert body["query"]["coverage"] == [[0, 1, 1, 1, 1, 0]] * 4
        ends = [link["query"] for link in body["links"]]
        assert {end["x"] is None for end in ends} == {True, False}
        assert all((end["x"] is None) == (end["column"] in {0, 5}) for end in ends)
        assert all((end["x"] is None) == (end["y"] is None) for end in ends)

    def test_a_camera_held_sideways(self, service, padded, draw, encode):
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = encode(draw(1, size=(120, 60)), "JPEG", exif=exif)
        body = service(model=padded).post(CALL, files={"query_image": turned, "gallery_image": turned}).json()
        assert body["query"]["size"] == [60, 120]
        assert body["query"]["box"] == [2, 0, 4, 4]

    @pytest.mark.parametrize("count", [0, 1, 64])
    def test_links_as_many_as_asked_for(self, service, model, files, count):
        body = service(model=model).post(CALL, params={"links": count}, files=files).json()
        assert len(body["links"]) == count

    def test_a_photo_and_itself(self, service, model, photo):
        body = service(model=model).post(CALL, files={"query_image": photo(1), "gallery_image": photo(1)}).json()
        assert body["cosine"] == pytest.approx(1.0, abs=1e-6)
        assert body["query"]["grid"] == body["gallery"]["grid"]


class TestDrawing:
    def expected(self, model, files, **options):
        pictures = [decode_image(data, model.embedder.spec) for data in files.values()]
        explanation = explain(model.embedder, *(fit(picture, SQUASH) for picture in pictures))
        panels = [Panel(thumbnail(picture, SQUASH), photo_box(picture.size, SQUASH, GRID)) for picture in pictures]
        return draw_overlay(explanation, *panels, **options)

    def test_it_is_the_engines(self, service, model, files):
        client = service(model=model)
        response = client.post(CALL, files=files, headers=PNG)
        assert response.headers["content-type"] == "image/png"
        assert response.headers["vary"] == "Accept"
        assert response.headers["x-model-version"] == model.version
        assert response.content == self.expected(model, files)
        assert Image.open(io.BytesIO(response.content)).size == (512 * 2 + 16, 341 + 40)
        pale = client.post(CALL, params={"opacity": 0.1}, files=files, headers=PNG)
        assert pale.content == self.expected(model, files, opacity=0.1)

    def test_what_is_accepted_decides(self, service, model, files):
        client = service(model=model)
        for accept in ("image/png", "image/webp, Image/PNG;q=0.8"):
            assert client.post(CALL, files=files, headers={"Accept": accept}).content.startswith(b"\x89PNG")
        for accept in ("*/*", "application/json", "image/*", ""):
            answer = client.post(CALL, files=files, headers={"Accept": accept})
            assert answer.headers["content-type"] == "application/json"

    def test_cut_outs(self, service, model, draw, encode):
        """The hidden colour does not show."""
        cut_out = draw(1, mode="RGBA")
        cut_out.putalpha(0)
        files = {"query_image": encode(cut_out), "gallery_image": encode(cut_out)}
        answer = service(model=model).post(CALL, params={"opacity": 0, "links": 0}, files=files, headers=PNG)
        picture = np.asarray(Image.open(io.BytesIO(answer.content)))
        assert (picture[:341, :512] == SQUASH.background).all()


class TestRefusals:
    def test_a_bundle_without_places(self, service, files, assert_problem):
        body = assert_problem(service().post(CALL, files=files), 501, "no-places")
        assert "'tiny'" in body["detail"]
        assert_problem(service().post(CALL, files=files, headers=PNG), 501, "no-places")

    @pytest.mark.parametrize("accept", ["application/json", "image/png"])
    @pytest.mark.parametrize("part", ["query_image", "gallery_image"])
    def test_a_photo_that_cannot_be_read(self, service, model, files, assert_problem, part, accept):
        files[part] = ("häßlich.png", files[part][:200])
        answer = service(model=model).post(CALL, files=files, headers={"Accept": accept})
        body = assert_problem(answer, 422, "unreadable-image")
        assert body["detail"] == f"{part} 'häßlich.png': the file is damaged or cut short"

    def test_the_first_of_two_is_named(self, service, model, assert_problem):
        body = assert_problem(
            service(model=model).post(CALL, files={"query_image": b"GIF89a", "gallery_image": b""}),
            415,
            "unsupported-format",
        )
        assert body["detail"].startswith("query_image")

    def test_limits(self, service, model, files, assert_problem):
        limited = replace(model, embedder=replace(model.embedder, max_pixels=100))
        assert_problem(service(model=limited).post(CALL, files=files), 422, "too-many-pixels")
        assert_problem(service(model=model, max_image_bytes=100).post(CALL, files=files), 413, "file-too-large")
        assert_problem(service(model=model, max_images_body_bytes=100).post(CALL, files=files), 413, "body-too-large")

    @pytest.mark.parametrize(
        ("params", "sentence"),
        [
            ({"links": 65}, "links: Input should be less than or equal to 64"),
            ({"links": -1}, "links: Input should be greater than or equal to 0"),
            ({"links": "many"}, "links: Input should be a valid integer, unable to parse string as an integer"),
            ({"opacity": 1.5}, "opacity: Input should be less than or equal to 1"),
            ({"opacity": "nan"}, "opacity: Input should be "),
        ],
    )
    def test_parameters_have_ranges(self, service, model, files, assert_problem, params, sentence):
        body = assert_problem(service(model=model).post(CALL, params=params, files=files), 422, "invalid-request")
        assert len(body["problems"]) == 1
        assert body["problems"][0].startswith(sentence)

    def test_what_the_call_does_not_know(self, service, model, files, assert_problem):
        answer = service(model=model).post(CALL, params={"link": 3}, files=files)
        assert_problem(answer, 422, "invalid-request")
        assert_problem(service(model=model).post(CALL), 415, "unsupported-media-type")

    def test_places_that_do_not_add_up_are_nobodys_business(self, service, tmp_path, files, assert_problem):
        wrong = load_model(save_placed(tmp_path / "wrong", factor=0.5))
        body = assert_problem(service(model=wrong).post(CALL, files=files), 500, "internal-error")
        assert "add up" not in str(body)

    def test_a_file_that_cannot_be_read(self, service, model, files, assert_problem, monkeypatch):
        def gone(photo):
            raise OSError(5, "input/output error", "/tmp/secret")

        monkeypatch.setattr("app.uploads.UploadedPhoto.read", gone)
        body = assert_problem(service(model=model).post(CALL, files=files), 422, "unreadable-image")
        assert body["detail"] == "query_image 'upload': the file cannot be read"


class Gated:
    """A runtime that waits for a gate to open, and counts who came."""

    has_places = True

    def __init__(self, runtime):
        self.runtime = runtime
        self.entered, self.gate, self.runs = threading.Event(), threading.Event(), 0

    def run_with_places(self, images):
        self.runs += 1
        self.entered.set()
        assert self.gate.wait(20)
        return self.runtime.run_with_places(images)

    def run(self, images):
        return self.runtime.run(images)


@pytest.fixture
def gated(model):
    runtime = Gated(model.embedder.runtime)
    yield runtime
    runtime.gate.set()


def test_it_takes_a_place_and_holds_nobody_up(service, model, gated, files, assert_problem):
    client = service(model=replace(model, embedder=replace(model.embedder, runtime=gated)), max_inflight=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, CALL, files=files)
        assert gated.entered.wait(20)
        assert_problem(client.post(CALL, files=files), 503, "busy")
        assert client.get("/health/live").status_code == 200
        gated.gate.set()
        assert first.result().status_code == 200


def test_a_network_that_does_not_answer(service, model, gated, files, assert_problem):
    stuck = replace(model, embedder=replace(model.embedder, runtime=gated))
    client = service(model=stuck, forward_timeout_s=0.2)
    assert_problem(client.post(CALL, files=files), 503, "timeout")
    assert gated.runs == 1
    gated.gate.set()
    assert client.post(CALL, files=files).status_code == 200


def test_openapi_tells_all(service):
    call = service().get("/openapi.json").json()["paths"][CALL]["post"]
    assert set(call["responses"]) >= {"200", "413", "415", "422", "500", "501", "503"}
    assert set(call["responses"]["200"]["content"]) == {"application/json", "image/png"}
    assert list(call["responses"]["501"]["content"]["application/problem+json"]["examples"]) == ["no-places"]
    assert {parameter["name"]: parameter["schema"].get("maximum") for parameter in call["parameters"]} == {
        "links": 64, "opacity": 1
    }  # fmt: skip
    others = service().get("/openapi.json").json()["paths"]["/similarity"]["post"]
    assert "501" not in others["responses"]


class TestRun:
    """`Workers.run`, which explanations share with whatever else computes."""

    @staticmethod
    def through(model, scenario, timeout_s=30.0):
        async def run():
            workers = Workers(model, timeout_s=timeout_s)
            watch = asyncio.create_task(workers.watch(600, lambda: None))
            try:
                return await scenario(workers)
            finally:
                watch.cancel()
                workers.close()

        return asyncio.run(run())

    def test_what_the_function_makes_of_it(self, model):
        def fails():
            raise KeyError("mine")

        async def scenario(workers):
            assert await workers.run(lambda: threading.current_thread().name) != threading.main_thread().name
            with pytest.raises(KeyError, match="mine"):
                await workers.run(fails)
            assert not workers.busy
            return await asyncio.gather(*(workers.run(lambda n=n: n * n) for n in range(50)))

        assert self.through(model, scenario) == [n * n for n in range(50)]

    def test_nobody_runs_what_nobody_waits_for(self, model):
        gate, ran = threading.Event(), []

        async def scenario(workers):
            blockers = [asyncio.create_task(workers.run(gate.wait)) for _ in range(workers._threads)]
            waiting = [asyncio.create_task(workers.run(lambda n=n: ran.append(n))) for n in range(5)]
            await asyncio.sleep(0.05)
            for task in waiting[:4]:
                task.cancel()
            await asyncio.gather(*waiting[:4], return_exceptions=True)
            gate.set()
            await asyncio.gather(*blockers, waiting[4])

        self.through(model, scenario)
        assert ran == [4]

    def test_one_that_does_not_return_is_given_up(self, model):
        gate = threading.Event()

        async def scenario(workers):
            with pytest.raises(ForwardTimeoutError):
                await workers.run(lambda: gate.wait(20))
            gate.set()
            while workers.busy:
                await asyncio.sleep(0.01)
            return await workers.run(lambda: 7)

        assert self.through(model, scenario, timeout_s=0.1) == 7

    def test_urgent_work_goes_first(self, model):
        gate, order = threading.Event(), []

        async def scenario(workers):
            tasks = [asyncio.create_task(workers.run(gate.wait)) for _ in range(workers._threads + 1)]
            await asyncio.sleep(0)
            tasks += [asyncio.create_task(workers.run(lambda: order.append("patient"), urgent=False)) for _ in range(3)]
            await asyncio.sleep(0)
            tasks.append(asyncio.create_task(workers.run(lambda: order.append("urgent"))))
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(*tasks)

        self.through(model, scenario)
        assert sorted(order) == ["patient"] * 3 + ["urgent"]
        assert "urgent" in order[:2]  # with two threads the first patient one may overtake it by a hair
