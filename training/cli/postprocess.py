"""`jaguar-train postprocess`."""

from typing import Annotated, Any

import typer
from rich.table import Table

from app.reid.postprocess import Postprocess
from training.cli.exits import exit_codes
from training.cli.options import Bundle, Data
from training.cli.output import out, progress
from training.trust import postprocess_bundle

_NAMES = {
    "flip": "mean with the mirror image",
    "query_expansion": "query expansion",
    "rerank": "k-reciprocal re-ranking",
}


def postprocess(
    bundle: Bundle,
    data: Data,
    within: Annotated[str | None, typer.Option(help="A column; a photo's gallery shares its value.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same photos.")] = 0,
) -> None:
    """Measure which post-processing of submissions is surely worth it, and write that into a bundle's manifest."""
    with exit_codes():
        with progress() as bar:
            task = bar.add_task("reading and embedding photos", total=None)
            steps = postprocess_bundle(
                bundle,
                data,
                within=within,
                seed=seed,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        _print_steps(steps)


def _print_steps(steps: Postprocess) -> None:
    measured: dict[str, Any] = steps.measured
    table = Table("step, on top of those kept before", "gain in id-mAP", "95 % interval", "kept")
    for name, words in _NAMES.items():
        if name in measured:
            low, high = measured[name]["interval"]
            kept = "yes" if measured[name]["kept"] else "no"
            table.add_row(words, f"{measured[name]['gain']:+.4f}", f"{low:+.4f} to {high:+.4f}", kept)
    out.print(measured.get("reason", table))
    out.print(f"the manifest says: {steps}; measured on {measured['measured_on']}", highlight=False, soft_wrap=True)
