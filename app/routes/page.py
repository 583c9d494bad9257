"""`GET /`: the web page, and below `/static/` what it is made of: files as they lie in the package, unbuilt."""

from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parents[1] / "static"


class PageFiles(StaticFiles):
    """The page's files. A browser may keep them, and asks each time whether they are still right: 304 is the answer."""

    def __init__(self) -> None:
        """Reads nothing before it is asked to."""
        super().__init__(directory=FOLDER, check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file at a path below the folder. Raises HTTPException: 404, or 405 for anything but GET and HEAD."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def add_page(app: FastAPI) -> None:
    """Serves the page and its files."""
    files = PageFiles()

    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    app.add_route("/", page, methods=["GET"], include_in_schema=False)
    app.mount("/static", files, name="static")
