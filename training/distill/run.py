"""`jaguar-train distill`: pictures and a teacher -> a bundle."""

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from app.reid.bundle import SPLIT, Origin
from app.reid.errors import ConfigError
from training.distill.config import DistillConfig
from training.distill.lesson import Lesson, Tell
from training.distill.pictures import Picture, plan_pictures
from training.distill.sources import read_origins
from training.distill.student import Student
from training.distill.targets import Targets, make_targets, read_targets
from training.distill.teacher import Teacher
from training.distill.views import cut_views
from training.export import export_bundle
from training.split import SPLIT_COLUMNS
from training.start import build_model
from training.state import STATE, RunFolder, check_places

VIEWS, TARGETS, DONE = "views.npy", "targets", "targets.json"


def distill(
    config: DistillConfig,
    pictures: Path,
    weights: Path,
    out: Path,
    run: Path,
    *,
    resume: bool = False,
    progress: Tell | None = None,
) -> dict[str, JsonValue]:
    """Cuts views, shows them to the teacher (`weights` is its file), teaches the student, writes the bundle.

    progress: what is being done, how much of it, of how much. Returns the bundle's figures: the number of
    held-out views, and of those the mean cosine between student and teacher.

    Raises:
        ConfigError, DataError, BundleError: as the parts say.
        TrainingDivergedError: 5 steps in a row were not finite. InterruptedRunError: Ctrl-C; the state was saved.
    """
    check_places([out], [run])
    Student(build_model(config.model), 1, 1)  # what it cannot start from is said before hours are spent
    folder = RunFolder(run)
    folder.start(resume=resume)
    tell = progress or (lambda _what, _done, _total: None)
    planned = plan_pictures(pictures, config.pictures.sources, config.pictures.views, config.seed)
    table = _split_csv(planned, Path(config.model.pretrained) / SPLIT)
    folder.write_text(SPLIT, table)
    views, targets = _material(config, planned, weights, folder, tell)
    lesson = Lesson(config, views, targets)
    state = folder.load(STATE)
    if state is not None:
        lesson.resume(state)
    lesson.run(folder, tell)
    origins = read_origins([*(pictures / name for name in config.pictures.sources), weights])
    return _export(lesson, out, table, origins)


def _export(lesson: Lesson, out: Path, table: str, origins: tuple[Origin, ...]) -> dict[str, JsonValue]:
    lesson.finish()
    figures = lesson.measure()
    fingerprint = hashlib.sha256(table.encode()).hexdigest()
    export_bundle(
        out,
        lesson.average.model,
        lesson.config,
        fingerprint=fingerprint,
        split_csv=table,
        metrics=figures,
        origins=origins,
    )
    return figures


def _material(
    config: DistillConfig, planned: list[Picture], weights: Path, folder: RunFolder, tell: Tell
) -> tuple[NDArray[np.uint8], Targets]:
    """The views and the teacher's answers; those of an interrupted run are used again if they are the same."""
    made = {
        "pictures": config.pictures.model_dump(mode="json"),
        "teacher": config.teacher.model_dump(mode="json"),
        "layout": config.layout.model_dump(mode="json"),
        "weights": _digest(weights),
        "seed": config.seed,
        "width": config.model.embedding_dim,
    }
    file, answers = folder.path / VIEWS, folder.path / TARGETS
    done = folder.path / DONE
    if done.exists() and json.loads(done.read_text(encoding="utf-8")) == made:
        return np.load(file, mmap_mode="r"), read_targets(answers)
    teacher = Teacher(config.teacher, weights)
    views = cut_views(
        planned, config.pictures, config.seed, file, lambda count, total: tell("cutting views", count, total)
    )
    answers.mkdir(exist_ok=True)
    targets = make_targets(
        teacher,
        views,
        config.layout,
        config.model.embedding_dim,
        answers,
        lambda count, total: tell("asking the teacher", count, total),
    )
    folder.write_text(DONE, json.dumps(made))
    return views, targets


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"--teacher {file}: {error.strerror}") from error


def _split_csv(pictures: list[Picture], before: Path) -> str:
    """`split.csv` of a bundle that saw these pictures of anything, and what the bundle that it started from had seen.

    before: that bundle's `split.csv`, if there is one.
    """
    rows: set[tuple[str, ...]] = {(one.name, one.sha256(), "train", "pictures") for one in pictures}
    if before.is_file():
        rows |= {tuple(row) for row in list(csv.reader(io.StringIO(before.read_text(encoding="utf-8"))))[1:]}
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(SPLIT_COLUMNS)
    writer.writerows(sorted(rows))
    return file.getvalue()
