"""Probability and verdict through HTTP, the command line and the client, over a calibrated bundle, by hand."""

import json
import math
import shutil
from dataclasses import replace

import pytest

from app.reid.bundle import MANIFEST
from app.reid.calibration import Scale
from app.reid.embedder import load_model
from app.reid.errors import BundleError
from tests.reid.placed import save_placed
from tests.service.cli import ask


def expected(similarity: float, prior: float = 0.5) -> tuple[float, str]:
    """What `calibrated_bundle` says of a similarity: odds e^(10 s - 6), times the odds of the prior."""
    odds = math.exp(10 * similarity - 6) * prior / (1 - prior)
    verdict = "same" if similarity >= 0.8 else "different" if similarity <= 0.4 else "uncertain"
    return odds / (1 + odds), verdict


@pytest.fixture
def calibrated(service, calibrated_bundle):
    """`calibrated(**settings)` -> a client of a service over it."""
    return lambda prior=None, **settings: service(
        model=load_model(calibrated_bundle, prior=prior), prior=prior, **settings
    )


def pair(photo, a, b):
    return {"query_image": photo(a), "gallery_image": photo(b)}


@pytest.mark.parametrize("prior", [None, 0.01])
@pytest.mark.parametrize("seeds", [(1, 1), (1, 2), (3, 4)])
def test_similarity(calibrated, photo, seeds, prior):
    body = calibrated(prior).post("/similarity", files=pair(photo, *seeds)).json()
    probability, verdict = expected(body["similarity"], prior or 0.5)
    assert body["probability"] == pytest.approx(probability, rel=1e-9)
    assert body["verdict"] == verdict
    assert calibrated(prior).get("/model").json()["prior"] == (prior or 0.5)


def test_batch(calibrated, photo):
    table = b"query_image,gallery_image\na.png,a.png\na.png,b.png\nc.png,d.png\n"
    images = [("images", (f"{name}.png", photo(seed))) for seed, name in enumerate("abcd")]
    answer = calibrated(0.3).post("/similarity/batch", files=[("pairs", ("pairs.csv", table)), *images])
    rows = [line.split(",") for line in answer.text.splitlines()[1:]]
    assert len(rows) == 3
    assert rows[0][-1] == "same"
    for row in rows:
        probability, verdict = expected(float(row[3]), 0.3)
        assert float(row[4]) == pytest.approx(probability, rel=1e-6)
        assert row[5] == verdict


def test_a_job_answers_the_same(calibrated, photo):
    client = calibrated()
    sent = [("pairs", ("pairs.csv", b"query_image,gallery_image\na,b\n")),
            ("images", ("a", photo(1))), ("images", ("b", photo(2)))]  # fmt: skip
    plain = client.post("/similarity/batch", files=sent)
    job = client.post("/similarity/batch", files=sent, headers={"Prefer": "respond-async"}).headers["location"]
    list(client.get(f"{job}/events").iter_lines())
    assert client.get(f"{job}/result").content == plain.content
    assert plain.text.splitlines()[1].split(",")[-1] in {"same", "different", "uncertain"}


def test_explain(service, calibrated_bundle, tmp_path, photo):
    placed = load_model(save_placed(tmp_path / "placed"))
    scale = Scale.of(load_model(calibrated_bundle).manifest.calibration, 0.2)
    client = service(model=replace(placed, scale=scale))
    body = client.post("/similarity/explain", files=pair(photo, 1, 2)).json()
    probability, verdict = expected(body["similarity"], 0.2)
    assert (body["probability"], body["verdict"]) == (pytest.approx(probability), verdict)


def test_model_tells_what_they_rest_on(calibrated, calibrated_bundle):
    body = calibrated(0.25).get("/model").json()
    manifest = json.loads((calibrated_bundle / MANIFEST).read_text())
    assert body["calibrated"] is True
    assert body["calibration"] == manifest["calibration"]
    assert body["calibration"]["model_version"] == body["model_version"]
    assert body["prior"] == 0.25


def test_the_prior_is_a_setting(server, calibrated_bundle, photo, tmp_path):
    """Through the environment, a real server and the command line, here and there."""
    (tmp_path / "a.png").write_bytes(photo(1))
    (tmp_path / "b.png").write_bytes(photo(2))
    env = {"JAGUAR_MODEL": str(calibrated_bundle), "JAGUAR_PRIOR": "0.1"}
    url = server(**env)
    two = (tmp_path / "a.png", tmp_path / "b.png")
    here, there = ask("similarity", *two, "--json", **env).json, ask("similarity", *two, "--url", url, "--json").json
    assert here == there
    probability, verdict = expected(here["similarity"], 0.1)
    assert (here["probability"], here["verdict"]) == (pytest.approx(probability), verdict)
    assert ask("model", "show", "--json", **env).json == ask("model", "show", "--url", url, "--json").json
    ranked = ask("rank", two[0], "--gallery", tmp_path, "--json", **env).json
    assert ranked == ask("rank", two[0], "--gallery", tmp_path, "--url", url, "--json").json
    match = ranked["matches"][0]
    assert (match["probability"], match["verdict"]) == (pytest.approx(probability), verdict)
    lines = ask("rank", two[0], "--gallery", tmp_path, **env).out.splitlines()
    assert lines[0].split() == ["rank", "similarity", "probability", "verdict", "photo"]
    assert lines[1].split()[2:4] == [f"{probability:.4f}", verdict]


@pytest.mark.parametrize("value", ["0", "1", "-0.5", "often", "nan"])
def test_no_prior_at_all(value, tmp_path, photo, calibrated_bundle):
    (tmp_path / "a.png").write_bytes(photo(1))
    env = {"JAGUAR_MODEL": str(calibrated_bundle), "JAGUAR_PRIOR": value}
    ended = ask("similarity", tmp_path / "a.png", tmp_path / "a.png", **env)
    assert ended.code == 2
    assert "JAGUAR_PRIOR" in ended.err


def test_a_calibration_of_other_weights_ends_the_start(calibrated_bundle, tmp_path):
    """Weights that were trained again under an old calibration: refused, with both versions and the way out."""
    changed = shutil.copytree(calibrated_bundle, tmp_path / "tiny")
    values = json.loads((changed / MANIFEST).read_text())
    values["preprocess"]["jpeg_draft"] = False
    (changed / MANIFEST).write_text(json.dumps(values))
    old = values["calibration"]["model_version"]
    message = f"fitted for model_version {old}, and its weights are [0-9a-f]{{12}}; `jaguar-train calibrate"
    with pytest.raises(BundleError, match=message):
        load_model(changed)
    assert load_model(changed, calibrated=False).scale is None
