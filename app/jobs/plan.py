"""What a table asks for, looked at whole: the same before a job is taken and each time it is begun."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.datastructures import UploadFile

from app.reid.scoring import BATCH, POSTPROCESSED, SUBMISSION, PhotoPairs, TableKind, find_photos
from app.reid.tables import PairTable
from app.settings import Settings
from app.uploads import photo_source

KINDS = {kind.name: kind for kind in (SUBMISSION, POSTPROCESSED, BATCH)}
# The answer repeats the CSV's fields, at worst all of them quoted, and adds up to four of its own to each row.
_QUOTED, _SCORE_BYTES = 2, 64


@dataclass(frozen=True, eq=False)
class Plan:
    """A table, and the photos that it needs."""

    kind: TableKind
    table: PairTable
    pairs: PhotoPairs

    @property
    def photos(self) -> int:
        """How many distinct photos there are."""
        return len(self.pairs.photos)

    def fingerprint(self) -> str:
        """Tells whether two plans have the same photos, by name, in the same order."""
        return hashlib.sha256("\n".join(label for label, _ in self.pairs.photos).encode()).hexdigest()

    def size(self, uploads: Sequence[UploadFile], dimensions: int) -> int:
        """Bytes of disk that a job of this may take while it is worked on."""
        csv = len(self.table.data)
        answer = _QUOTED * csv + _SCORE_BYTES * len(self.table)
        return csv + answer + 4 * dimensions * self.photos + sum(upload.size or 0 for upload in uploads)


async def make_plan(kind: TableKind, data: bytes, uploads: Sequence[UploadFile], settings: Settings) -> Plan:
    """Reads a CSV's bytes and finds its photos.

    Raises:
        TableError, NoImagesError, LookupFailedError, ArchiveError, FileLimitError...: what a synchronous call answers.
    """
    table = await asyncio.to_thread(partial(kind.read, data, max_rows=settings.max_csv_rows))
    source = await photo_source(uploads, settings)
    pairs = await asyncio.to_thread(find_photos, table, source)
    kind.check(pairs)
    return Plan(kind, table, pairs)
