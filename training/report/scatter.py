"""The report's charts of single photos: the plane of embeddings, and quality against AP."""

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from training.report.plane import Plane
from training.report.svg import Chart

# Identities that get a colour and a shape of their own.
NAMED = 8
# Beyond so many marks, words for each would weigh more than the rest of the page.
_TOLD = 1_500
_MARK = 3.4


def plane_chart(plane: Plane, identities: Sequence[str], named: Sequence[str]) -> Markup:
    """The embeddings' first two components; the named animals in colours, all others in grey below them."""
    chart = Chart("The embeddings in a plane", height=460, left=16, bottom=34)
    x, y = chart.x_scale(*_range(plane.x)), chart.y_scale(*_range(plane.y))
    chart.bar((chart.left, chart.top), (x.stop - x.start, y.start - y.stop), "frame")
    first, second = (f"{share:.0%}" for share in plane.explained)
    chart.text(((x.start + x.stop) / 2, chart.height - 12), f"first component ({first} of the variance)", "name middle")
    middle = (y.start + y.stop) / 2
    words = f"second component ({second})"
    chart.text((chart.left - 4, middle), words, "name middle", f'transform="rotate(-90 {chart.left - 4} {middle:g})"')
    css = {name: f"k{place}" for place, name in enumerate(named)}
    told = len(identities) <= _TOLD
    order = sorted(range(len(identities)), key=lambda row: identities[row] in css)
    for row in order:
        name = identities[row]
        place = (x(plane.x[row]), y(plane.y[row]))
        chart.dot(place, _MARK + (name in css), f"point {css.get(name, 'other')}", name if told else "")
    return chart.render()


def most_photographed(identities: Sequence[str]) -> list[str]:
    """The animals with the most photos, as many as have a colour."""
    return [name for name, _ in Counter(identities).most_common(NAMED)]


def quality_chart(title: str, name: str, values: Sequence[float | None], ap: Sequence[float | None]) -> Markup:
    """AP of each query over a fact of its photo, and the median AP in each fifth of the photos."""
    chart = Chart(title, width=310, height=240, left=44)
    known = [(v, a) for v, a in zip(values, ap, strict=True) if v is not None and a is not None]
    ordered = sorted(v for v, _ in known)
    # A few huge values would leave all others on the left edge.
    top = ordered[min(len(ordered) - 1, int(0.98 * len(ordered)))]
    x, y = (
        chart.x_scale(ordered[0], top if top > ordered[0] else ordered[0] + 1e-9),
        chart.y_scale(0, max(a for _, a in known) or 1),
    )
    chart.y_axis(y, "AP")
    chart.x_axis(x, name)
    for value, precision in known:
        chart.dot((x(value), y(precision)), 2.4, "point other")
    chart.path([(x(v), y(a)) for v, a in _fifths(known)], "curve same")
    for value, precision in _fifths(known):
        chart.dot((x(value), y(precision)), 4.5, "fill same", f"median AP {precision:.3f} around {value:.3g}")
    return chart.render()


def _fifths(known: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Median value and median AP of each fifth, by value."""
    known = sorted(known)
    parts = [known[len(known) * fifth // 5 : len(known) * (fifth + 1) // 5] for fifth in range(5)]
    return [(_median([v for v, _ in part]), _median([a for _, a in part])) for part in parts if part]


def _median(values: list[float]) -> float:
    values = sorted(values)
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.03 or 1e-6
    return low - margin, high + margin
