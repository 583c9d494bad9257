"""Settings: defaults, the environment's names, and what stops the start."""

from pathlib import Path

import pytest

from app.reid.errors import ConfigError
from app.settings import Settings, load_settings, unknown_names


def test_defaults_need_no_environment():
    settings = load_settings()
    assert settings.bundle_folder == Path("model_store/default")
    assert settings.image_root is None
    assert (settings.runtime, settings.precision) == ("onnx", "float32")
    assert (settings.max_csv_rows, settings.max_files, settings.max_inflight) == (999_999, 1_000, 32)
    assert (settings.max_csv_bytes, settings.max_image_bytes) == (67_108_864, 67_108_864)
    assert (settings.max_body_bytes, settings.max_images_body_bytes) == (4_294_967_296, 134_217_728)
    assert (settings.max_unzipped_bytes, settings.max_unzip_ratio, settings.max_pixels) == (
        8_589_934_592,
        100,
        50_000_000,
    )


def test_environment_is_read(monkeypatch, tmp_path):
    monkeypatch.setenv("JAGUAR_MODEL_STORE", str(tmp_path))
    monkeypatch.setenv("JAGUAR_MODEL", "nyala")
    monkeypatch.setenv("JAGUAR_IMAGE_ROOT", str(tmp_path))
    monkeypatch.setenv("JAGUAR_MAX_BODY_BYTES", "2GiB")
    monkeypatch.setenv("JAGUAR_MAX_CSV_BYTES", "77")
    settings = load_settings()
    assert settings.bundle_folder == tmp_path / "nyala"
    assert settings.image_root == tmp_path
    assert settings.max_body_bytes == 2 * 1024**3
    assert settings.max_csv_bytes == 77


def test_model_with_a_slash_is_a_path():
    assert Settings(model="./bundles/nyala").bundle_folder == Path("bundles/nyala")
    assert Settings(model="/srv/nyala", model_store=Path("elsewhere")).bundle_folder == Path("/srv/nyala")


def test_empty_value_counts_as_unset(monkeypatch):
    monkeypatch.setenv("JAGUAR_IMAGE_ROOT", "")
    monkeypatch.setenv("JAGUAR_MAX_FILES", "")
    settings = load_settings()
    assert settings.image_root is None
    assert settings.max_files == 1_000


def test_unknown_name_is_an_error_with_the_nearest(monkeypatch):
    monkeypatch.setenv("JAGUAR_IMAGEROOT", "/data")
    with pytest.raises(ConfigError, match="unknown setting 'JAGUAR_IMAGEROOT'; did you mean JAGUAR_IMAGE_ROOT?"):
        load_settings()


def test_unknown_name_unlike_any_other_lists_all():
    [sentence] = unknown_names({"JAGUAR_QQQQ": "1"})
    assert "JAGUAR_MODEL_STORE" in sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAGUAR_SERVICE_HOST", "10.0.0.1"),
        ("JAGUAR_REID_SERVICE_HOST", "10.0.0.1"),
        ("JAGUAR_REID_SERVICE_PORT", "8000"),
        ("JAGUAR_SERVICE_PORT_HTTP", "8000"),
        ("JAGUAR_REID_PORT", "tcp://10.0.0.1:8000"),
        ("JAGUAR_PORT", "tcp://10.0.0.1:8000"),
        ("JAGUAR_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("JAGUAR_REID_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("NOTJAGUAR_X", "1"),
    ],
)
def test_names_that_a_cluster_injects_are_ignored(name, value):
    assert unknown_names({name: value}) == []


def test_port_that_a_person_sets_is_not_taken_for_a_clusters():
    assert len(unknown_names({"JAGUAR_PORT": "8001"})) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAGUAR_MAX_FILES", "many"),
        ("JAGUAR_MAX_FILES", "0"),
        ("JAGUAR_MAX_BODY_BYTES", "0"),
        ("JAGUAR_MAX_BODY_BYTES", "5 elephants"),
        ("JAGUAR_RUNTIME", "tensorrt"),
        ("JAGUAR_PRECISION", "int4"),
    ],
)
def test_value_that_cannot_be_used_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        load_settings()


def test_image_root_must_be_a_folder_and_all_problems_are_told(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"")
    monkeypatch.setenv("JAGUAR_IMAGE_ROOT", str(file))
    monkeypatch.setenv("JAGUAR_MAX_FILES", "-1")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert f"JAGUAR_IMAGE_ROOT: {file} is not a folder" in str(caught.value)
    assert "JAGUAR_MAX_FILES" in str(caught.value)
