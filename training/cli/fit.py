"""`jaguar-train fit`."""

import statistics
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

import typer
from rich.progress import Progress
from rich.table import Table

from app.reid.errors import ConfigError
from training import fit as fitting
from training.cli.exits import exit_codes
from training.cli.options import Data
from training.cli.output import out, progress
from training.cli.watching import watcher
from training.config import Protocol, TrainConfig, load_config
from training.distributed import World, joined
from training.folds import fit_folds
from training.report.protocols import SEEDS
from training.seeds import fit_seeds
from training.submission import SUBMISSION_CSV, TEST_CSV, SubmissionPairs, read_test_pairs, write_submission
from training.tensorboard import log_epochs
from training.train import Watcher


def fit(  # noqa: PLR0913, PLR0917 - a command has a parameter for each option
    config: Annotated[Path, typer.Argument(help="A TOML file, see training/configs.")],
    data: Data,
    bundle: Annotated[Path, typer.Option("--out", help="The bundle's folder, for example model_store/NAME.")],
    run: Annotated[Path | None, typer.Option("--run", help="The run's folder; runs/NAME by default.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key=value, for example optim.epochs=3.")] = None,
    protocols: Annotated[
        str | None, typer.Option(help="Train once for each, for example random,burst,identity.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Train so many models, OUT-fold1 and on; with a DATA/test.csv also their mean, RUN/submission.csv."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Train under so many seeds; mean and spread go to RUN/seeds.json.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run was interrupted.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also log to RUN/tensorboard.")] = False,
) -> None:
    """Train on photos with names and write a bundle.

    Several processes train as one under torchrun: torchrun --nproc-per-node 2 -m -- training fit ...
    """
    with exit_codes():
        folder = run or Path("runs") / bundle.name
        place = Place(load_config(config, overrides or []), data, bundle, folder)
        several = Several(_parse_protocols(protocols), folds, seeds)
        test = _test_pairs(data) if folds else None
        with joined(place.config.compute.device) as world, progress(shown=world.leads) as bar:
            log = log_epochs(folder / "tensorboard") if tensorboard and world.leads else None
            results = several.fit(place, resume=resume, watcher=watcher(bar, log), world=world)
            if test and world.leads:
                _average(results, test, folder / SUBMISSION_CSV, bar)
        if world.leads:
            _print_results(results, place, several, averaged=test is not None)


class Place(NamedTuple):
    """What a run is made of and where it goes."""

    config: TrainConfig
    data: Path
    out: Path
    run: Path


class Several(NamedTuple):
    """How a command trains more than once; at most one of them is given."""

    protocols: list[Protocol] | None
    folds: int | None
    seeds: int | None

    def fit(self, place: Place, *, resume: bool, watcher: Watcher, world: World) -> list[fitting.FitResult]:
        """Trains. Raises ConfigError where more than one way is asked for, else as the ways say."""
        asked = [f"--{name}" for name, value in self._asdict().items() if value is not None]
        if len(asked) > 1:
            raise ConfigError(f"{' and '.join(asked)}: one at a time")
        if self.protocols is not None:
            return fitting.fit_protocols(*place, self.protocols, resume=resume, watcher=watcher, world=world)
        if self.folds is not None:
            return fit_folds(*place, self.folds, resume=resume, watcher=watcher, world=world)
        if self.seeds is not None:
            return fit_seeds(*place, self.seeds, resume=resume, watcher=watcher, world=world)
        return [fitting.fit(*place, resume=resume, watcher=watcher, world=world)]


def _parse_protocols(text: str | None) -> list[Protocol] | None:
    if text is None:
        return None
    known = {str(name): name for name in get_args(Protocol)}
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) < len(names):
        raise ConfigError(f"--protocols {text}: name each of {', '.join(known)} at most once, separated by commas")
    return [known[name] for name in names]


def _test_pairs(data: Path) -> SubmissionPairs | None:
    """The competition's test photos where they lie beside the training photos; whether all are there is seen now."""
    return read_test_pairs(data / TEST_CSV, data) if (data / TEST_CSV).exists() else None


def _average(results: list[fitting.FitResult], test: SubmissionPairs, target: Path, bar: Progress) -> None:
    task = bar.add_task("averaging", total=None)
    bundles = [result.bundle for result in results]
    write_submission(bundles, test, target, progress=lambda done, total: bar.update(task, completed=done, total=total))


def _print_results(results: list[fitting.FitResult], place: Place, several: Several, *, averaged: bool) -> None:
    table = Table("run", "id-mAP", "95 % interval", "Rank-1", "queries", "best epoch")
    for result in results:
        figures: dict[str, Any] = result.metrics
        low, high = figures["id_map_interval"]
        counts = (str(figures["queries"]), str(figures["best_epoch"]))
        measured = (f"{figures['id_map']:.4f}", f"{low:.4f} to {high:.4f}", f"{figures['rank1']:.4f}")
        table.add_row(result.label, *measured, *counts)
    out.print(table)
    lines = [f"{result.label}: {result.bundle}" for result in results]
    if several.folds or several.seeds:
        values = [float(str(result.metrics["id_map"])) for result in results]
        spread = f"{statistics.mean(values):.4f}, standard deviation {statistics.stdev(values):.4f}"
        lines.append(f"mean id-mAP over {len(values)} {'folds' if several.folds else 'seeds'}: {spread}")
    if several.seeds:
        lines.append(f"spread: {place.run / SEEDS}")
    if averaged:
        lines.append(f"averaged submission: {place.run / SUBMISSION_CSV}")
    elif several.folds:
        bundles = " ".join(str(result.bundle) for result in results)
        lines.append(f"jaguar-train submission {bundles} --data DIR --out {SUBMISSION_CSV} averages the models")
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)
