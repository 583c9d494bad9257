"""The engine in this process: the bundle that the settings name, and as many threads as there are cores."""

import asyncio
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from app.cli.answers import Compared, Float32, Scored, TableName
from app.cli.exits import CommandError
from app.cli.files import check_folder, read_file, shown
from app.cli.progress import Progress, counting
from app.errors import FileLimitError
from app.photo_work import Named, PhotoWork
from app.reid.embedder import LoadedModel
from app.reid.errors import ImageError, TableError
from app.reid.explain import Places, can_explain, compare, find_places, photo_box
from app.reid.photos import Photo, PhotoFile, PhotoFolder
from app.reid.preprocess import decode_image, fit
from app.reid.scoring import BATCH, POSTPROCESSED, SUBMISSION, TableKind, find_photos, score_pairs
from app.reid.similarity import cosine_matrix
from app.reid.tables import PairTable
from app.settings import Settings, load_settings
from app.workers import Workers, load_served

_KINDS: dict[TableName, TableKind] = {
    "submission": SUBMISSION,
    "postprocessed-submission": POSTPROCESSED,
    "batch": BATCH,
}


class LocalEngine:
    """Answers what a service with the same settings would, to the last bit. It keeps no cache."""

    def __init__(self, settings: Settings) -> None:
        """Loads the bundle only when there is something to do with it."""
        self._settings = settings

    @classmethod
    def from_environment(cls) -> "LocalEngine":
        """With the settings of the environment. Raises ConfigError."""
        return cls(load_settings())

    @cached_property
    def _model(self) -> LoadedModel:
        return load_served(self._settings)

    def compare(self, a: Path, b: Path) -> Compared:
        """How alike two photos are."""
        embeddings = self._embed([self._named(a), self._named(b)])
        return self._compared(float(cosine_matrix(embeddings[:1], embeddings[1:])[0, 0]))

    def explain(self, a: Path, b: Path) -> tuple[Compared, bytes]:
        """Likewise, and both photos under what each of their places adds. Raises CommandError: the bundle cannot."""
        from app.reid.overlay import Panel, draw_overlay, thumbnail  # noqa: PLC0415 - fonts, and all of Pillow's pens

        embedder = self._model.embedder
        if not can_explain(embedder):
            raise CommandError(
                f"the network of the bundle {self._model.manifest.name} does not tell what each place adds",
                advice="A ConvNeXt with pooling avg or grid does, exported by this version of jaguar-train.",
            )
        seen: list[tuple[Places, Panel]] = []
        for name, photo in (self._named(a), self._named(b)):
            picture = decode_image(_read(name, photo), embedder.spec, name=name, max_pixels=embedder.max_pixels)
            places = find_places(embedder, fit(picture, embedder.spec))
            rows, columns, _ = places.places.shape
            box = photo_box(picture.size, embedder.spec, (rows, columns))
            seen.append((places, Panel(thumbnail(picture, embedder.spec), box)))
        explanation = compare(seen[0][0], seen[1][0])
        return self._compared(explanation.cosine), draw_overlay(explanation, seen[0][1], seen[1][1])

    def embed(self, photos: Sequence[Path], tell: Progress) -> tuple[str, Float32]:
        """The model_version, and (N, D) embeddings."""
        named = [self._named(path) for path in photos]
        return self._model.version, self._embed(named, counting(tell, len(named), "photos"))

    def score(self, kind: TableName, table: Path, images: Path | None, file: BinaryIO, tell: Progress) -> Scored:
        """Writes a table's scores. All that is wrong with the table is told before a photo is embedded."""
        how = _KINDS[kind]
        rows = self._read_table(how, table)
        pairs = find_photos(rows, PhotoFolder(self._folder(images), "the folder of photos"))
        how.check(pairs)
        for name, photo in pairs.photos:
            self._check_size(name, photo)
        model = how.model(self._model)
        embeddings = self._embed(pairs.photos, counting(tell, len(pairs.photos), "photos"), model)
        for piece in how.write(rows, score_pairs(pairs, embeddings, model.scale, how.steps(model.manifest))):
            file.write(piece.encode())
        return Scored(model.version, how.applied(model.manifest))

    def model(self) -> dict[str, Any]:
        """What would be served, after a look at all of it."""
        model, settings = self._model, self._settings
        manifest = model.manifest
        return {
            "model_version": model.version,
            "name": manifest.name,
            "created": manifest.created,
            "backbone": manifest.backbone,
            "embedding_dim": manifest.embedding_dim,
            "pooling": manifest.pooling,
            "preprocess": manifest.preprocess.model_dump(mode="json"),
            "metrics": dict(manifest.metrics),
            "calibrated": model.scale is not None,
            "runtime": settings.runtime,
            "precision": settings.precision,
            "calibration": model.scale and model.scale.calibration.model_dump(mode="json"),
            "prior": model.scale and model.scale.prior,
        }

    def _compared(self, cosine: float) -> Compared:
        similarity, scale = (cosine + 1.0) / 2.0, self._model.scale
        probability, verdict = (None, None) if scale is None else scale.read(similarity)
        return Compared(self._model.version, similarity, cosine, probability, verdict)

    def _folder(self, images: Path | None) -> Path:
        folder = images or self._settings.image_root
        if folder is None:
            advice = "Name their folder with --images, or set JAGUAR_IMAGE_ROOT."
            raise CommandError("no photos were named", advice=advice)
        check_folder(folder)
        return folder

    def _named(self, path: Path) -> Named:
        name, photo = shown(path), PhotoFile(path)
        self._check_size(name, photo)
        return name, photo

    def _check_size(self, name: str, photo: Photo) -> None:
        limit = self._settings.max_image_bytes
        if isinstance(photo, PhotoFile) and (size := _size(photo.path)) > limit:
            raise FileLimitError(f"{name} has {size} bytes; the limit is {limit:d} (JAGUAR_MAX_IMAGE_BYTES)")

    def _read_table(self, kind: TableKind, path: Path) -> PairTable:
        data, limit = read_file(path), self._settings.max_csv_bytes
        if len(data) > limit:
            raise FileLimitError(f"{shown(path)} has {len(data)} bytes; the limit is {limit:d} (JAGUAR_MAX_CSV_BYTES)")
        try:
            return kind.read(data, max_rows=self._settings.max_csv_rows)
        except TableError as error:  # the engine calls it by its part of a request
            summary = f"{shown(path)}: {error.summary.removeprefix(kind.part).lstrip(': ')}"
            raise type(error)(summary, error.all_problems) from error

    def _embed(
        self,
        photos: Sequence[Named],
        embedded: Callable[[], object] = lambda: None,
        model: LoadedModel | None = None,
    ) -> Float32:
        """(N, D) embeddings, `embedded` called after each. Ctrl-C is heard after the photos that are under way."""
        model = model or self._model
        # Nobody else waits here: a photo may take the time it takes.
        workers = Workers(model, PhotoWork(on_embedded=embedded), timeout_s=math.inf)
        try:
            return asyncio.run(workers.embed(photos, model))
        finally:
            workers.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone since it was found: reading it will say so, with its name
        return 0


def _read(name: str, photo: Photo) -> bytes:
    try:
        return photo.read()
    except OSError as error:
        raise ImageError(f"{name}: the file cannot be read") from error
