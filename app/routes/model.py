"""`GET /model`: what is being served. `POST /model/reload`: serve what lies there now."""

from fastapi import APIRouter, Request, Response

from app.problems import Calls, responses
from app.reid.embedder import LoadedModel
from app.routes import VERSION_HEADER, ModelDep, SettingsDep, answer
from app.schemas import ModelInfo
from app.settings import Settings

router = APIRouter(tags=["service"])


@router.get("/model", responses={**answer(ModelInfo), **responses()})
async def model(response: Response, served: ModelDep, settings: SettingsDep) -> ModelInfo:
    """The manifest in short. `curl localhost:8000/model`"""
    return _info(response, served, settings)


@router.post("/model/reload", responses={**answer(ModelInfo), **responses(Calls.ADMIN)})
async def reload(request: Request, response: Response, settings: SettingsDep) -> ModelInfo:
    """Loads the bundle again and serves it from then on; every answer is of one version.

    A bundle that cannot be served is refused, and the former one serves on. Needs the admin key.

    `curl -X POST -H "Authorization: Bearer $ADMIN_KEY" localhost:8000/model/reload`
    """
    return _info(response, await request.app.state.lifecycle.reload(), settings)


def _info(response: Response, served: LoadedModel, settings: Settings) -> ModelInfo:
    manifest = served.manifest
    response.headers[VERSION_HEADER] = served.version
    return ModelInfo(
        model_version=served.version,
        name=manifest.name,
        created=manifest.created,
        backbone=manifest.backbone,
        embedding_dim=manifest.embedding_dim,
        pooling=manifest.pooling,
        preprocess=manifest.preprocess,
        metrics=dict(manifest.metrics),
        calibrated=served.scale is not None,
        runtime=settings.runtime,
        precision=settings.precision,
        calibration=served.scale and served.scale.calibration,
        prior=served.scale and served.scale.prior,
    )
