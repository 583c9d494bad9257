"""A submission from several bundles, such as the models of the folds: the mean of their cosines."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.reid.cores import available_cores
from app.reid.embedder import Embedder, load_model
from app.reid.errors import DataError, ImageError
from app.reid.photos import Photo, PhotoFolder
from app.reid.preprocess import Float32, Pixels
from app.reid.scoring import SUBMISSION, PhotoPairs, Scores, find_photos, score_pairs
from app.reid.similarity import unit_interval
from app.reid.spec import PreprocessSpec
from app.reid.tables import PairTable, read_test
from training.data import Progress
from training.state import replace_file

TEST_CSV, SUBMISSION_CSV = "test.csv", "submission.csv"
_PHOTOS_AT_A_TIME = 64


@dataclass(frozen=True, eq=False)
class SubmissionPairs:
    """The competition's `test.csv` and the photos behind it, all of which were found."""

    table: PairTable
    pairs: PhotoPairs


def read_test_pairs(test: Path, data: Path) -> SubmissionPairs:
    """`test.csv`, and a folder with its photos, bare or in `test/` or `test/test/`.

    Raises:
        DataError: the table cannot be read. TableError: it breaks its contract. LookupFailedError: photos are missing.
    """
    try:
        table = read_test(test.read_bytes())
    except OSError as error:
        raise DataError(f"{test}: {error.strerror}") from error
    return SubmissionPairs(table, find_photos(table, PhotoFolder(data, label=str(data))))


def write_submission(
    bundles: Sequence[Path], test: SubmissionPairs, out: Path, *, progress: Progress | None = None
) -> None:
    """`row_id,similarity`: (c + 1) / 2 of the mean c over the bundles of the cosine that each gives the pair.

    Each photo is read once, and decoded once for all bundles that take it alike.

    Raises:
        BundleError: as `load_model`. DataError: photos that cannot be read, all of them listed, or `out` cannot be
            written; nothing is written then.
    """
    embedders = [load_model(bundle).embedder for bundle in bundles]
    parts: list[list[Float32]] = [[] for _ in bundles]
    problems: list[str] = []
    for prepared in _prepare(test.pairs.photos, embedders, problems, progress):
        for embedder, embeddings in zip(embedders, parts, strict=True):
            embeddings.append(embedder.embed_prepared(prepared[embedder.spec]))
    if problems:
        raise DataError(f"{len(problems)} of the {len(test.pairs.photos)} photos cannot be used", problems)
    scores = mean_scores(test.pairs, [np.concatenate(embeddings) for embeddings in parts])
    text = "".join(SUBMISSION.write(test.table, scores)).encode()
    replace_file(out, lambda file: file.write(text))


def mean_scores(pairs: PhotoPairs, embeddings: Sequence[Float32]) -> Scores:
    """(N, D) embeddings of the N photos from each bundle -> the scores of all pairs, cosines averaged."""
    cosine = np.mean([score_pairs(pairs, each).cosine for each in embeddings], axis=0)
    return Scores(cosine, unit_interval(cosine))


def _prepare(
    photos: list[tuple[str, Photo]], embedders: Sequence[Embedder], problems: list[str], progress: Progress | None
) -> Iterator[dict[PreprocessSpec, list[Pixels]]]:
    """The photos as each spec wants them, some at a time; once one cannot be read, the rest is only looked at."""
    by_spec = {embedder.spec: embedder for embedder in embedders}

    def prepare(named: tuple[str, Photo]) -> dict[PreprocessSpec, Pixels] | str:
        name, photo = named
        try:
            data = photo.read()
            return {spec: embedder.prepare(data, name) for spec, embedder in by_spec.items()}
        except (ImageError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(photos), _PHOTOS_AT_A_TIME):
            answers = list(pool.map(prepare, photos[start : start + _PHOTOS_AT_A_TIME]))
            problems += [answer for answer in answers if isinstance(answer, str)]
            if not problems:
                read = [answer for answer in answers if not isinstance(answer, str)]
                yield {spec: [pixels[spec] for pixels in read] for spec in by_spec}
            if progress:
                progress(start + len(answers), len(photos))
