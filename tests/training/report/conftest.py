"""A bundle that was never trained, a network that everybody can do by hand, and a herd with awkward names."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from app.reid.embedder import Embedder, load_model
from app.reid.spec import PreprocessSpec
from training.data import load_photos
from training.evaluate import measure_photos
from training.export import export_bundle
from training.start import build_model


class Colours:
    """A runtime whose embedding is the mean colour of each quarter of the picture."""

    has_places = False

    def run(self, images):
        count, channels, height, width = images.shape
        quarters = images.reshape(count, channels, 2, height // 2, 2, width // 2).mean(axis=(3, 5)).reshape(count, -1)
        quarters = quarters + np.arange(quarters.shape[1]) * 1e-3  # black has a direction as well
        return (quarters / np.linalg.norm(quarters, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="package")
def untrained(tmp_path_factory, make_config):
    """The folder of a bundle with random weights that has seen no photo."""
    config = make_config()
    folder = tmp_path_factory.mktemp("store") / "untrained"
    model = build_model(config.model).eval()
    split = "filename,sha256,part,protocol\n"
    metrics = {"protocol": "identity", "id_map": 0.25}
    export_bundle(folder, model, config, fingerprint="f" * 64, split_csv=split, metrics=metrics)
    return folder


@pytest.fixture(scope="package")
def by_colour(untrained):
    """The untrained bundle's manifest with the network of colours at 16 x 16 pixels, without normalisation."""
    model = load_model(untrained)
    spec = PreprocessSpec(size=16, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear")
    manifest = model.manifest.model_copy(update={"preprocess": spec})
    return replace(model, embedder=Embedder(spec, Colours()), manifest=manifest)


@pytest.fixture
def measure(untrained, by_colour):
    """Measures the network of colours on a folder of photos."""

    def go(folder, within=None):
        photos = load_photos(folder, by_colour.manifest.preprocess)
        return measure_photos(untrained, by_colour, photos, within=within)

    return go


@pytest.fixture
def make_photos(tmp_path):
    """Writes a folder of photos from rows (name, identity, side, (H, W, 3 or 4) pixels)."""

    def write(rows):
        folder = tmp_path / "photos"
        folder.mkdir()
        lines = ["filename,ground_truth,side"]
        for name, identity, side, pixels in rows:
            Image.fromarray(pixels).save(folder / name)
            lines.append(f'{name},"{identity}",{side}')
        (folder / "train.csv").write_text("\n".join(lines) + "\n")
        return folder

    return write
