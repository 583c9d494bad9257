"""`jaguar-train`: fit, evaluate, quantize, coats.

Exit 0: done; 2: the input is at fault; 1: anything else; 130: Ctrl-C.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.reid.errors import ConfigError, ListedError, ReidError
from training.coats import draw_dataset
from training.config import Protocol, load_config
from training.evaluate import evaluate_bundle
from training.fit import FitResult, fit, fit_protocols
from training.quantize import DEFAULT_PHOTOS, MIN_PHOTOS, Outcome, quantize_bundle
from training.tensorboard import log_epochs
from training.train import InterruptedRunError, TrainingDivergedError, Watcher
from training.train import Progress as Stand

app = typer.Typer(
    help="Turns photos with names into a model bundle.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out, err = Console(), Console(stderr=True)

DataOption = Annotated[Path, typer.Option("--data", help="Folder with train.csv and the photos.")]


@app.command("fit")
def fit_command(
    config: Annotated[Path, typer.Argument(help="A TOML file, see training/configs.")],
    data: DataOption,
    bundle: Annotated[Path, typer.Option("--out", help="The bundle's folder, for example model_store/NAME.")],
    run: Annotated[Path | None, typer.Option("--run", help="The run's folder; runs/NAME by default.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key=value, for example optim.epochs=3.")] = None,
    protocols: Annotated[
        str | None, typer.Option(help="Train once for each, for example random,burst,identity.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run was interrupted.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also log to RUN/tensorboard.")] = False,
) -> None:
    """Train on photos with names and write a bundle."""
    with _exit_codes():
        folder = run or Path("runs") / bundle.name
        settings = load_config(config, overrides or [])
        with _progress() as bar:
            watcher = _watcher(bar, log_epochs(folder / "tensorboard") if tensorboard else None)
            if protocols is None:
                results = [fit(settings, data, bundle, folder, resume=resume, watcher=watcher)]
            else:
                named = _parse_protocols(protocols)
                results = fit_protocols(settings, data, bundle, folder, named, resume=resume, watcher=watcher)
        _print_results(results)


@app.command("evaluate")
def evaluate_command(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    data: DataOption,
    within: Annotated[str | None, typer.Option(help="A column; a photo's gallery shares its value.")] = None,
    report: Annotated[Path | None, typer.Option("--out", help="Also write the figures there, as JSON.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Examine the heat maps as well: some minutes more.")
    ] = False,
) -> None:
    """Measure a bundle on photos with names."""
    with _exit_codes():
        with _progress() as bar:
            task = bar.add_task("embedding", total=None)
            figures = evaluate_bundle(
                bundle,
                data,
                within=within,
                explain=explain,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        text = json.dumps(figures, indent=2)
        if report:
            report.write_text(text + "\n", encoding="utf-8")
        out.print_json(text)


@app.command("quantize")
def quantize_command(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    data: DataOption,
    photos: Annotated[
        int, typer.Option(help="At most so many to calibrate on, and as many others to measure on.", min=MIN_PHOTOS)
    ] = DEFAULT_PHOTOS,
    seed: Annotated[int, typer.Option(help="The same seed draws the same photos.")] = 0,
) -> None:
    """Add int8 weights to a bundle, for JAGUAR_PRECISION=int8, if they answer as float32 does and are faster."""
    with _exit_codes():
        with _progress() as bar:
            task = bar.add_task("reading photos", total=None)
            outcome = quantize_bundle(
                bundle,
                data,
                photos=photos,
                seed=seed,
                progress=lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total),
            )
        _print_outcome(outcome)
        if not outcome.kept:
            failed = ", ".join(check.name for check in outcome.checks if not check.holds)
            message = f"jaguar-train: no int8 weights were added, the bundle is as it was: {failed}"
            err.print(message, style="red", highlight=False, soft_wrap=True)
            raise typer.Exit(1)


@app.command("coats")
def coats_command(
    folder: Annotated[Path, typer.Option("--out", help="The folder to draw into; it must be new or empty.")],
    identities: Annotated[int, typer.Option(help="Animals to train on.")] = 31,
    photos: Annotated[int, typer.Option(help="Training photos of each.")] = 60,
    test: Annotated[int, typer.Option(help="Test photos.")] = 371,
    seed: Annotated[int, typer.Option(help="The same seed draws the same files.")] = 0,
) -> None:
    """Draw a data set of invented jaguars in the competition's layout."""
    with _exit_codes(), _progress() as bar:
        task = bar.add_task("drawing", total=None)
        draw_dataset(
            folder,
            identities=identities,
            photos=photos,
            test=test,
            seed=seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turns the errors that are made on purpose into one message and an exit code; others keep their traceback."""
    try:
        yield
    except InterruptedRunError as error:
        err.print(f"jaguar-train: {error}", style="yellow", highlight=False, markup=False)
        raise typer.Exit(130) from error
    except ReidError as error:
        lines = [error.summary, *error.all_problems] if isinstance(error, ListedError) else [str(error)]
        err.print("jaguar-train: " + "\n  ".join(lines), style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1 if isinstance(error, TrainingDivergedError) else 2) from error


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=False)


def _watcher(bar: Progress, log: Callable[[dict[str, Any]], None] | None) -> Watcher:
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

    return Watcher(on_photos=on_photos, on_step=on_step, on_epoch=on_epoch)


def _parse_protocols(text: str) -> list[Protocol]:
    known = {str(name): name for name in get_args(Protocol)}
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) < len(names):
        raise ConfigError(f"--protocols {text}: name each of {', '.join(known)} at most once, separated by commas")
    return [known[name] for name in names]


def _print_results(results: list[FitResult]) -> None:
    table = Table("protocol", "id-mAP", "95 % interval", "Rank-1", "queries", "best epoch")
    for result in results:
        figures: dict[str, Any] = result.metrics
        low, high = figures["id_map_interval"]
        counts = (str(figures["queries"]), str(figures["best_epoch"]))
        measured = (f"{figures['id_map']:.4f}", f"{low:.4f} to {high:.4f}", f"{figures['rank1']:.4f}")
        table.add_row(result.protocol, *measured, *counts)
    out.print(table)
    for result in results:
        out.print(f"{result.protocol}: {result.bundle}", highlight=False, soft_wrap=True)


def _print_outcome(outcome: Outcome) -> None:
    figures = outcome.figures
    table = Table("int8 against float32", "measured", "needed", "holds")
    for check in outcome.checks:
        table.add_row(check.name, f"{check.measured:.5f}", check.needed, "yes" if check.holds else "no")
    out.print(table)
    counts = f"{figures.calibration_photos} photos, measured on {figures.measured_photos} others"
    out.print(f"calibrated on {counts}; median cosine {figures.median_cosine:.5f}", highlight=False, soft_wrap=True)
