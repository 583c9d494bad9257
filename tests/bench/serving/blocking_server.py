"""The server that everybody writes first: FastAPI that decodes and infers inside `async def`.

python -m serving.blocking_server --port 8000 --threads 1
"""

import argparse

import uvicorn
from fastapi import FastAPI, UploadFile
from fastapi.responses import JSONResponse

from serving.engine import load_engine


def create_app(threads: int) -> FastAPI:
    app = FastAPI()
    engine = load_engine(threads)

    @app.post("/embed")
    async def embed(images: UploadFile) -> JSONResponse:
        return JSONResponse({"embedding": engine.embed(await images.read()).tolist()})

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    uvicorn.run(create_app(arguments.threads), host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
