"""`POST /submission?postprocess=manifest`: here, as a job, by command line and client; without it nothing changes."""

import itertools
import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from app.client import Client, InputError
from app.jobs.store import JobStore
from app.reid import postprocess as engine
from app.reid.bundle import ONNX_WEIGHTS, Bundle, open_bundle, update_bundle
from app.reid.embedder import load_model
from app.reid.postprocess import Postprocess, QueryExpansion, Rerank
from tests.conftest import TINY_SPEC, tiny_forward
from tests.service.cli import ask

NAMES = [f"{letter}.png" for letter in "abcdefgh"]
TABLE = "row_id,query_image,gallery_image\n" + "".join(
    f"{row},{query},{gallery}\n" for row, (query, gallery) in enumerate(itertools.permutations(NAMES, 2))
)
STEPS = {
    "flip": True,
    "query_expansion": QueryExpansion(neighbours=2, alpha=3),
    "rerank": Rerank(k1=4, k2=2, weight=0.3),
}
HEADER = "flip,query_expansion(neighbours=2,alpha=3),rerank(k1=4,k2=2,weight=0.3)"


def with_steps(tiny_bundle: Path, folder: Path, **steps: object) -> Path:
    """A copy of the tiny bundle that says what is worth doing."""
    shutil.copytree(tiny_bundle, folder)
    manifest = open_bundle(folder).manifest
    version = Bundle(folder, manifest).model_version(ONNX_WEIGHTS, "onnx", "float32")
    postprocess = Postprocess(model_version=version, **steps)
    update_bundle(folder, manifest.model_copy(update={"postprocess": postprocess}), {})
    return folder


@pytest.fixture
def bundle(tiny_bundle, tmp_path) -> Path:
    return with_steps(tiny_bundle, tmp_path / "store" / "mine", **STEPS)


@pytest.fixture
def folder(tmp_path, photo) -> Path:
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate(NAMES):
        (tmp_path / "photos" / name).write_bytes(photo(seed))
    (tmp_path / "test.csv").write_text(TABLE)
    return tmp_path / "photos"


def sent(folder: Path) -> list:
    return [("test_csv", ("test.csv", TABLE.encode())),
            *(("images", (path.name, path.read_bytes())) for path in sorted(folder.iterdir()))]  # fmt: skip


def square(text: str) -> np.ndarray:
    """The scores as a matrix over the names; its diagonal is 1."""
    header, *rows = [line.split(",") for line in text.splitlines()]
    assert header == ["row_id", "similarity"]
    scores = np.eye(len(NAMES))
    for (a, b), (_, score) in zip(itertools.permutations(range(len(NAMES)), 2), rows, strict=True):
        scores[a, b] = float(score)
    return scores


def expected(folder: Path, draw) -> np.ndarray:
    """By another road: Pillow's resize, the mirror in numpy, then the engine on the means."""
    height, width = TINY_SPEC.size
    rows = []
    for seed in range(len(NAMES)):
        resized = np.asarray(draw(seed).resize((width, height), 3), dtype=np.float64) / 255
        normal = ((resized - TINY_SPEC.mean) / TINY_SPEC.std).transpose(2, 0, 1)
        both = tiny_forward(np.stack([normal, normal[:, :, ::-1]])).sum(axis=0)
        rows.append(both / np.linalg.norm(both))
    return engine.postprocess(np.array(rows, dtype=np.float32), Postprocess(model_version="0" * 12, **STEPS))


def test_it_is_applied_and_said(service, bundle, folder, draw):
    client = service(model=load_model(bundle))
    response = client.post("/submission?postprocess=manifest", files=sent(folder))
    assert response.status_code == 200
    assert response.headers["x-postprocess"] == HEADER
    scores = square(response.text)
    np.testing.assert_allclose(scores, expected(folder, draw), atol=1e-5)
    assert np.array_equal(scores, scores.T)
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_without_the_parameter_nothing_changes(service, bundle, tiny_bundle, folder):
    plain = service(model=load_model(tiny_bundle)).post("/submission", files=sent(folder))
    client = service(model=load_model(bundle))
    client.post("/submission?postprocess=manifest", files=sent(folder))  # mirrored embeddings are cached apart
    response = client.post("/submission", files=sent(folder))
    assert response.content == plain.content
    assert "x-postprocess" not in response.headers
    assert response.headers["x-model-version"] == client.get("/model").json()["model_version"]


def test_embeddings_with_the_mirror_are_another_version(service, bundle, folder):
    client = service(model=load_model(bundle))
    response = client.post("/submission?postprocess=manifest", files=sent(folder))
    assert response.headers["x-model-version"] == load_model(bundle).mirrored().version
    assert response.headers["x-model-version"] != client.get("/model").json()["model_version"]


def test_where_nothing_was_worth_it_scores_are_plain_and_that_is_said(service, tiny_bundle, tmp_path, folder):
    for model in (tiny_bundle, with_steps(tiny_bundle, tmp_path / "none")):
        client = service(model=load_model(model))
        response = client.post("/submission?postprocess=manifest", files=sent(folder))
        assert response.headers["x-postprocess"] == "none"
        plain = square(client.post("/submission", files=sent(folder)).text)
        np.testing.assert_allclose(square(response.text), plain, atol=1e-9)


def test_a_job_does_the_same(service, bundle, folder):
    client = service(model=load_model(bundle))
    plain = client.post("/submission?postprocess=manifest", files=sent(folder))
    job = client.post("/submission?postprocess=manifest", files=sent(folder), headers={"Prefer": "respond-async"})
    assert job.json()["kind"] == "postprocessed-submission"
    list(client.get(f"{job.headers['location']}/events").iter_lines())
    told = client.get(job.headers["location"]).json()
    assert (told["postprocess"], told["model_version"]) == (HEADER, plain.headers["x-model-version"])
    result = client.get(f"{job.headers['location']}/result")
    assert result.content == plain.content
    for name in ("x-postprocess", "x-model-version", "content-disposition"):
        assert result.headers[name] == plain.headers[name]


def test_a_plain_job_says_nothing_of_it(service, bundle, folder):
    client = service(model=load_model(bundle))
    job = client.post("/submission", files=sent(folder), headers={"Prefer": "respond-async"}).headers["location"]
    list(client.get(f"{job}/events").iter_lines())
    assert client.get(job).json()["postprocess"] is None
    assert "x-postprocess" not in client.get(f"{job}/result").headers


@pytest.mark.parametrize("query", ["postprocess=all", "postprocess=", "post_process=manifest"])
def test_other_words_are_refused(service, folder, query, assert_problem):
    response = service().post(f"/submission?{query}", files=sent(folder))
    assert_problem(response, 422, "invalid-request")


def test_the_batch_call_has_none(service, photo, assert_problem):
    files = [("pairs", ("p.csv", b"query_image,gallery_image\na,a\n")), ("images", ("a", photo(1)))]
    assert_problem(service().post("/similarity/batch?postprocess=manifest", files=files), 422, "invalid-request")


def test_too_many_photos_are_told_before_any_is_embedded(
    service, bundle, folder, embedded, assert_problem, monkeypatch
):
    monkeypatch.setattr(engine, "MAX_PHOTOS", 7)
    client = service(model=load_model(bundle))
    response = client.post("/submission?postprocess=manifest", files=sent(folder))
    assert "8 photos" in assert_problem(response, 413, "too-many-rows")["detail"]
    assert embedded(client) == 0
    assert client.post("/submission", files=sent(folder)).status_code == 200


def test_command_line_and_client(server, bundle, folder, tmp_path, draw):
    env = {"JAGUAR_MODEL": str(bundle)}
    url = server(**env)
    table, here, there, plain = (tmp_path / name for name in ("test.csv", "here.csv", "there.csv", "plain.csv"))
    words = ("submission", table, "--images", folder, "--out")
    told = ask(*words, here, "--postprocess", "manifest", **env)
    assert told.code == 0, told.err
    assert f"post-processing: {HEADER}, " in told.out
    far = ask(*words, there, "--postprocess", "manifest", "--url", url, "--json")
    assert far.code == 0, far.err
    assert far.json["postprocess"] == HEADER
    assert here.read_bytes() == there.read_bytes()
    np.testing.assert_allclose(square(here.read_text()), expected(folder, draw), atol=1e-5)
    assert "post-processing" not in ask(*words, plain, **env).out
    assert plain.read_bytes() != here.read_bytes()
    with Client(url) as client:
        scores = client.submission(table, folder, postprocess="manifest")
        assert (scores.postprocess, scores.read()) == (HEADER, here.read_bytes())
        job = client.start_submission(table, folder, postprocess="manifest")
        waited = client.wait(job.id)
        assert (waited.postprocess, waited.read()) == (HEADER, here.read_bytes())
        assert client.submission(table, folder).postprocess is None
        with pytest.raises(InputError, match="postprocess='all' is none"):
            client.submission(table, folder, postprocess="all")


def test_a_list_of_jobs_from_before_gets_the_column(tmp_path):
    file = tmp_path / "jobs.sqlite"
    store = JobStore(file)
    store.close()
    with sqlite3.connect(file) as db:
        db.execute("ALTER TABLE jobs DROP COLUMN postprocess")
        db.execute("INSERT INTO jobs (id, kind, state, total, created, size, done, attempts, request_id)"
                   " VALUES ('x', 'batch', 'done', 1, 0, 0, 1, 0, '')")  # fmt: skip
    db.close()
    store = JobStore(file)
    assert store.get("x").postprocess is None
    store.close()


def test_of_other_weights_it_ends_the_start(bundle):
    values = json.loads((bundle / "manifest.json").read_text())
    values["preprocess"]["jpeg_draft"] = False
    (bundle / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(Exception, match="its postprocess was fitted for model_version .* `jaguar-train postprocess"):
        load_model(bundle)
