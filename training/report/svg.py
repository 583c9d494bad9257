"""Small static SVG charts: scales, axes and marks. Colours come from the page's classes, so that dark mode is one rule.

Everything that is text goes through `escape`; numbers are rounded, so that equal reports are equal files.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Point = tuple[float, float]
Shown = Callable[[float], str]


def number(value: float) -> str:
    """A coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Scale:
    """From values in [low, high] to pixels in [start, stop]; stop may be below start."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; one beyond the ends is put at the end."""
        low, high = self._bend(self.low), self._bend(self.high)
        share = (self._bend(max(value, self.low)) - low) / (high - low) if high > low else 0.5
        return self.start + min(share, 1.0) * (self.stop - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values inside: powers of ten on a logarithmic scale, else 1, 2 or 5 times one."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1)]
        span = (self.high - self.low) or 1.0
        size = 10.0 ** math.floor(math.log10(span / wanted))
        step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= wanted)
        first = math.ceil(self.low / step - 1e-9)
        return [round(place * step, 10) for place in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _bend(self, value: float) -> float:
        return math.log10(value) if self.log else value


@dataclass
class Chart:
    """One picture: the frame's margins, and what was drawn so far. title: what a screen reader says."""

    title: str
    width: int = 880
    height: int = 300
    left: int = 54
    right: int = 16
    top: int = 14
    bottom: int = 44
    parts: list[str] = field(default_factory=list)

    def x_scale(self, low: float, high: float, *, log: bool = False) -> Scale:
        """A horizontal scale over the frame."""
        return Scale(low, high, self.left, self.width - self.right, log)

    def y_scale(self, low: float, high: float, *, log: bool = False) -> Scale:
        """A vertical scale over the frame, upwards."""
        return Scale(low, high, self.height - self.bottom, self.top, log)

    def x_axis(self, x: Scale, name: str, *, shown: Shown = "{:g}".format, grid: bool = False) -> None:
        """The line below, its values and its name; grid: lines upwards as well."""
        bottom, right = self.height - self.bottom, self.width - self.right
        for value in x.ticks():
            if grid:
                self.line((x(value), self.top), (x(value), bottom), "grid")
            self.line((x(value), bottom), (x(value), bottom + 5), "axis")
            self.text((x(value), bottom + 19), shown(value), "tick middle")
        self.line((self.left, bottom), (right, bottom), "axis")
        self.text(((self.left + right) / 2, self.height - 6), name, "name middle")

    def y_axis(self, y: Scale, name: str, *, shown: Shown = "{:g}".format) -> None:
        """Grid lines with their values, and their name along the left edge."""
        for value in y.ticks():
            self.line((self.left, y(value)), (self.width - self.right, y(value)), "grid")
            self.text((self.left - 8, y(value) + 4), shown(value), "tick end")
        middle = (self.top + self.height - self.bottom) / 2
        self.text((13, middle), name, "name middle", f'transform="rotate(-90 13 {number(middle)})"')

    def line(self, start: Point, end: Point, css: str) -> None:
        """A straight line."""
        places = f'x1="{number(start[0])}" y1="{number(start[1])}" x2="{number(end[0])}" y2="{number(end[1])}"'
        self.parts.append(f'<line class="{css}" {places}/>')

    def path(self, points: Sequence[Point], css: str, *, closed: bool = False) -> None:
        """A line through points, or an area."""
        steps = "L".join(f"{number(x)} {number(y)}" for x, y in points)
        self.parts.append(f'<path class="{css}" d="M{steps}{"Z" if closed else ""}"/>')

    def bar(self, corner: Point, size: Point, css: str, says: str = "") -> None:
        """A rectangle from its upper left corner."""
        x, y, width, height = (number(value) for value in (*corner, *size))
        self._mark("rect", f'class="{css}" x="{x}" y="{y}" width="{width}" height="{height}"', says)

    def dot(self, place: Point, radius: float, css: str, says: str = "") -> None:
        """A circle, with words for whoever points at it."""
        x, y, r = (number(value) for value in (*place, radius))
        self._mark("circle", f'class="{css}" cx="{x}" cy="{y}" r="{r}"', says)

    def text(self, place: Point, words: str, css: str, more: str = "") -> None:
        """Words; `middle` and `end` among the classes move their anchor."""
        extra = f" {more}" if more else ""
        self.parts.append(
            f'<text class="{css}" x="{number(place[0])}" y="{number(place[1])}"{extra}>{escape(words)}</text>'
        )

    def _mark(self, kind: str, attributes: str, says: str) -> None:
        closing = f"><title>{escape(says)}</title></{kind}>" if says else "/>"
        self.parts.append(f"<{kind} {attributes}{closing}")

    def render(self) -> Markup:
        """The SVG element."""
        size = f'viewBox="0 0 {self.width} {self.height}"'
        head = f'<svg {size} role="img" aria-label="{escape(self.title)}" xmlns="http://www.w3.org/2000/svg">'
        return Markup(head + "".join(self.parts) + "</svg>")  # noqa: S704 - every word in it was escaped above
