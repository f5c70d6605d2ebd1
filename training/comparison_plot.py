"""A comparison as a picture: accuracy against the time of an image, in SVG. Measures nothing.

One file without script, font or link. A shape stands for a network, a shade for a number of examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, cos, floor, log10, pi, sin
from pathlib import Path
from xml.etree import ElementTree as Xml

from training.comparison import Candidate, Comparison, percent, recommend
from training.shot_accuracy import ShotAccuracy

WIDTH, LEAST_HEIGHT = 900, 520
LEFT, RIGHT, TOP, BOTTOM = 70.0, 650.0, 60.0, 450.0  # of the plot, in pixels
LEGEND_LEFT, LEGEND_LINE = 680.0, 24.0
RADIUS = 7.0
DECADE = 10.0  # ratio of the longest to the shortest time from which the axis is logarithmic
LIGHT, DARK = (107, 174, 214), (8, 48, 107)
INK, GRID = "#222222", "#dddddd"
# Corners of regular polygons and the angle of the first, in degrees clockwise from the top; 0 is a circle.
SHAPES = ((0, 0), (4, 45), (3, 0), (4, 0), (3, 180), (5, 0), (6, 0), (3, 90), (3, 270))
MOST_TICKS = 6
PERCENT_STEP, LEAST_PERCENTS = 10, 20


@dataclass(frozen=True)
class Scale:
    """From values between `low` and `high` to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (log10(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (at - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values from `low` to `high`: 1, 2 and 5 times powers of ten."""
        if self.logarithmic:
            powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
            values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
            return [value for value in values if self.low <= value <= self.high]
        step = _round_step((self.high - self.low) / MOST_TICKS)
        return [number * step for number in range(ceil(self.low / step), floor(self.high / step) + 1)]


def plot_comparison(comparison: Comparison) -> str:
    """The text of an SVG file. At least one network must have been measured."""
    height = _height(comparison)
    root = Xml.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {height}",
            "width": str(WIDTH),
            "height": str(height),
            "role": "img",
            "aria-labelledby": "title desc",
            "font-family": "sans-serif",
            "font-size": "13",
            "fill": INK,
        },
    )
    heading = f"Accuracy against time of an image: {Path(comparison.folder).name}"
    Xml.SubElement(root, "title", id="title").text = heading
    Xml.SubElement(root, "desc", id="desc").text = _describe(comparison)
    Xml.SubElement(root, "rect", width=str(WIDTH), height=str(height), fill="#ffffff")
    _text(root, LEFT, 34, _shortened(heading), {"font-size": "16", "font-weight": "bold"})
    across, up = _time_scale(comparison.candidates), _accuracy_scale(comparison.candidates)
    _axes(root, across, up)
    colours = _shades(len(comparison.shots))
    for number, candidate in enumerate(comparison.candidates):
        for accuracy, colour in zip(candidate.accuracies, colours, strict=True):
            _interval(root, across(candidate.timing.total_ms), accuracy, up, colour)
        for accuracy, colour in zip(candidate.accuracies, colours, strict=True):
            x, y = across(candidate.timing.total_ms), up(accuracy.mean)
            marker = _shape(root, number, x, y, colour)
            marker.set("class", "marker")
            Xml.SubElement(marker, "title").text = _told(candidate, accuracy)
    _legend(root, comparison, colours)
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode") + "\n"


def _height(comparison: Comparison) -> int:
    """Enough for the legend, the longest part with many networks."""
    lines = len(comparison.candidates) + len(comparison.shots) + 5
    return max(LEAST_HEIGHT, ceil(TOP + lines * LEGEND_LINE))


def _describe(comparison: Comparison) -> str:
    lines = [_told(one, accuracy) for one in comparison.candidates for accuracy in one.accuracies]
    return " ".join([recommend(comparison), *(f"{line}." for line in lines)])


def _told(candidate: Candidate, accuracy: ShotAccuracy) -> str:
    return (
        f"{candidate.name}, {_examples(accuracy.shots)}: {percent(accuracy.mean)} "
        f"({percent(accuracy.low)} to {percent(accuracy.high)}), {candidate.timing.total_ms:.1f} ms"
    )


def _examples(shots: int) -> str:
    return f"{shots} {'example' if shots == 1 else 'examples'} of each class"


def _time_scale(candidates: Sequence[Candidate]) -> Scale:
    times = [one.timing.total_ms for one in candidates]
    if max(times) >= DECADE * min(times):
        return Scale(min(times) / 1.3, max(times) * 1.3, LEFT, RIGHT, logarithmic=True)
    return Scale(0.0, max(times) * 1.1, LEFT, RIGHT)


def _accuracy_scale(candidates: Sequence[Candidate]) -> Scale:
    """From a round percentage below everything that is drawn to a hundred."""
    lowest = 100 * min(accuracy.low for one in candidates for accuracy in one.accuracies)
    bottom = min(PERCENT_STEP * floor(lowest / PERCENT_STEP), 100 - LEAST_PERCENTS)
    return Scale(max(0, bottom) / 100, 1.0, BOTTOM, TOP)


def _axes(root: Xml.Element, across: Scale, up: Scale) -> None:
    for tick in across.ticks():
        _line(root, (across(tick), TOP), (across(tick), BOTTOM), GRID)
        _text(root, across(tick), BOTTOM + 20, f"{tick:g}", {"text-anchor": "middle"})
    for tick in up.ticks():
        _line(root, (LEFT, up(tick)), (RIGHT, up(tick)), GRID)
        _text(root, LEFT - 8, up(tick) + 4, f"{100 * tick:.0f}", {"text-anchor": "end"})
    _line(root, (LEFT, BOTTOM), (RIGHT, BOTTOM), INK)
    _line(root, (LEFT, TOP), (LEFT, BOTTOM), INK)
    scale = ", logarithmic" if across.logarithmic else ""
    label = f"time of an image on this machine, one thread (ms{scale})"
    _text(root, (LEFT + RIGHT) / 2, BOTTOM + 46, label, {"text-anchor": "middle", "class": "axis"})
    middle = (TOP + BOTTOM) / 2
    turned = {"text-anchor": "middle", "class": "axis", "transform": f"rotate(-90 24 {middle:.1f})"}
    _text(root, 24, middle, "accuracy, every class alike (%)", turned)


def _interval(root: Xml.Element, x: float, accuracy: ShotAccuracy, up: Scale, colour: str) -> None:
    line = _line(root, (x, up(accuracy.low)), (x, up(accuracy.high)), colour)
    line.set("class", "interval")
    line.set("stroke-width", "2")
    line.set("stroke-opacity", "0.5")


def _legend(root: Xml.Element, comparison: Comparison, colours: Sequence[str]) -> None:
    y = TOP + 8
    _text(root, LEGEND_LEFT, y, "network", {"font-weight": "bold"})
    for number, candidate in enumerate(comparison.candidates):
        y += LEGEND_LINE
        _shape(root, number, LEGEND_LEFT + RADIUS, y - 4, "#888888")
        _text(root, LEGEND_LEFT + 24, y, _shortened(candidate.name, 26))
    y += 2 * LEGEND_LINE
    _text(root, LEGEND_LEFT, y, "examples of each class", {"font-weight": "bold"})
    for shots, colour in zip(comparison.shots, colours, strict=True):
        y += LEGEND_LINE
        _shape(root, 0, LEGEND_LEFT + RADIUS, y - 4, colour)
        _text(root, LEGEND_LEFT + 24, y, str(shots))
    _text(root, LEGEND_LEFT, y + 1.5 * LEGEND_LINE, "lines: 95 % intervals", {"font-size": "12"})


def _shape(root: Xml.Element, number: int, x: float, y: float, colour: str) -> Xml.Element:
    corners, first = SHAPES[number % len(SHAPES)]
    look = {"fill": colour, "stroke": "#ffffff", "stroke-width": "1"}
    if not corners:
        return Xml.SubElement(
            root, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{RADIUS - 1:g}", **look}
        )
    angles = [first * pi / 180 + 2 * pi * corner / corners for corner in range(corners)]
    points = " ".join(f"{x + RADIUS * sin(a):.1f},{y - RADIUS * cos(a):.1f}" for a in angles)
    return Xml.SubElement(root, "polygon", {"points": points, **look})


def _shades(count: int) -> list[str]:
    """Colours from light to dark; one alone is dark."""
    steps = [number / (count - 1) for number in range(count)] if count > 1 else [1.0]
    mixed = [[round(a + (b - a) * step) for a, b in zip(LIGHT, DARK, strict=True)] for step in steps]
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in mixed]


def _line(
    root: Xml.Element, start: tuple[float, float], end: tuple[float, float], colour: str
) -> Xml.Element:
    ends = zip(("x1", "y1", "x2", "y2"), (*start, *end), strict=True)
    return Xml.SubElement(root, "line", {name: f"{at:.1f}" for name, at in ends} | {"stroke": colour})


def _text(root: Xml.Element, x: float, y: float, text: str, look: dict[str, str] | None = None) -> None:
    Xml.SubElement(root, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", **(look or {})}).text = text


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** floor(log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least * (1 - 1e-9))


def _shortened(text: str, most: int = 70) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
