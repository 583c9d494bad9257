"""A run on the terminal: the bar, a line for each epoch."""

from collections.abc import Callable
from typing import Any

from rich.progress import Progress

from training.train import Progress as Stand
from training.train import Watcher


def watcher(bar: Progress, log: Callable[[dict[str, Any]], None] | None) -> Watcher:
    """Shows a run on the bar; each epoch's record also goes to `log`."""
    task = bar.add_task("reading photos", total=None)

    def on_photos(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    def on_step(stand: Stand, total: int, loss: float, rate: float) -> None:
        skipped = f", {stand.skipped} steps skipped" if stand.skipped else ""
        description = f"loss {loss:.3f}, {rate:.0f} images/s{skipped}"
        bar.update(task, completed=stand.step, total=total, description=description)

    def on_epoch(record: dict[str, Any]) -> None:
        loss = "none" if record["loss"] is None else f"{record['loss']:.3f}"
        bar.console.print(
            f"epoch {record['epoch']}: loss {loss}, id-mAP {record['id_map']:.4f}, Rank-1 {record['rank1']:.4f},"
            f" {record['images_per_second']:.0f} images/s",
            highlight=False,
        )
        if log is not None:
            log(record)

    def on_report(stage: str, done: int, total: int) -> None:
        bar.update(task, description=stage, completed=done, total=total or None)

    return Watcher(on_photos=on_photos, on_step=on_step, on_epoch=on_epoch, on_report=on_report)
