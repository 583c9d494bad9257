"""`jaguar-reid config`, `model show` and `model verify`: what is in effect, and whether a bundle is whole."""

import importlib.util
import shutil

import pytest

from app.cli.models import complete
from app.reid.bundle import INT8_WEIGHTS, MANIFEST, ONNX_WEIGHTS, TORCH_WEIGHTS, Manifest, Quantization, file_entry
from app.settings import Settings
from tests.service.cli import ask, environment, python

KEY = "a-key-that-nobody-may-see"


@pytest.fixture
def store(tiny_bundle, tmp_path):
    """A store of its own: `tiny`, to be broken, and a folder that is no bundle."""
    shutil.copytree(tiny_bundle, tmp_path / "store" / "tiny")
    (tmp_path / "store" / "empty").mkdir()
    return tmp_path / "store"


@pytest.fixture
def env(store):
    return {"JAGUAR_MODEL": "tiny", "JAGUAR_MODEL_STORE": str(store)}


def rewritten(store, **changes):
    """The manifest with some fields changed."""
    path = store / "tiny" / MANIFEST
    manifest = Manifest.model_validate_json(path.read_text())
    path.write_text(manifest.model_copy(update=changes).model_dump_json())


class TestConfig:
    def test_every_setting_and_where_it_comes_from(self, store):
        told = ask(
            "config", "--json", JAGUAR_MODEL="tiny", JAGUAR_STATE="here", JAGUAR_RATE_LIMIT="", JAGUAR_CACHE="off"
        )
        rows = {row["name"]: row for row in told.json}
        assert list(rows) == [f"JAGUAR_{name.upper()}" for name in Settings.model_fields]
        assert rows["JAGUAR_MODEL"] == {"name": "JAGUAR_MODEL", "value": "tiny", "from": "environment"}
        assert rows["JAGUAR_STATE"]["from"] == "environment"
        assert (rows["JAGUAR_CACHE"]["value"], rows["JAGUAR_CACHE"]["from"]) == ("off", "environment")
        assert rows["JAGUAR_JOBS"]["value"] == "here/jobs"
        assert rows["JAGUAR_JOBS"]["from"] == "default, below JAGUAR_STATE"
        assert (rows["JAGUAR_RATE_LIMIT"]["value"], rows["JAGUAR_RATE_LIMIT"]["from"]) == (None, "default")
        assert rows["JAGUAR_MAX_CSV_BYTES"]["value"] == 64 * 2**20
        assert sum(row["from"] == "environment" for row in told.json) == 3

    def test_in_words(self):
        lines = ask("config", JAGUAR_CORS_ORIGINS="https://a.org,https://b.org").out.splitlines()
        rows = {line.split()[0]: line for line in lines}
        assert lines[0].split() == ["setting", "from", "value"]
        assert rows["JAGUAR_MAX_CSV_BYTES"].endswith("67108864 (64.0MiB)")
        assert rows["JAGUAR_CORS_ORIGINS"].endswith("environment                  https://a.org, https://b.org")
        assert rows["JAGUAR_IMAGE_ROOT"].endswith("default                      -")
        assert rows["JAGUAR_CACHE"].endswith("state/cache.sqlite")
        assert len(rows) == 1 + len(Settings.model_fields)

    def test_keys_are_counted_and_never_shown(self):
        for asked in (("config",), ("config", "--json")):
            out = ask(*asked, JAGUAR_API_KEYS=f"{KEY},b", JAGUAR_ADMIN_KEY=KEY).out
            assert KEY not in out
            assert "2 hidden" in out
            assert "1 hidden" in out

    def test_settings_that_cannot_be_used(self):
        ended = ask("config", JAGUAR_MAX_FILE="3", JAGUAR_MAX_PIXELS="many")
        assert (ended.code, ended.out) == (2, "")
        assert "did you mean JAGUAR_MAX_FILES?" in ended.err
        assert "JAGUAR_MAX_PIXELS: " in ended.err


class TestShow:
    def test_it_is_what_the_service_says(self, env, service):
        assert ask("model", "show", "--json", **env).json == service().get("/model").json()

    def test_a_name_or_a_path(self, env, store):
        shutil.copytree(store / "tiny", store / "other")
        told = ask("model", "show", "--json", **env).json
        assert ask("model", "show", "other", "--json", **env).json == told
        assert ask("model", "show", str(store / "other"), "--json").json == told

    def test_in_words(self, env):
        rows = dict(line.split(maxsplit=1) for line in ask("model", "show", **env).out.splitlines())
        assert rows["name"] == "tiny"
        assert rows["preprocess.size"] == "[32, 48]"
        assert rows["metrics.id_map"] == "0.5"

    def test_a_service_is_not_asked_by_name(self):
        ended = ask("model", "show", "tiny", "--url", "http://127.0.0.1:1")
        assert (ended.code, "leave out NAME or --url" in ended.err) == (2, True)


class TestVerify:
    def test_a_whole_bundle(self, env):
        ended = ask("model", "verify", **env)
        assert ended.code == 0
        version = ask("model", "show", "--json", **env).json["model_version"]
        assert f"probe cosine 1.000000, model_version {version}" in ended.out
        assert ended.out.count("holds") == 2

    def test_a_byte_that_changed(self, env, store):
        weights = store / "tiny" / ONNX_WEIGHTS
        weights.write_bytes(weights.read_bytes()[:-1] + b"!")
        ended = ask("model", "verify", **env)
        assert (ended.code, ended.err) == (1, "")
        assert "FAILS" in ended.out
        assert "another sha256" in ended.out
        told = ask("model", "verify", "--json", **env)
        assert (told.code, told.json["whole"]) == (1, False)
        assert told.json["checks"][0]["holds"] is False

    def test_a_network_that_answers_otherwise(self, env, store):
        manifest = Manifest.model_validate_json((store / "tiny" / MANIFEST).read_text())
        turned = tuple(reversed(manifest.probe.embedding))
        rewritten(store, probe=manifest.probe.model_copy(update={"embedding": turned}))
        ended = ask("model", "verify", "--json", **env)
        assert ended.code == 1
        assert [check["holds"] for check in ended.json["checks"]] == [True, False]

    def test_every_network_is_asked(self, env, store):
        weights = (store / "tiny" / ONNX_WEIGHTS).read_bytes()
        (store / "tiny" / INT8_WEIGHTS).write_bytes(weights)
        (store / "tiny" / TORCH_WEIGHTS).write_bytes(b"none")
        files = {ONNX_WEIGHTS: weights, INT8_WEIGHTS: weights, TORCH_WEIGHTS: b"none"}
        figures = Quantization(
            data_fingerprint="x", seed=0, calibration_photos=1, measured_photos=2, cosine=1, median_cosine=1,
            similarity_change=0, probe_cosine=1, speedup=2,
        )  # fmt: skip
        rewritten(store, files={name: file_entry(data) for name, data in files.items()}, quantization=figures)
        code = (
            "import importlib.util, sys; inner = importlib.util.find_spec\n"
            "importlib.util.find_spec = lambda name, *more: None if name == 'torch' else inner(name, *more)\n"
            "from app.cli import app; app(['model', 'verify', '--json'])"
        )
        ended = python(code, **env)
        assert ended.returncode == 0, ended.stderr
        assert '"holds": null' in ended.stdout
        assert "torch is not installed here" in ended.stdout
        assert ended.stdout.count('"holds": true') == 3
        # Where torch is, these weights are found to be none.
        torch = importlib.util.find_spec("torch") is not None
        assert ask("model", "verify", **env).code == (1 if torch else 0)

    def test_a_bundle_that_nobody_can_serve(self, env, store):
        weights = (store / "tiny" / ONNX_WEIGHTS).read_bytes()
        (store / "tiny" / TORCH_WEIGHTS).write_bytes(weights)
        rewritten(store, files={TORCH_WEIGHTS: file_entry(weights)})
        ended = ask("model", "verify", **env)
        assert (ended.code, "it is what a service loads" in ended.out) == (1, True)

    def test_no_such_bundle(self, env):
        ended = ask("model", "verify", "tyni", **env)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.endswith("  There are: tiny.\n")

    def test_no_bundles_at_all(self, env, store):
        shutil.rmtree(store)
        assert "names the folder of bundles" in ask("model", "verify", **env).err

    def test_a_folder_that_is_no_bundle(self, env):
        ended = ask("model", "verify", "empty", **env)
        assert (ended.code, "manifest.json cannot be read" in ended.out) == (1, True)


@pytest.mark.parametrize(("typed", "offered"), [("", "tiny"), ("t", "tiny"), ("x", "")])
def test_the_shell_completes_bundles(env, typed, offered):
    words = {
        "_JAGUAR_REID_COMPLETE": "complete_bash",
        "COMP_WORDS": f"jaguar-reid model show {typed}",
        "COMP_CWORD": "3",
    }
    ended = python("from app.cli import app; app(prog_name='jaguar-reid')", **environment(**env, **words))
    assert (ended.returncode, ended.stdout.strip()) == (0, offered), ended.stderr


def test_bundles_in_a_store(env, monkeypatch):
    assert complete("t") == []
    monkeypatch.setenv("JAGUAR_MODEL_STORE", env["JAGUAR_MODEL_STORE"])
    assert (complete("t"), complete("u")) == (["tiny"], [])
    monkeypatch.setenv("JAGUAR_MODELL", "x")
    assert complete("t") == []


def test_the_shell_completes_nothing_where_settings_are_wrong(env):
    words = {"_JAGUAR_REID_COMPLETE": "complete_bash", "COMP_WORDS": "jaguar-reid model show ", "COMP_CWORD": "3"}
    ended = python("from app.cli import app; app(prog_name='jaguar-reid')", JAGUAR_MODELL="x", **env, **words)
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "", "")
