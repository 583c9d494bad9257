"""The photos that the benchmarks of serving send: drawn once into runs/bench-photos, used again while complete.

    python tests/bench/photos.py [--folder runs/bench-photos] [--workers 2]

371 RGBA cut-outs of about 6 MP in test/test/*.png, in the competition's layout, and 742 JPEGs of 1781 x 1403 in
jpeg/*.jpg. A photo of this size takes seconds to draw, so 47 are drawn by `training.coats`, and of each one seven
more are made: mirrored, turned by 180 degrees or upside down, and as many a little brighter. Nothing is cropped and
everything is encoded anew, so that all files differ in bytes and pixels and cost what a drawn one costs; the hashes
are compared. The JPEGs are the same cut-outs laid on white, two of each: as it is, and darker. Quality 90.

A drawn photo's files are complete when its `drawn/NN.json` is there, which is written last; a run that was broken off
goes on where it was.
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.coats import animal, draw_shot, plan_test

FOLDER = Path(__file__).parents[2] / "runs" / "bench-photos"
PHOTOS, DRAWN, SEED = 371, 47, 3
SIZE, JPEG_SIZE, QUALITY = (3035, 1964), (1781, 1403), 90
TURNS = (None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180)
BRIGHTER, DARKER = 9, -7  # grey levels
# Noise hardly compresses: level 6 takes four times as long for a tenth less, and is as fast to read.
COMPRESS = 1
RECIPE = f"{PHOTOS} photos, {DRAWN} drawn, seed {SEED}, {SIZE}, {JPEG_SIZE} at {QUALITY}, {BRIGHTER}, {DARKER}, 1"


@dataclass(frozen=True)
class BenchPhotos:
    """What was drawn. root: what `JAGUAR_IMAGE_ROOT` is set to. png, jpeg: the files in order."""

    root: Path
    png: list[Path]
    jpeg: list[Path]


def bench_photos(folder: Path = FOLDER, workers: int = 2) -> BenchPhotos:
    """The photos, drawn where they are missing; prints what they are."""
    todo = [number for number in range(DRAWN) if not _complete(folder, number)]
    if todo:
        for name in ("drawn", "test/test", "jpeg"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        print(f"drawing {len(todo)} of {DRAWN} large photos and what is made of them, into {folder}", flush=True)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            jobs = [pool.submit(draw, folder, number) for number in todo]
            for done, job in enumerate(as_completed(jobs), 1):
                print(f"  {job.result()}: {done} of {len(todo)}", flush=True)
    facts = [fact for number in range(DRAWN) for fact in _facts(folder, number)]
    _describe(facts)
    return BenchPhotos(folder, _paths(folder, facts, ".png"), _paths(folder, facts, ".jpg"))


def draw(folder: Path, number: int) -> str:
    """Draws one photo, makes its variants, and writes down what they are; returns its name."""
    shot = plan_test(SEED, DRAWN // 2, DRAWN)[number]
    drawn = draw_shot(animal(SEED, shot.identity, shot.flank), SEED, shot, SIZE)
    facts = []
    for variant in range(2 * len(TURNS)):
        photo = variant * DRAWN + number  # variants of one drawn photo lie far apart
        if photo >= PHOTOS:
            break
        turn = TURNS[variant % len(TURNS)]
        picture = drawn if turn is None else drawn.transpose(turn)
        picture = _lighter(picture, BRIGHTER if variant >= len(TURNS) else 0)
        facts.append(_save(folder, f"test/test/test_{photo + 1:04}.png", picture, compress_level=COMPRESS))
        flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        flat = flat.resize(JPEG_SIZE, Image.Resampling.BICUBIC)
        for copy, change in enumerate((0, DARKER)):
            name = f"jpeg/{2 * photo + copy + 1:04}.jpg"
            facts.append(_save(folder, name, _lighter(flat, change), quality=QUALITY))
    _write(folder / "drawn" / f"{number:02}.json", json.dumps({"recipe": RECIPE, "facts": facts}).encode())
    return shot.filename


def _lighter(picture: Image.Image, change: int) -> Image.Image:
    """All colours moved by so many grey levels; alpha stays."""
    if not change:
        return picture
    moved = [min(255, max(0, level + change)) for level in range(256)]
    return picture.point(moved * 3 + list(range(256)) * (len(picture.getbands()) - 3))


def _save(folder: Path, name: str, picture: Image.Image, **options: int) -> dict[str, object]:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG" if name.endswith(".png") else "JPEG", **options)
    data = buffer.getvalue()
    _write(folder / name, data)
    visible = float(np.mean(np.asarray(picture.getchannel("A")) > 0)) if picture.mode == "RGBA" else 1.0
    return {
        "name": name,
        "bytes": len(data),
        "pixels": picture.width * picture.height,
        "visible": visible,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _write(path: Path, data: bytes) -> None:
    """A file that is there is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.rename(path)


def _complete(folder: Path, number: int) -> bool:
    if not (folder / "drawn" / f"{number:02}.json").exists():
        return False
    facts = _facts(folder, number)
    paths = [folder / str(fact["name"]) for fact in facts]
    return all(path.exists() and path.stat().st_size == fact["bytes"] for path, fact in zip(paths, facts, strict=True))


def _facts(folder: Path, number: int) -> list[dict[str, object]]:
    content = json.loads((folder / "drawn" / f"{number:02}.json").read_text())
    if content["recipe"] != RECIPE:
        raise SystemExit(f"{folder} holds photos of another recipe; remove the folder, and they are drawn anew")
    return content["facts"]


def _paths(folder: Path, facts: Sequence[dict[str, object]], suffix: str) -> list[Path]:
    return sorted(folder / str(fact["name"]) for fact in facts if str(fact["name"]).endswith(suffix))


def _describe(facts: Sequence[dict[str, object]]) -> None:
    if len({fact["sha256"] for fact in facts}) != len(facts):
        raise SystemExit("two of the drawn files are the same; the recipe is broken")
    for kind, suffix in (("RGBA PNG", ".png"), ("JPEG", ".jpg")):
        chosen = [fact for fact in facts if str(fact["name"]).endswith(suffix)]
        pixels, sizes = ([fact[key] / 1e6 for fact in chosen] for key in ("pixels", "bytes"))  # type: ignore[operator]
        visible = statistics.mean(float(fact["visible"]) for fact in chosen)  # type: ignore[arg-type]
        alpha = f", alpha > 0 on {visible:.0%} of the pixels" if suffix == ".png" else ""
        print(
            f"{len(chosen)} {kind}: {_spread(pixels)} MP, {_spread(sizes)} MB, {sum(sizes) / 1000:.2f} GB{alpha}",
            flush=True,
        )


def _spread(values: Sequence[float]) -> str:
    return f"median {statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    bench_photos(arguments.folder, arguments.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
