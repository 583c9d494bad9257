"""What schemathesis cannot make up by itself: photos, tables that name them, and jobs that are there.

Named by SCHEMATHESIS_HOOKS. Requests that are meant to be wrong stay as they were made up.
"""

import io
import itertools
import zipfile
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image

TABLES = [
    b"row_id,query_image,gallery_image\n0,a.png,b.png\n1,b.png,a.png\n",
    b"\xef\xbb\xbfgallery_image,site,row_id,query_image\r\nb.png,river,7,test/test/a.png\r\n",
]
TABLE_PARTS = {"/submission": "test_csv", "/similarity/batch": "pairs"}

_turn = itertools.count()
_jobs: list[str] = []


def _photo(kind: str, turned: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").rotate(turned).save(buffer, kind)
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", _photo("png"))
        archive.writestr("test/b.png", _photo("png", 90))
    return buffer.getvalue()


for _kind in ("jpeg", "png", "webp"):
    schemathesis.openapi.media_type(f"image/{_kind}", st.just(_photo(_kind)))
schemathesis.openapi.media_type("application/zip", st.just(_zip()))
schemathesis.openapi.media_type("text/csv", st.sampled_from(TABLES))


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Names the files of a part that may come more than once, asks for every second table as a job, and knows jobs."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    body = case.body if isinstance(case.body, dict) else {}
    table = TABLE_PARTS.get(case.path)
    if isinstance(body.get("images"), bytes):
        name = "1.zip" if body["images"].startswith(b"PK") else "a.png"
        files = [("images", (name, body["images"]))]
        kwargs["files"] = files + ([(table, ("table.csv", body[table], "text/csv"))] if table else [])
    if table and next(_turn) % 2:
        case.headers["Prefer"] = "respond-async"
    if case.path.startswith("/jobs/") and _jobs and next(_turn) % 2:
        case.path_parameters["id"] = _jobs.pop() if case.method == "DELETE" else _jobs[-1]


@schemathesis.hook
def after_call(_: schemathesis.HookContext, __: schemathesis.Case, response: schemathesis.Response) -> None:
    """Remembers which jobs there are."""
    if response.status_code == 202:
        _jobs.append(response.json()["id"])
