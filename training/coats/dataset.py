"""draw_dataset: invented jaguars in the competition's exact layout, with the truth about the test photos."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app.reid.cores import available_cores
from app.reid.errors import DataError
from app.reid.rows import write_rows
from app.reid.tables import FILENAME, GALLERY, IDENTITY, QUERY, ROW_ID, write_submission
from training.coats.animal import Animal, animal
from training.coats.herd import MIN_SIDE, check
from training.coats.photo import render
from training.coats.plan import Shot, plan_test, plan_train
from training.coats.scene import draw_scene, nudge
from training.coats.species import Kind

SIZE = (480, 320)

_SIZES = 0.85, 1.2  # the longer side of photos, shares of the size asked for
_ASPECT = 0.2  # standard deviation of the logarithm of the aspect ratio
_POOL_PAYS = 160  # photos; below this, starting processes costs more than it saves
_COMPRESS = 1  # zlib; noise hardly compresses: level 6 takes four times as long for a tenth less


@dataclass(frozen=True)
class Look:
    """`size` (width, height) in pixels, from which photos vary; `kinds` of coats, which take turns by species.

    `alike` identities in a row are of one species: they differ in the arrangement of their marks alone.
    """

    size: tuple[int, int] = SIZE
    kinds: tuple[Kind, ...] = ("rosettes",)
    alike: int = 1


JAGUARS = Look()


def draw_dataset(
    out: Path,
    *,
    identities: int,
    photos: int,
    test: int = 371,
    seed: int = 0,
    look: Look = JAGUARS,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> None:
    """Draws `photos` training photos of each of `identities` jaguars, and `test` test photos, into the folder `out`.

    Below `out`, as on Kaggle: train.csv, test.csv (all ordered pairs), sample_submission.csv, train/train/*.png,
    test/test/*.png; and test_truth.csv, which Kaggle keeps. The photos come first, so a folder with CSVs is complete.
    `progress(done, total)` counts photos. Each photo hangs on its arguments alone: the number of `workers` (processes;
    None = one a core) changes no byte.

    Raises:
        DataError: `out` holds something, a number below its limit or an unknown kind; the message names all.
    """
    limits = [("identities", identities, 1), ("photos", photos, 1), ("test", test, 2), ("seed", seed, 0)]
    limits += [("width", look.size[0], MIN_SIDE), ("height", look.size[1], MIN_SIDE), ("alike", look.alike, 1)]
    check([*limits, ("workers", 1 if workers is None else workers, 1)], look.kinds)
    _check_empty(out)
    train_shots = plan_train(seed, identities, photos)
    test_shots = plan_test(seed, identities, test)
    for folder in sorted({shot.folder for shot in (*train_shots, *test_shots)}):
        (out / folder).mkdir(parents=True, exist_ok=True)
    _draw_all(out, seed, look, [*train_shots, *test_shots], progress, workers)
    _write_tables(out, seed, train_shots, test_shots)


def draw_shot(subject: Animal, seed: int, shot: Shot, size: tuple[int, int]) -> Image.Image:
    """One photo of the set, RGBA; `subject` wears the coat of the shot's flank."""
    chance = np.random.default_rng((seed, 3, shot.scene))
    scene = draw_scene(chance)
    pixels = _vary(chance, size)
    own = np.random.default_rng((seed, 4, shot.scene, shot.frame))
    if shot.frame:
        scene = nudge(scene, own)
    return Image.fromarray(render(subject, scene, own, size=pixels, flank=shot.flank))


def _vary(rng: np.random.Generator, size: tuple[int, int]) -> tuple[int, int]:
    """A photo's own size around the one asked for."""
    scale, aspect = rng.uniform(*_SIZES), np.exp(rng.normal(0.0, _ASPECT))
    width, height = size[0] * scale * np.sqrt(aspect), size[1] * scale / np.sqrt(aspect)
    return max(MIN_SIDE, round(float(width))), max(MIN_SIDE, round(float(height)))


def _check_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not an empty folder; name a new one, nothing was written")


def _draw_all(
    out: Path,
    seed: int,
    look: Look,
    shots: Sequence[Shot],
    progress: Callable[[int, int], None] | None,
    workers: int | None,
) -> None:
    """Draws and saves all photos, one flank of one animal at a time, since these share a coat."""
    done, report = 0, progress or _silent
    report(0, len(shots))
    for count in _run(out, seed, look, _by_flank(shots), workers or available_cores(), len(shots)):
        done += count
        report(done, len(shots))


def _run(out: Path, seed: int, look: Look, groups: list[list[Shot]], workers: int, total: int) -> Iterator[int]:
    """Numbers of photos saved, as they are saved: one by one here, or group by group in processes."""
    if workers == 1 or total < _POOL_PAYS:
        for group in groups:
            yield from _draw_group(out, seed, look, group)
        return
    # spawn: a fork of a process with threads (torch, BLAS) may hang, and Python warns of it.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            jobs = [pool.submit(_count_group, out, seed, look, group) for group in groups]
            for job in as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _count_group(out: Path, seed: int, look: Look, group: list[Shot]) -> int:
    return sum(_draw_group(out, seed, look, group))


def _draw_group(out: Path, seed: int, look: Look, group: list[Shot]) -> Iterator[int]:
    """Draws the shots of one flank and saves them; yields 1 after each."""
    first = group[0]
    subject = animal(seed, first.identity, first.flank, kinds=look.kinds, alike=look.alike)
    for shot in group:
        draw_shot(subject, seed, shot, look.size).save(out / shot.folder / shot.filename, compress_level=_COMPRESS)
        yield 1


def _by_flank(shots: Sequence[Shot]) -> list[list[Shot]]:
    groups: dict[tuple[int, str], list[Shot]] = {}
    for shot in shots:
        groups.setdefault((shot.identity, shot.flank), []).append(shot)
    return list(groups.values())


def _silent(_done: int, _total: int) -> None:
    """No one asked for progress."""


def _write_tables(out: Path, seed: int, train: Sequence[Shot], test: Sequence[Shot]) -> None:
    names = [shot.filename for shot in test]
    pairs = [(query, gallery) for query in names for gallery in names if query != gallery]
    row_ids = [str(number) for number in range(len(pairs))]
    random = np.random.default_rng((seed, 5)).random(len(pairs)).tolist()
    rows = ((row, *pair) for row, pair in zip(row_ids, pairs, strict=True))
    _write(out / "test_truth.csv", write_rows((FILENAME, IDENTITY), ((shot.filename, shot.name) for shot in test)))
    _write(out / "sample_submission.csv", write_submission(row_ids, random))
    _write(out / "test.csv", write_rows((ROW_ID, QUERY, GALLERY), rows))
    _write(out / "train.csv", write_rows((FILENAME, IDENTITY), ((shot.filename, shot.name) for shot in train)))


def _write(path: Path, pieces: Iterator[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(pieces)
