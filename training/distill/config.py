"""What a distillation says: one TOML file beside those of `fit`, frozen, unknown keys refused."""

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from app.reid.spec import PreprocessSpec, Side, Spec
from training.config import ComputeConfig, Count, ModelConfig, Positive, Share


class PicturesConfig(Spec):
    """Which pictures, and how many views are cut out of them.

    sources: folders below `--pictures` and the weight of each; a folder gets its weight's share of the views, whatever
    number of pictures it holds. views: all of them together. side: of a view in pixels. area: the least share of a
    large picture that a view shows, the share is drawn log-uniformly between that and 1. white: share of cut-outs
    (pictures with alpha) that are laid on white, the others get a random colour. held_out: views that only
    measure; other views of their pictures are learnt, so they tell how far learning is, and nothing of new pictures.
    """

    sources: dict[str, Positive]
    views: Annotated[int, Field(ge=64)] = 40_000
    side: Side = 160
    area: Annotated[float, Field(gt=0, le=1)] = 0.06
    white: Share = 0.5
    held_out: Count = 500

    @field_validator("sources")
    @classmethod
    def _has_sources(cls, sources: dict[str, float]) -> dict[str, float]:
        if not sources:
            raise ValueError("name at least one folder")
        return sources


class TeacherConfig(Spec):
    """The network that is looked up to: timm's name, the side in pixels at which it sees a view, its mean and std.

    whiten: the power of the standard deviation by which each principal direction of its pooled vector is divided; 0
    keeps them, 1 whitens wholly. Source: Jegou and Chum 2012, "Negative evidences and
    co-occurences in image retrieval". gem: the power of its pooling (Radenovic et al. 2018, eq. 1). places: principal
    directions of its last map that are learnt. Directions are found on the views.
    """

    backbone: str = "tf_efficientnet_lite0"
    side: Side = 192
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[Positive, Positive, Positive] = (0.5, 0.5, 0.5)
    whiten: Share = 0.5
    gem: Annotated[float, Field(ge=1)] = 3.0
    places: Count = 192


class LayoutConfig(Spec):
    """What the pooled target says beside the teacher's vector: the places of edges, as histograms of their directions.

    weight: of that half of the target over the other; 0 leaves it out, and the teacher's vector is all. side: of the
    view in pixels on which it is computed. cells: of the grid, a side; directions: over the whole circle. soft: cells
    overlap by half, an edge counts for the two directions nearest to its own, and a cell is seen against its
    neighbours. window: cells weigh by a Gaussian with these deviations, down and across, where 1 is half of the view:
    what a photo is of lies in its middle. Without it all weigh alike. whiten: as the teacher's.
    """

    weight: Annotated[float, Field(ge=0)] = 0.0
    side: Side = 128
    cells: Count = 8
    directions: Count = 8
    soft: bool = False
    window: tuple[Positive, Positive] | None = None
    whiten: Share = 0.5

    @model_validator(mode="after")
    def _cells_fit(self) -> Self:
        if self.side % self.cells:
            raise ValueError(f"side ({self.side}) must be a multiple of cells ({self.cells})")
        if self.soft and self.side // self.cells % 2:
            raise ValueError(
                f"side ({self.side}) over cells ({self.cells}) must be even where soft cells overlap by half"
            )
        return self


class LearningConfig(Spec):
    """AdamW with a warm-up and a cosine, over batches whose views are seen at one of `sizes`, drawn for each batch.

    pooled, places, middle: weights of the three losses (see `Student.losses`). ema_decay: of the averaged weights that
    become the bundle. mirror: share of views that are mirrored, with the teacher's maps. save_every: steps.
    whiten: after the last step, the power of the deviation by which the student's own answers are divided in each of
    their principal directions (`whitening.whiten_neck`); 0 leaves them.
    """

    steps: Count = 3_000
    batch: Annotated[int, Field(ge=2)] = 64
    sizes: Annotated[tuple[Side, ...], Field(min_length=1)] = (96, 128, 160)
    learning_rate: Positive = 1.5e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup: Annotated[int, Field(ge=0)] = 200
    clip_norm: Positive = 3.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    pooled: Positive = 2.0
    places: Annotated[float, Field(ge=0)] = 1.0
    middle: Annotated[float, Field(ge=0)] = 0.5
    mirror: Share = 0.5
    save_every: Count = 250
    whiten: Share = 0.0


class DistillConfig(Spec):
    """A whole distillation. The same config, seed, pictures, teacher and machine give the same weights."""

    seed: Annotated[int, Field(ge=0)] = 0
    model: ModelConfig = ModelConfig()
    preprocess: PreprocessSpec = PreprocessSpec()
    pictures: PicturesConfig
    teacher: TeacherConfig = TeacherConfig()
    layout: LayoutConfig = LayoutConfig()
    learning: LearningConfig = LearningConfig()
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _a_mirror_changes_the_layout(self) -> Self:
        if self.layout.weight and self.learning.mirror:
            raise ValueError("learning.mirror must be 0 where layout.weight is not: a mirrored view has another layout")
        return self
