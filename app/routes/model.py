"""`GET /model`: what is being served."""

from fastapi import APIRouter, Response

from app.problems import responses
from app.routes import VERSION_HEADER, SettingsDep, WorkersDep, answer
from app.schemas import ModelInfo

router = APIRouter(tags=["service"])


@router.get("/model", responses={**answer(ModelInfo), **responses()})
async def model(response: Response, workers: WorkersDep, settings: SettingsDep) -> ModelInfo:
    """The manifest in short. `curl localhost:8000/model`"""
    manifest = workers.model.manifest
    response.headers[VERSION_HEADER] = workers.model.version
    return ModelInfo(
        model_version=workers.model.version,
        name=manifest.name,
        created=manifest.created,
        backbone=manifest.backbone,
        embedding_dim=manifest.embedding_dim,
        pooling=manifest.pooling,
        preprocess=manifest.preprocess,
        metrics=dict(manifest.metrics),
        calibrated=manifest.calibration is not None,
        runtime=settings.runtime,
        precision=settings.precision,
    )
