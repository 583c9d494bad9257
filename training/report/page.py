"""`report.html`: the sections in a page that needs nothing beside itself, no script and no network."""

import json
from collections.abc import Mapping
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from pydantic import JsonValue

from training.report import charts, scatter
from training.report.collect import Report
from training.report.values import Estimate, Unknown


def render_page(report: Report, figures: Mapping[str, JsonValue], pictures: Mapping[str, str]) -> str:
    """The page; figures: what `evaluate` prints; pictures: data URIs by file name, none for a page without photos."""
    page = _environment().get_template("page.html")
    identities = [row.identity for row in report.photos]
    named = scatter.most_photographed(identities)
    return page.render(
        report=report,
        figures=figures,
        pictures=pictures,
        charts=charts,
        quality_chart=partial(scatter.quality_chart, ap=[row.average_precision for row in report.photos]),
        plane_chart=partial(scatter.plane_chart, report.plane, identities, named),
        named=named,
        config=json.dumps(report.provenance.trained_config, indent=2),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("training.report", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"f3": _three, "f4": _four, "share": _share, "spread": _spread, "count": "{:,}".format}
    environment.tests["unknown"] = _is_unknown
    return environment


def _is_unknown(value: object) -> bool:
    return isinstance(value, Unknown)


def _three(value: float) -> str:
    return f"{value:.3f}"


def _four(value: float) -> str:
    return f"{value:.4f}"


def _share(value: float) -> str:
    return f"{value * 100:.1f}\N{NO-BREAK SPACE}%"


def _spread(estimate: Estimate) -> str:
    """The interval in words."""
    if estimate.low is None or estimate.high is None:
        return "too few animals for an interval"
    return f"{estimate.low:.3f} to {estimate.high:.3f}"
