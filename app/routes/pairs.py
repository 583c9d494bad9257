"""What `/submission` and `/similarity/batch` share: a table of pairs and its photos in, the same road, a CSV out."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Response, UploadFile
from starlette.responses import StreamingResponse

from app.jobs.plan import make_plan
from app.problems import Calls, responses
from app.reid.scoring import TableKind, score_pairs
from app.routes import ModelDep, SettingsDep, WorkersDep
from app.routes.jobs import ACCEPTED, CSV_DOCS, JobsDep, WantsJob, table_headers, take_job
from app.uploads import read_csv

IMAGES_HELP = (
    "Photos, zips of photos, or both; a CSV's names are looked up among them. Without any, the service looks below its"
    " image root."
)


def csv_responses(example: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI: a CSV that looks like `example`, or a problem."""
    content = {"text/csv": {"schema": {"type": "string"}, "example": example}}
    made = {"description": "A CSV.", "content": content, "headers": CSV_DOCS}
    return {200: made, **ACCEPTED, **responses(Calls.PHOTOS, Calls.TABLES)}


@dataclass(frozen=True)
class TableCall:
    """A dependency: what a call with a table works with."""

    settings: SettingsDep
    workers: WorkersDep
    model: ModelDep
    jobs: JobsDep
    wants_job: WantsJob

    async def answer(self, kind: TableKind, upload: UploadFile, images: Sequence[UploadFile]) -> Response:
        """A table's scores as a file to keep, or where the client prefers it the address of a job that makes it.

        All that can fail has happened before the first byte is sent.

        Raises:
            TableError, NoImagesError, LookupFailedError, ArchiveError, FileLimitError...: before any photo is embedded.
            ImageError: a photo that cannot be read. BusyError, StorageError: there is no room for a job.
        """
        if self.wants_job:
            return await take_job(self.jobs, kind, upload, images)
        plan = await make_plan(kind, await read_csv(upload, kind.part, self.settings), images, self.settings)
        model = kind.model(self.model)
        embeddings = await self.workers.embed(plan.pairs.photos, model, decode_first=True)
        steps = kind.steps(model.manifest)
        scores = await asyncio.to_thread(score_pairs, plan.pairs, embeddings, model.scale, steps)
        headers = table_headers(kind, model.version, kind.applied(model.manifest))
        # Starlette asks for each piece in a thread: some thousand rows, 10 ms of work, so that the hops do not count.
        return StreamingResponse(kind.write(plan.table, scores), media_type="text/csv", headers=headers)
