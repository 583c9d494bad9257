"""What a training run says: one TOML file, frozen, unknown keys refused, every fault named with its line."""

import json
import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, overload

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from app.reid.errors import ConfigError
from app.reid.spec import ModelSpec, PreprocessSpec, Spec

Protocol = Literal["random", "burst", "identity"]
PROTOCOLS: tuple[Protocol, ...] = ("random", "burst", "identity")

LossKind = Literal["cross_entropy", "arcface", "cosface", "triplet", "supcon"]
PAIRWISE: frozenset[LossKind] = frozenset({"triplet", "supcon"})

Config = TypeVar("Config", bound=Spec)

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class ModelConfig(ModelSpec):
    """The network and where its weights start.

    pretrained: `none`, `imagenet` (timm's hub), or the path of a weights file or of a bundle's folder.
    layer_scale: what a ConvNeXt's residual branches are multiplied by where weights start at random; timm's own value,
    1e-6, is made for long runs. Source: Touvron et al. 2021, "Going deeper with Image Transformers", eq. 9.
    drop_path: stochastic depth rate. Source: Huang et al. 2016.
    """

    pretrained: str = "none"
    layer_scale: Annotated[float, Field(gt=0)] | None = None
    drop_path: Rate = 0.0

    @property
    def spec(self) -> ModelSpec:
        """The part that a bundle keeps."""
        return ModelSpec(backbone=self.backbone, pooling=self.pooling, embedding_dim=self.embedding_dim)


class SplitConfig(Spec):
    """How photos are divided into training and validation (design section 8).

    validation: share of the photos. burst_distance: bits of 64 in which two perceptual hashes of one burst may
    differ. burst_seconds: photos of one animal this close in `recorded_at` are one burst.
    """

    protocol: Protocol = "random"
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    burst_distance: Annotated[int, Field(ge=0, le=64)] = 6
    burst_seconds: Annotated[int, Field(ge=0)] = 60


class SamplerConfig(Spec):
    """P identities x K photos = a batch; `steps` batches are an epoch. singletons: one-photo identities train too.

    spread_bursts: an identity's K photos come from different bursts (as `split.burst_...` finds them) as far as it has
    them, so that a pair shares the animal and not the moment, its light and its background.
    """

    identities: Annotated[int, Field(ge=2)] = 8
    photos: Count = 4
    steps: Count = 30
    singletons: bool = True
    spread_bursts: bool = False


class AugmentConfig(Spec):
    """Random changes of the training photos; 0 turns each off.

    brightness, contrast, saturation: largest relative change. grey: share of photos shown as infra-red would.
    rotate: degrees. translate: share of the side. scale: largest relative change. perspective: distortion.
    erase: share of photos that lose a rectangle (Zhong et al. 2020). flip: share that is mirrored, which teaches
    that an animal's two flanks are one pattern; off unless asked for. background: share of cut-outs that are laid on a
    drawn colour, on noise or on another photo's blurred colours instead of on `preprocess.background`; needs alpha.
    """

    brightness: Share = 0.3
    contrast: Share = 0.3
    saturation: Share = 0.3
    grey: Share = 0.1
    rotate: Annotated[float, Field(ge=0, le=180)] = 10.0
    translate: Share = 0.1
    scale: Rate = 0.2
    perspective: Share = 0.0
    erase: Share = 0.5
    flip: Share = 0.0
    background: Share = 0.0


class LossConfig(Spec):
    """One loss (`kind`, cross-entropy if nothing is said) or a weighted sum (`terms = {arcface = 1.0, triplet = 0.5}`).

    head: cross-entropy's classifier: `bnneck` is linear on the BatchNorm output (Luo et al. 2019); `cosine` compares
    unit vectors and multiplies by `scale` (Wang et al. 2017, NormFace). label_smoothing: cross-entropy's alone
    (Szegedy et al. 2016, section 7). scale: of the cosines in `cosine`, arcface and cosface.
    The others act on the unit embedding. arcface_margin: radians, added to the angle (Deng et al. 2019, eq. 3).
    cosface_margin: taken off the cosine (Wang et al. 2018, eq. 4). triplet_margin: between distances, which lie in
    [0, 2]; the batch's hardest pairs (Hermans et al. 2017, eq. 5). supcon_temperature: Khosla et al. 2020, eq. 2.
    """

    kind: LossKind | None = None
    terms: dict[LossKind, Positive] = Field(default={})
    head: Literal["bnneck", "cosine"] = "bnneck"
    scale: Positive = 30.0
    label_smoothing: Rate = 0.05
    arcface_margin: Annotated[float, Field(gt=0, lt=math.pi / 2)] = 0.5
    cosface_margin: Annotated[float, Field(gt=0, lt=1)] = 0.35
    triplet_margin: Annotated[float, Field(gt=0, lt=2)] = 0.3
    supcon_temperature: Positive = 0.1

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "LossConfig":
        if self.kind is not None and self.terms:
            raise ValueError("kind names one loss and terms a sum of several; leave one of them out (terms={} is none)")
        return self

    @property
    def weights(self) -> dict[LossKind, float]:
        """The weight of each loss in the sum, in one order however they were written."""
        terms: dict[LossKind, float] = self.terms or {self.kind or "cross_entropy": 1.0}
        return {kind: terms[kind] for kind in get_args(LossKind) if kind in terms}


class OptimConfig(Spec):
    """AdamW (Loshchilov and Hutter 2019): warm-up, then a cosine to zero.

    learning_rate is the backbone's, head_learning_rate that of neck and head. layer_decay: each layer of the backbone,
    a block or the stem, learns at this share of the next one's rate, the last one at the full rate; 1 = all alike
    (Clark et al. 2020, ELECTRA, appendix B; Bao et al. 2022, BEiT). clip_norm: of the whole gradient.
    ema_decay: of the averaged weights that are evaluated and exported; 0 keeps no average.
    """

    epochs: Count = 30
    learning_rate: Positive = 1e-3
    head_learning_rate: Positive = 2e-3
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_epochs: Annotated[float, Field(ge=0)] = 2.0
    clip_norm: Positive = 5.0
    ema_decay: Rate = 0.99


class SizeSchedule(Spec):
    """Progressive size: training starts at `start` x `preprocess.size` and has reached all of it at `full_at` x steps.

    Both sides grow in steps of 32 pixels. start 1 = full size from the first step. Evaluation is always at full size.
    Source: Tan and Le 2021, EfficientNetV2, section 4.
    """

    start: Annotated[float, Field(gt=0, le=1)] = 1.0
    full_at: Annotated[float, Field(gt=0, lt=1)] = 0.5


class ComputeConfig(Spec):
    """Where it runs. device: `auto` takes a GPU where there is one. workers: loader processes, useful beside a GPU."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: Annotated[int, Field(ge=0)] = 0


class TrainConfig(Spec):
    """A whole training run. The same config, seed, data and machine give the same weights."""

    seed: Annotated[int, Field(ge=0)] = 0
    model: ModelConfig = ModelConfig()
    preprocess: PreprocessSpec = PreprocessSpec()
    split: SplitConfig = SplitConfig()
    sampler: SamplerConfig = SamplerConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    size_schedule: SizeSchedule = SizeSchedule()
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "TrainConfig":
        if self.optim.warmup_epochs >= self.optim.epochs:
            raise ValueError(
                f"optim.warmup_epochs ({self.optim.warmup_epochs}) must be below optim.epochs ({self.optim.epochs})"
            )
        return self

    @model_validator(mode="after")
    def _pairs_to_learn_from(self) -> "TrainConfig":
        pairwise = [kind for kind in self.loss.weights if kind in PAIRWISE]
        if pairwise and self.sampler.photos < 2:
            raise ValueError(
                f"the loss {pairwise[0]} learns from pairs of one identity, and sampler.photos ="
                f" {self.sampler.photos} puts none into a batch; set it to 2 or more"
            )
        return self


@overload
def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig: ...
@overload
def load_config(path: Path, overrides: Sequence[str], kind: type[Config]) -> Config: ...
def load_config(path: Path, overrides: Sequence[str] = (), kind: type[Spec] = TrainConfig) -> Spec:
    """A TOML file, with `key=value` overrides such as `optim.epochs=3` -> the config, a `fit`'s or of another kind.

    Raises:
        ConfigError: no such file, not TOML, or unknown keys and wrong values, each with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path}: not TOML: {error}") from error
    for override in overrides:
        _override(values, override)
    try:
        # JSON in strict mode: "3" is no number and 3.0 no integer, but an array is a tuple.
        return kind.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        problems = [_describe(path, text, overrides, fault) for fault in error.errors()]
        raise ConfigError("; ".join(problems)) from error


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, raw = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not separator or not all(parts):
        raise ConfigError(f"--set {override}: write it as key=value, for example optim.epochs=3")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    table = values
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {part} is not a table")
    table[parts[-1]] = value


def _describe(path: Path, text: str, overrides: Sequence[str], fault: ErrorDetails) -> str:
    keys = [str(part) for part in fault["loc"] if isinstance(part, str) and part != "[key]"]
    name = ".".join(keys)
    message = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix("Value error, ")
    said = [override.partition("=")[0].strip() for override in overrides]
    if any(name == key or name.startswith(f"{key}.") for key in said):
        return f"--set {name}: {message}"
    # An inline table's keys stand on the line of the table.
    line = next((found for end in range(len(keys), 0, -1) if (found := _line_of(text, keys[:end]))), None)
    place = f"{path}, line {line}" if line else str(path)
    return f"{place}: {name}: {message}" if name else f"{place}: {message}"


def _line_of(text: str, keys: Sequence[str]) -> int | None:
    """The line that holds a key, or the header of its table; None if the file does not name it."""
    wanted, table, header = ".".join(keys), "", None
    for number, line in enumerate(text.splitlines(), start=1):
        if match := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            table = match[1]
            header = number if table == wanted else header
        elif match := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            key = match[1].strip("\"'")
            if (f"{table}.{key}" if table else key) == wanted:
                return number
    return header
