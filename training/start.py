"""Where a network's weights start: timm's hub, a weights file, another bundle, or nowhere."""

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from app.reid.bundle import TORCH_WEIGHTS, open_bundle
from app.reid.errors import BundleError, ConfigError
from app.reid.network import GEM_POWER, EmbeddingModel, create_backbone, load_weights
from training.config import ModelConfig

_CLASSIFIERS = ("head.fc.", "classifier.", "fc.", "head.weight", "head.bias")


def build_model(config: ModelConfig) -> EmbeddingModel:
    """The network with its start weights.

    Raises:
        ConfigError: an unknown backbone, a hub that cannot be reached, or a file that cannot be read.
        BundleError: tensors that do not fit; each is named with both shapes.
    """
    model = EmbeddingModel(config.spec, drop_path=config.drop_path)
    if config.pretrained == "none":
        _set_layer_scale(model, config)
        return model
    if config.pretrained == "imagenet":
        _put_backbone(model, _download(config.backbone), f"timm's weights of {config.backbone}")
        return model
    source = Path(config.pretrained)
    if source.is_dir():
        _start_from_bundle(model, source)
    else:
        _start_from_file(model, source)
    return model


def _set_layer_scale(model: EmbeddingModel, config: ModelConfig) -> None:
    if config.layer_scale is None:
        return
    scales = [tensor for name, tensor in model.backbone.named_parameters() if name.endswith(".gamma")]
    if not scales:
        raise ConfigError(f"model.layer_scale: the backbone {config.backbone} has no layer scale")
    with torch.no_grad():
        for tensor in scales:
            tensor.fill_(config.layer_scale)


def _download(backbone: str) -> dict[str, Tensor]:
    """ImageNet weights from timm's hub."""
    try:
        return create_backbone(backbone, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f'model.pretrained = "imagenet": the weights of {backbone} could not be fetched from timm\'s hub'
            f" ({type(error).__name__}). Ways out: run once where the hub can be reached (its cache is then used),"
            ' set model.pretrained to the path of a weights file or of a bundle, or to "none"'
        ) from error


def _start_from_bundle(model: EmbeddingModel, folder: Path) -> None:
    """Backbone and neck of another bundle; the neck too, since it was learnt as well. Its pooling may differ, but
    for a grid, whose neck has another width."""
    bundle = open_bundle(folder)
    if bundle.manifest.model.model_copy(update={"pooling": model.spec.pooling}) != model.spec:
        raise BundleError(f"the bundle {folder} holds {bundle.manifest.model}; the config asks for {model.spec}")
    weights = safetensors.torch.load(bundle.read(TORCH_WEIGHTS))
    if model.spec.pooling != bundle.manifest.pooling:
        weights = _without_power(weights) | _power(model)
    load_weights(model, weights, str(folder))


def _start_from_file(model: EmbeddingModel, path: Path) -> None:
    """A backbone's weights as timm names them, safetensors or a torch file of tensors; a classifier is dropped."""
    weights = {name: tensor for name, tensor in read_weights(path).items() if not name.startswith(_CLASSIFIERS)}
    _put_backbone(model, weights, str(path))


def _put_backbone(model: EmbeddingModel, weights: dict[str, Tensor], source: str) -> None:
    """A backbone's weights as timm names them into a network, whose neck and GeM stay as they are."""
    whole = {f"backbone.{name}": tensor for name, tensor in weights.items()}
    neck = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("backbone.")}
    load_weights(model, {**neck, **_power(model), **whole}, source)


def _power(model: EmbeddingModel) -> dict[str, Tensor]:
    """GeM's exponent, which no weights of timm's hold; nothing where the network has none."""
    return {name: tensor for name, tensor in model.state_dict().items() if name.endswith(GEM_POWER)}


def _without_power(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.endswith(GEM_POWER)}


def read_weights(path: Path) -> dict[str, Tensor]:
    """A file's tensors by name, in its order; safetensors, or a torch file of nothing but tensors.

    Raises:
        ConfigError: no such file, or it is not one of weights.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(f"weights {str(path)!r}: there is no such file or bundle") from error
    except (OSError, safetensors.SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise ConfigError(f"weights {str(path)!r}: not a weights file") from error
    except Exception as error:  # torch's refusal to unpickle is a class of its own
        raise ConfigError(
            f"weights {str(path)!r}: holds more than tensors, and nothing is ever unpickled here"
        ) from error
    return {str(name): tensor for name, tensor in loaded.items() if isinstance(tensor, Tensor)}
