"""Answers in JSON. Every one of them carries the model_version that made it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

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
        description="That both show the same jaguar; null while the bundle is uncalibrated.",
        examples=[None],
    )
    verdict: str | None = Field(description="In a word; null while the bundle is uncalibrated.", examples=[None])


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
    calibrated: bool = Field(description="Whether answers hold a probability and a verdict.", examples=[False])
    runtime: RuntimeName = Field(examples=["onnx"])
    precision: Precision = Field(examples=["float32"])


class Health(Answer):
    """The service is well; where it is not, the answer is a problem."""

    status: str = Field(examples=["ok"])
