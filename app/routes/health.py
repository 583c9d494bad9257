"""`GET /health/live`, `GET /health/ready`: for whatever restarts the service or sends it traffic."""

from fastapi import APIRouter, Request

from app.problems import Calls, responses
from app.routes import ModelDep, WorkersDep
from app.schemas import Health

router = APIRouter(prefix="/health", tags=["service"])


@router.get("/live", responses=responses(Calls.HEALTH))
async def live(model: ModelDep) -> Health:
    """200 as long as the process answers. `curl localhost:8000/health/live`"""
    return Health(status="ok", model_version=model.version)


@router.get("/ready", responses=responses(Calls.HEALTH))
async def ready(request: Request, workers: WorkersDep, model: ModelDep) -> Health:
    """200 if a forward pass ended within 5 s or one goes through now; 503 otherwise, and while the service goes down.

    Never takes longer than 1 s. `curl localhost:8000/health/ready`
    """
    request.app.state.lifecycle.check_open()
    await workers.check_ready()
    return Health(status="ok", model_version=model.version)
