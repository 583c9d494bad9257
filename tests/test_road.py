"""The whole road: photos in, bundle, service, submission out; and its figure is the run's own."""

import csv
import io
from itertools import permutations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="needs the train extra")

from starlette.testclient import TestClient

from app.main import create_app
from app.reid.bundle import open_bundle
from app.reid.embedder import load_model
from app.reid.metric import identity_balanced_map
from app.settings import Settings
from training.config import load_config
from training.fit import fit

CONFIG = """\
[model]
backbone = "test_convnext"
[preprocess]
size = 48
[split]
validation = 0.4
[sampler]
identities = 4
photos = 2
steps = 3
[optim]
epochs = 1
warmup_epochs = 0
"""


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """A data set of cut-outs (hidden colour under alpha 0) and JPEGs, a bundle trained on it."""
    place = tmp_path_factory.mktemp("road")
    photos = place / "data" / "train" / "train"
    photos.mkdir(parents=True)
    chance, rows = np.random.default_rng(1), ["filename,ground_truth"]
    for identity in range(8):
        coat = chance.integers(0, 256, (6, 8, 3))
        for photo in range(6):
            noisy = np.clip(coat + chance.integers(-60, 60, coat.shape), 0, 255).astype(np.uint8)
            picture = Image.fromarray(noisy).resize((400, 300), Image.Resampling.BICUBIC)
            name = f"{identity}_{photo}." + ("png" if photo % 2 else "jpg")
            if photo % 2:
                alpha = np.zeros((300, 400), np.uint8)
                alpha[40:260, 60:340] = 255
                picture.putalpha(Image.fromarray(alpha))
            picture.save(photos / name)
            rows.append(f"{name},jaguar {identity}")
    (place / "data" / "train.csv").write_text("\n".join(rows))
    (place / "road.toml").write_text(CONFIG)
    result = fit(load_config(place / "road.toml"), place / "data", place / "store" / "road", place / "run")
    return place, result


def test_the_submission_s_figure_is_the_run_s(road):
    place, result = road
    split = csv.DictReader((result.bundle / "split.csv").read_text().splitlines())
    names = [row["filename"] for row in split if row["part"] == "validation"]
    pairs = list(permutations(names, 2))
    test_csv = "row_id,query_image,gallery_image\n" + "".join(f"{i},{a},{b}\n" for i, (a, b) in enumerate(pairs))
    settings = Settings(model_store=place / "store", model="road", image_root=place / "data")
    with TestClient(create_app(settings, load_model(result.bundle))) as client:
        answer = client.post("/submission", files={"test_csv": ("test.csv", test_csv, "text/csv")})
        embedded = client.get("/metrics").text
    assert answer.status_code == 200, answer.text
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0] == ["row_id", "similarity"]
    similarity = np.full((len(names), len(names)), 2.0)
    for (query, gallery), row in zip(pairs, rows[1:], strict=True):
        similarity[names.index(query), names.index(gallery)] = float(row[1])
    identities = ["jaguar " + name[0] for name in names]
    figure = identity_balanced_map(similarity, identities).id_map
    assert figure == pytest.approx(open_bundle(result.bundle).manifest.metrics["id_map"], abs=1e-4)
    assert f"jaguar_images_embedded_total {float(len(names))}" in embedded
