"""`GET /health/live`, `GET /health/ready`: for whatever restarts the service or sends it traffic."""

from fastapi import APIRouter

from app.problems import Calls, responses
from app.routes import WorkersDep
from app.schemas import Health

router = APIRouter(prefix="/health", tags=["service"])


@router.get("/live", responses=responses())
async def live(workers: WorkersDep) -> Health:
    """200 as long as the process answers. `curl localhost:8000/health/live`"""
    return Health(status="ok", model_version=workers.model.version)


@router.get("/ready", responses=responses(Calls.HEALTH))
async def ready(workers: WorkersDep) -> Health:
    """200 if a forward pass ended within 5 s or one goes through now; 503 otherwise. Never takes longer than 1 s.

    `curl localhost:8000/health/ready`
    """
    await workers.check_ready()
    return Health(status="ok", model_version=workers.model.version)
