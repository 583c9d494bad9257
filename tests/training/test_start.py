import hashlib
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from app.reid.errors import BundleError, ConfigError
from training.config import ModelConfig
from training.export import export_bundle
from training.start import build_model

BACKBONE = "test_convnext"


def config(pretrained):
    return ModelConfig(backbone=BACKBONE, embedding_dim=16, pretrained=str(pretrained))


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(3)
    return timm.create_model(BACKBONE, num_classes=10).state_dict()


def same_backbone(model, weights):
    return all(torch.equal(tensor, weights[name]) for name, tensor in model.backbone.state_dict().items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_weights_file(tmp_path, weights, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(weights, path)
    else:
        safetensors.torch.save_file(weights, path)
    assert same_backbone(build_model(config(path)), weights)


def test_a_file_that_does_not_fit_names_tensor_and_both_shapes(tmp_path, weights):
    path = tmp_path / "weights.safetensors"
    wrong = {**weights, "stem.0.weight": torch.zeros(3, 3)}
    safetensors.torch.save_file(wrong, path)
    with pytest.raises(
        BundleError, match=r"backbone.stem.0.weight has the shape \(3, 3\); the network has \(24, 3, 4, 4\)"
    ):
        build_model(config(path))
    del wrong["stem.0.weight"]
    safetensors.torch.save_file(wrong, path)
    with pytest.raises(BundleError, match=r"missing \['backbone.stem.0.weight'\]"):
        build_model(config(path))


def test_gem_starts_at_three_whatever_the_weights_come_from(tmp_path, weights, make_config):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(weights, path)
    gem = build_model(config(path).model_copy(update={"pooling": "gem"}))
    assert float(gem.backbone.head.global_pool.p.detach()) == 3.0
    assert torch.equal(gem.backbone.stem[0].weight, weights["stem.0.weight"])

    average = build_model(config(path))
    for name, model in (("avg", average), ("gem", gem)):
        settings = make_config("model.embedding_dim=16", f"model.pooling={name}")
        bundle = tmp_path / name
        export_bundle(bundle, model, settings, fingerprint="f" * 64, split_csv="", metrics={})
        for pooling in ("avg", "gem"):
            started = build_model(config(bundle).model_copy(update={"pooling": pooling})).state_dict()
            assert started.pop("backbone.head.global_pool.p", torch.tensor(3.0)) == 3.0
            assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in started.items())


def test_a_grid_starts_from_a_grid(tmp_path, make_config):
    model = build_model(make_config("model.pooling=grid").model)
    settings = make_config("model.pooling=grid")
    export_bundle(tmp_path / "grid", model, settings, fingerprint="f" * 64, split_csv="", metrics={})
    start = settings.model.model_copy(update={"pretrained": str(tmp_path / "grid")})
    assert torch.equal(build_model(start).linear.weight, model.linear.weight)
    with pytest.raises(BundleError, match=r"linear.weight has the shape \(\d+, \d+\); the network has"):
        build_model(start.model_copy(update={"pooling": "avg"}))


class Payload:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_nothing_is_unpickled(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save({"x": Payload()}, path)
    with pytest.raises(ConfigError, match="nothing is ever unpickled"):
        build_model(config(path))
    assert "unpickled" not in capsys.readouterr().out


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file or bundle"):
        build_model(config(tmp_path / "none.pth"))
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ConfigError, match="not a weights file"):
        build_model(config(tmp_path / "text.safetensors"))


def test_an_unknown_backbone_is_answered_with_close_names():
    with pytest.raises(ConfigError, match="timm knows no backbone 'convnext_ato'; close: convnext_atto"):
        build_model(ModelConfig(backbone="convnext_ato"))


class Hub(http.server.BaseHTTPRequestHandler):
    """The two calls of the hub's protocol that fetching one file takes."""

    content = b""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        found = self.path.endswith("/model.safetensors")
        self.send_response(200 if found else 404)
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(self.content) if found else 0))
        self.end_headers()
        if found and self.command == "GET":
            self.wfile.write(self.content)

    def log_message(self, *_args):
        pass


FETCH = f"""
import sys
from training.config import ModelConfig
from training.start import build_model
from app.reid.errors import ConfigError
try:
    model = build_model(ModelConfig(backbone="{BACKBONE}", embedding_dim=16, pretrained="imagenet"))
    print(float(model.backbone.stem[0].weight.double().sum()))
except ConfigError as error:
    print(error)
"""


def fetch(tmp_path, endpoint):
    environment = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
        "PATH": "/usr/bin:/bin",
    }
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FETCH], capture_output=True, text=True, env=environment, cwd=root, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_imagenet_weights_come_from_the_hub(tmp_path, weights):
    class Filled(Hub):
        content = safetensors.torch.save(dict(timm.create_model(BACKBONE).state_dict()))

    expected = safetensors.torch.load(Filled.content)["stem.0.weight"].double().sum()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Filled)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        answer = fetch(tmp_path, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert float(answer) == pytest.approx(float(expected))


def test_a_hub_that_is_not_there_is_answered_with_the_ways_out(tmp_path):
    class Empty(Hub):
        def do_GET(self):
            self.send_response(404)
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        answer = fetch(tmp_path, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert "could not be fetched from timm's hub" in answer
    assert 'or to "none"' in answer


def test_layer_scale_is_set_where_weights_are_random(tmp_path, weights):
    random = build_model(ModelConfig(backbone=BACKBONE, embedding_dim=16, layer_scale=0.1))
    assert float(random.backbone.stages[0].blocks[0].gamma[0].detach()) == pytest.approx(0.1)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(weights, path)
    loaded = build_model(ModelConfig(backbone=BACKBONE, embedding_dim=16, layer_scale=0.1, pretrained=str(path)))
    assert same_backbone(loaded, weights)
    with pytest.raises(ConfigError, match="test_efficientnet has no layer scale"):
        build_model(ModelConfig(backbone="test_efficientnet", embedding_dim=16, layer_scale=0.1))
