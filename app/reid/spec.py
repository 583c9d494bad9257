"""What a bundle says of its pictures and its network: frozen, unknown fields refused, the same after JSON and back."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Channel = Annotated[int, Field(ge=0, le=255)]
Pooling = Literal["avg", "gem", "grid"]
Side = Annotated[int, Field(ge=16, le=4096)]
StdDev = Annotated[float, Field(gt=0)]


def _square(value: object) -> object:
    """A single number stands for a square; JSON knows no tuples."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    return tuple(value) if isinstance(value, list) else value


class Spec(BaseModel):
    """Base of everything that is written into a manifest or read from a config."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PreprocessSpec(Spec):
    """From a decoded picture to the network's input; training and service share it through the bundle.

    size: height and width in pixels of the input (one number: a square).
    fit: `squash` resizes to `size` and ignores the aspect ratio; `pad` keeps it and fills with `background`.
    interpolation: Pillow's filter for resizing.
    mean, std: of each RGB channel in [0, 1], subtracted and divided by (ImageNet's by default).
    alpha: `composite` lays a cut-out on `background`; `ignore` shows the hidden colour below it.
    background: RGB, 0 to 255, under cut-outs and around padded pictures.
    jpeg_draft: decode a JPEG at 1/2, 1/4 or 1/8 where that leaves at least 3 times `size` on both sides.
    """

    size: Annotated[tuple[Side, Side], BeforeValidator(_square)] = (224, 224)
    fit: Literal["squash", "pad"] = "squash"
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[StdDev, StdDev, StdDev] = IMAGENET_STD
    alpha: Literal["composite", "ignore"] = "composite"
    background: tuple[Channel, Channel, Channel] = (255, 255, 255)
    jpeg_draft: bool = True


class ModelSpec(Spec):
    """The network: a timm backbone by name, its pooling, and the length of the embedding.

    pooling: over the last feature map: `avg`, its mean; `grid`, the means of its parts side by side (`pooling.Grid`),
    which keeps where in the picture something lies; or `gem`, a mean of powers whose exponent is learnt
    (`pooling.GeM`), for which no heat map can be drawn.
    """

    backbone: str = Field(default="convnext_atto", min_length=1)
    pooling: Pooling = "avg"
    embedding_dim: int = Field(default=512, ge=1, le=65_536)
