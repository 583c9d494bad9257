"""The report's charts of single figures: protocols, animals, distributions, ROC, reliability."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from training.report.collect import Identity
from training.report.histogram import Kind
from training.report.protocols import Protocols
from training.report.roc import OperatingPoint, Roc
from training.report.svg import Chart, Scale
from training.report.trust import Bin
from training.report.values import Estimate

# Below this false-match rate the ROC is not drawn: a handful of pairs would decide.
_LEAST_RATE = 1e-4
# What a threshold's name takes, in pixels.
_GUIDE_WORDS = 70


def interval_mark(chart: Chart, x: Scale, y: float, estimate: Estimate, css: str, says: str) -> None:
    """A dot with its interval, on one line."""
    if estimate.low is not None and estimate.high is not None:
        chart.line((x(estimate.low), y), (x(estimate.high), y), f"whisker {css}")
        for end in (estimate.low, estimate.high):
            chart.line((x(end), y - 5), (x(end), y + 5), f"whisker {css}")
    chart.dot((x(estimate.value), y), 5.5, f"fill {css}", says)


def intervals_chart(
    title: str, rows: Sequence[tuple[str, Estimate | None]], chance: float | None, seeds: Sequence[float] = ()
) -> Markup:
    """One line for each row: its name, a dot and an interval, or a dash where there is none; seeds on a last line."""
    lines = [*rows, ("seeds", None)] if seeds else list(rows)
    chart = Chart(title, height=58 + 34 * len(lines), left=200, top=10, bottom=46)
    known = [estimate for _, estimate in rows if estimate is not None]
    highest = max([*(e.high or e.value for e in known), *seeds, chance or 0.0, 0.02])
    x = chart.x_scale(0.0, min(1.0, highest * 1.12))
    chart.x_axis(x, "id-mAP", grid=True)
    for place, (name, estimate) in enumerate(lines):
        y = chart.top + 20 + 34 * place
        chart.text((chart.left - 14, y + 4), name, "label end")
        if estimate is not None:
            interval_mark(chart, x, y, estimate, "same", f"{name}: {estimate.value:.4f}")
            chart.text((x(estimate.high or estimate.value) + 12, y + 4), f"{estimate.value:.3f}", "value")
        elif name == "seeds" and seeds:
            for value in seeds:
                chart.dot((x(value), y), 5, "hollow same", f"{value:.4f}")
        else:
            chart.text((chart.left + 8, y + 4), "not measured", "tick")
    if chance is not None:
        bottom = chart.height - chart.bottom
        chart.line((x(chance), chart.top), (x(chance), bottom), "guide")
        chart.text((x(chance) + 6, chart.top + 4), "chance", "tick")
    return chart.render()


def protocols_chart(protocols: Protocols) -> Markup:
    """The protocols' id-mAP with their intervals, and one ring for each seed."""
    rows = [(row.protocol, row.id_map if isinstance(row.id_map, Estimate) else None) for row in protocols.rows]
    return intervals_chart(
        "id-mAP of each protocol", rows, protocols.chance, protocols.seeds.id_map if protocols.seeds else ()
    )


def identities_chart(identities: Sequence[Identity], mean: float) -> Markup:
    """A bar for each animal, from the best to the worst, and the mean over all of them."""
    known = [(row, row.average_precision) for row in identities if row.average_precision is not None]
    chart = Chart(f"Mean AP of {len(known)} animals, falling", height=270)
    top = max(value for _, value in known)
    x, y = chart.x_scale(0, len(known)), chart.y_scale(0, 1 if top > 0.5 else max(1.1 * top, 0.01))
    chart.y_axis(y, "mean AP")
    width = (x.stop - x.start) / len(known)
    gap = min(width * 0.25, 3.0)
    for place, (row, value) in enumerate(known):
        says = f"{row.name}: AP {value:.3f}, {row.photos} photos"
        chart.bar((x(place) + gap / 2, y(value)), (width - gap, y(0) - y(value)), "fill same", says)
    chart.line((x.start, y(mean)), (x.stop, y(mean)), "guide")
    chart.text((x.stop - 4, y(mean) - 6), f"id-mAP {mean:.3f}", "tick end")
    chart.line((x.start, y(0)), (x.stop, y(0)), "axis")
    chart.text(((x.start + x.stop) / 2, chart.height - 14), f"{len(known)} animals, best to worst", "name middle")
    return chart.render()


def histogram_chart(
    title: str, edges: Sequence[float], kinds: Sequence[tuple[str, str, Kind]], guides: Sequence[tuple[str, float]] = ()
) -> Markup:
    """Distributions over common bins as areas of one size; kinds: name, colour class, figures; guides: thresholds."""
    chart = Chart(title, height=280, top=30 if guides else 14)
    top = max(share for _, _, kind in kinds for share in kind.shares)
    x, y = chart.x_scale(edges[0], edges[-1]), chart.y_scale(0, top * 1.05)
    chart.y_axis(y, "share in each bin", shown=_percent)
    chart.x_axis(x, "similarity")
    for _, css, kind in kinds:
        points = [(x(edges[0]), y(0))]
        for place, share in enumerate(kind.shares):
            points += [(x(edges[place]), y(share)), (x(edges[place + 1]), y(share))]
        points.append((x(edges[-1]), y(0)))
        chart.path(points, f"area {css}", closed=True)
    for _, css, kind in kinds:
        chart.line((x(kind.median), chart.height - chart.bottom), (x(kind.median), y(top)), f"median {css}")
    _guides(chart, x, guides)
    return chart.render()


def _guides(chart: Chart, x: Scale, guides: Sequence[tuple[str, float]]) -> None:
    """Vertical lines with words above the frame, away from each other and inside the picture."""
    bottom = chart.height - chart.bottom
    for place, (words, value) in enumerate(sorted(guides, key=lambda guide: guide[1])):
        backwards = (place == 0 and len(guides) > 1) or x(value) > x.stop - _GUIDE_WORDS
        chart.line((x(value), chart.top - 8), (x(value), bottom), "guide")
        shift = -5 if backwards else 5
        chart.text((x(value) + shift, chart.top - 12), words, "tick end" if backwards else "tick")


def _percent(value: float) -> str:
    return f"{value * 100:g}\N{NO-BREAK SPACE}%"


def roc_chart(roc: Roc) -> Markup:
    """True-match rate over false-match rate, the latter in powers of ten, and the operating points."""
    chart = Chart(f"ROC, area {roc.auroc.value:.3f}", height=320, width=520)
    rates = [rate for rate in roc.false_match if rate > 0]
    x = chart.x_scale(max(_LEAST_RATE, min(1e-2, 10 ** math.floor(math.log10(rates[0])))), 1, log=True)
    y = chart.y_scale(0, 1)
    chart.y_axis(y, "true-match rate")
    chart.x_axis(x, "false-match rate", shown=_rate)
    curve = [(f, t) for f, t in zip(roc.false_match, roc.true_match, strict=True) if f >= x.low]
    diagonal = [x.low * (1 / x.low) ** (step / 40) for step in range(41)]
    chart.path([(x(value), y(value)) for value in diagonal], "guide open")
    chart.path([(x(f), y(t)) for f, t in curve], "curve same")
    marks: list[tuple[str, OperatingPoint]] = [("FMR 1 %", roc.fmr_1), ("FNMR 5 %", roc.fnmr_5)]
    for name, point in marks:
        place = (x(max(point.false_match_rate, x.low)), y(1 - point.false_non_match_rate))
        chart.dot(place, 6, "fill different", f"{name}: threshold {point.threshold:.4f}")
        chart.text((place[0] - 10, place[1] - 9), name, "value end")
    return chart.render()


def _rate(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-") if 0 < value < 0.001 else f"{value:g}"


def reliability_chart(bins: Sequence[Bin], title: str) -> Markup:
    """What was so over what was said; a dot for each bin on the diagonal would be perfect."""
    chart = Chart(title, height=320, width=520)
    x, y = chart.x_scale(0, 1), chart.y_scale(0, 1)
    chart.y_axis(y, "share that was the same")
    chart.x_axis(x, "predicted probability")
    chart.line((x(0), y(0)), (x(1), y(1)), "guide")
    for found in bins:
        chart.line((x(found.predicted), y(found.predicted)), (x(found.predicted), y(found.observed)), "whisker bad")
    chart.path([(x(found.predicted), y(found.observed)) for found in bins], "curve same")
    for found in bins:
        says = f"said {found.predicted:.3f}, was {found.observed:.3f}, {found.weight:.1%} of the weight"
        chart.dot((x(found.predicted), y(found.observed)), 4.5, "fill same", says)
    return chart.render()
