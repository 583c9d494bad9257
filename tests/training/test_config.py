from pathlib import Path

import pytest

from app.reid.errors import ConfigError
from training.config import TrainConfig, load_config
from training.distill.config import DistillConfig

SHIPPED = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.toml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_an_empty_file_is_the_defaults(tmp_path):
    assert load_config(write(tmp_path, "")) == TrainConfig()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configs_load(path):
    kind = DistillConfig if path.stem.startswith("distill") else TrainConfig
    assert load_config(path, [], kind).model.backbone.startswith("convnext")


def test_values_and_overrides(tmp_path):
    path = write(tmp_path, "seed = 3\n[optim]\nepochs = 7\n[preprocess]\nsize = [96, 128]\n")
    config = load_config(
        path, ["optim.epochs=9", "model.backbone=convnext_tiny", "augment.flip = 0.5", "preprocess.size=64"]
    )
    assert (config.seed, config.optim.epochs, config.model.backbone) == (3, 9, "convnext_tiny")
    assert (config.augment.flip, config.preprocess.size) == (0.5, (64, 64))


@pytest.mark.parametrize(
    ("text", "line", "name"),
    [
        ("seed = 1\n\n[optim]\nepochs = 3\nepocs = 4\n", 5, "optim.epocs: unknown key"),
        ("[optim]\nepochs = '3'\n", 2, "optim.epochs: "),
        ("[optim]\nepochs = 3.0\n", 2, "optim.epochs: "),
        ("[sampler]\nphotos = true\n", 2, "sampler.photos: "),
        ("\n[optimm]\nepochs = 3\n", 2, "optimm: unknown key"),
        ("sede = 1\n", 1, "sede: unknown key"),
        ("[preprocess]\n  mean = [0.1, 0.2]\n", 2, "preprocess.mean: "),
        ("[loss]\nlabel_smoothing = nan\n", 2, "loss.label_smoothing: "),
        ("[optim]\nlearning_rate = 0\n", 2, "optim.learning_rate: "),
        ("[optim]\nepochs = 2\nwarmup_epochs = 2\n", None, "optim.warmup_epochs (2.0) must be below optim.epochs (2)"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path, text, line, name):
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert name in str(caught.value)
    assert line is None or f"config.toml, line {line}:" in str(caught.value)


def test_all_faults_are_named_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)line 1: a: .*line 2: b: "):
        load_config(write(tmp_path, "a = 1\nb = 2\n"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "write it as key=value"),
        ("=3", "write it as key=value"),
        ("optim.epocs=3", "--set optim.epocs: unknown key"),
        ("seed.x=3", "seed is not a table"),
    ],
)
def test_bad_overrides(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, "seed = 1\n"), [override])


def test_not_toml_and_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"not TOML.*line 2"):
        load_config(write(tmp_path, "seed = 1\n[optim\n"))
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.toml")
