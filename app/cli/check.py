# ruff: noqa: PLC0415 - errors in the arguments are told before anything large is loaded
"""`jaguar-reid check`: the Kaggle preflight."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.exits import CommandError, ExitCode, told
from app.cli.files import check_folder, check_table, read_file, shown
from app.cli.options import AsJson, Debug
from app.cli.output import plain, print_json

if TYPE_CHECKING:
    from app.reid.preflight import Finding, Report

_COLOURS = {"error": typer.colors.RED, "warning": typer.colors.YELLOW, "note": typer.colors.BLUE}


def check(
    submission: Annotated[Path, typer.Argument(metavar="SUBMISSION.csv", help="What is to be handed in.")],
    test: Annotated[Path, typer.Option("--test", metavar="TEST.csv", help="The competition's test.csv.")],
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Also look at the photos there, and of which round.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Looks at a submission before Kaggle does: form, rows, numbers, ties, symmetry, and whether it looks random.

    Ends with 1 where there are errors (Kaggle refuses it, or it scores like chance) or warnings (it may cost points).
    Notes change nothing.
    """
    with told(debug=debug):
        for path in (submission, test):
            check_table(path)
        if images is not None:
            check_folder(images)
        report = _look(submission, test, images)
        if as_json:
            print_json(_as_dict(report))
        else:
            _print(report, submission)
        if not report.is_clean:
            raise typer.Exit(ExitCode.FOUND)


def _look(submission: Path, test: Path, images: Path | None) -> "Report":
    """Raises CommandError where test.csv itself cannot be read: there is nothing to compare with."""
    from app.reid.errors import TableError
    from app.reid.preflight import check_images, check_submission
    from app.reid.tables import read_test

    try:
        asked = read_test(read_file(test))
    except TableError as error:
        summary = error.summary.partition(": ")[2]
        advice = "Download it again: it is the competition's own test.csv that the submission is compared with."
        raise CommandError(f"{shown(test)}: {summary}", error.all_problems, advice) from error
    report = check_submission(read_file(submission), asked, name=shown(submission))
    if images is None:
        return report
    return replace(report, findings=(*report.findings, *check_images(asked, images)))


def _as_dict(report: "Report") -> dict[str, Any]:
    """The report's fields, with the numbers of findings first."""
    severities = [str(finding.severity) for finding in report.findings]
    counts = {f"{name}s": severities.count(name) for name in _COLOURS}
    return {"clean": report.is_clean, **counts, **asdict(report)}


def _print(report: "Report", submission: Path) -> None:
    rows = "unreadable" if report.rows is None else f"{report.rows:,} rows"
    typer.echo(f"{plain(submission)}: {rows}; test.csv asks for {report.asked:,}, of {report.photos:,} photos")
    facts = []
    if report.tied is not None:
        facts.append(f"tied {report.tied:.2%}")
    if report.asymmetry is not None:
        facts.append(f"asymmetry {report.asymmetry:.2g}")
    if report.structure is not None:
        facts.append(f"agreement {report.structure.agreement:.3f} (shuffled {report.structure.by_chance:.3f})")
    if facts:
        typer.echo("; ".join(facts))
    for finding in sorted(report.findings, key=lambda finding: list(_COLOURS).index(finding.severity)):
        _print_finding(finding)
    severities = [str(finding.severity) for finding in report.findings]
    if report.is_clean:
        typer.echo("nothing wrong was found")
    else:
        typer.echo(f"errors: {severities.count('error')}, warnings: {severities.count('warning')}")


def _print_finding(finding: "Finding") -> None:
    mark = typer.style(finding.severity.upper(), fg=_COLOURS[finding.severity], bold=True)
    typer.echo(f"{mark} {finding.code}: {finding.what}")
    for place in finding.where:
        typer.echo(f"    {place}")
    typer.echo(f"  -> {finding.advice}")
