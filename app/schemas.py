"""Answers in JSON. Every one of them carries the model_version that made it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from app.reid.calibration import Calibration, Verdict
from app.reid.embedder import Precision, RuntimeName
from app.reid.spec import PreprocessSpec

_VERSION = "3f9c1a7be204"


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model_version: str = Field(
        description="Over all that an embedding depends on; never compare embeddings of two versions.",
        examples=[_VERSION],
    )


class Similarity(Answer):
    """How alike two photos are."""

    similarity: float = Field(ge=0, le=1, description="(cosine + 1) / 2", examples=[0.87340912])
    cosine: float = Field(ge=-1, le=1, description="Of the two embeddings, in float64.", examples=[0.74681824])
    probability: float | None = Field(
        ge=0,
        le=1,
        description="That both show the same jaguar, with the prior that `GET /model` states; null while the bundle is"
        " uncalibrated.",
        examples=[0.913],
    )
    verdict: Verdict | None = Field(
        description="`same`: at most 1 % of different pairs score as high. `different`: at most 5 % of same pairs score"
        " as low. null while the bundle is uncalibrated.",
        examples=["uncertain"],
    )


class ImageEmbedding(BaseModel):
    """One photo's embedding."""

    filename: str = Field(description="As it was sent.", examples=["left_flank.jpg"])
    embedding: list[float] = Field(description="Unit norm.", examples=[[0.0441941, -0.0191277, 0.0833212]])


class Embeddings(Answer):
    """Embeddings in the order in which the photos were sent."""

    embeddings: list[ImageEmbedding] = Field(
        examples=[[{"filename": "left_flank.jpg", "embedding": [0.0441941, -0.0191277, 0.0833212]}]]
    )


class ModelInfo(Answer):
    """What the manifest says of the bundle that is served."""

    name: str = Field(examples=["default"])
    created: str = Field(examples=["2026-11-24T10:00:00Z"])
    backbone: str = Field(description="timm's name.", examples=["convnext_atto"])
    embedding_dim: int = Field(examples=[512])
    pooling: str = Field(examples=["avg"])
    preprocess: PreprocessSpec = Field(examples=[PreprocessSpec().model_dump(mode="json")])
    metrics: dict[str, Any] = Field(description="As measured when it was trained.", examples=[{"id_map": 0.61}])
    calibrated: bool = Field(
        description="Whether answers hold a probability and a verdict; in int8 they do not.", examples=[True]
    )
    runtime: RuntimeName = Field(examples=["onnx"])
    precision: Precision = Field(examples=["float32"])
    calibration: Calibration | None = Field(
        description="What they rest on, as the manifest has it; null while they are not known.", examples=[None]
    )
    prior: float | None = Field(
        gt=0,
        lt=1,
        description="The share of same pairs that probabilities assume (JAGUAR_PRIOR); null while they are not known.",
        examples=[0.5],
    )


class Health(Answer):
    """The service is well; where it is not, the answer is a problem."""

    status: str = Field(examples=["ok"])


class JobStatus(BaseModel):
    """Where a piece of long work stands."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    id: str = Field(description="Whoever knows it may read and delete the job.", examples=["f4Qk0vX3T5mJ8dYw2sLz1A"])
    kind: Literal["submission", "postprocessed-submission", "batch"] = Field(
        description="What was asked for.", examples=["submission"]
    )
    state: Literal["queued", "running", "done", "failed", "cancelled"] = Field(
        description="The last three are final; `cancelled` is seen by whoever watches a job that is deleted.",
        examples=["running"],
    )
    done: int = Field(ge=0, description="Photos that are embedded.", examples=[96])
    total: int = Field(ge=0, description="All distinct photos.", examples=[371])
    created: datetime = Field(description="When it was taken.", examples=["2026-11-24T10:00:00Z"])
    started: datetime | None = Field(description="When it was first worked on.", examples=["2026-11-24T10:00:01Z"])
    finished: datetime | None = Field(description="When it reached its final state.", examples=[None])
    model_version: str | None = Field(
        description="Of the embeddings; null before the first. A job in which it changes starts over.",
        examples=[_VERSION],
    )
    postprocess: str | None = Field(
        description="What is done to the scores; null before it is known, and where it was not asked for.",
        examples=[None],
    )
    problem: Annotated[dict[str, Any], WithJsonSchema({"$ref": "#/components/schemas/Problem"})] | None = Field(
        description="Why it failed: the answer that the request would have got.", examples=[None]
    )
    result: str | None = Field(description="Where the CSV is, once it is done.", examples=[None])


class ExplainedPhoto(BaseModel):
    """What each place of one photo adds to the cosine, and where those places are in it."""

    grid: list[list[float]] = Field(description="Row by row from the top; it sums to the cosine.")
    coverage: list[list[float]] = Field(description="The share of each place that shows the photo; 0 is padding.")
    box: tuple[float, float, float, float] = Field(
        description="The photo's left, top, right and bottom edge in the grid, in places."
    )
    size: tuple[int, int] = Field(
        description="Width and height of the upright photo as it was decoded: of a large JPEG, 1/2, 1/4 or 1/8."
    )


class LinkEnd(BaseModel):
    """A place of a photo: in the grid, and its middle in the photo."""

    row: int = Field(ge=0)
    column: int = Field(ge=0)
    x: float | None = Field(ge=0, le=1, description="Share of the photo's width; null where the place is padding.")
    y: float | None = Field(ge=0, le=1, description="Share of the photo's height; null where the place is padding.")


class PlaceLink(BaseModel):
    """What one place of the one photo and one of the other add to the cosine."""

    value: float
    query: LinkEnd
    gallery: LinkEnd


_PHOTO = {"grid": [[0.21, 0.14]], "coverage": [[1.0, 1.0]], "box": [0.0, 0.0, 2.0, 1.0], "size": [640, 480]}
_ENDS = {"query": {"row": 0, "column": 0, "x": 0.25, "y": 0.5}, "gallery": {"row": 0, "column": 1, "x": 0.75, "y": 0.5}}


class SimilarityExplanation(Answer):
    """A cosine taken apart by the places of both photos."""

    cosine: float = Field(ge=-1, le=1, description="Of the two embeddings, in float64.", examples=[0.35])
    similarity: float = Field(ge=0, le=1, description="(cosine + 1) / 2", examples=[0.675])
    probability: float | None = Field(ge=0, le=1, description="As `POST /similarity` has it.", examples=[0.913])
    verdict: Verdict | None = Field(description="As `POST /similarity` has it.", examples=["uncertain"])
    grid_shape: tuple[int, int] = Field(description="Rows and columns of places, of either photo.", examples=[[1, 2]])
    query: ExplainedPhoto = Field(examples=[_PHOTO])
    gallery: ExplainedPhoto = Field(examples=[_PHOTO])
    links: list[PlaceLink] = Field(
        description="The pairs of places that add most, the largest first.", examples=[[{"value": 0.12, **_ENDS}]]
    )
