"""What `benchmarks.serving` measured, as a table, and the bars that it must clear. Measures nothing."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import Round
from benchmarks.rivals import Rival

BEGIN, END = "<!-- measured by benchmarks.serving -->", "<!-- end of what was measured -->"

Key = tuple[str, int]  # who answered, and over how many connections; 0 for the raw processes
RAW, RAW_ONE, OURS, CACHED = "raw limit", "raw, one process", "Headstart", "Headstart, cached"
INT8, RAW_BESIDE_INT8 = "Headstart, int8", "raw limit, beside int8's rounds"


@dataclass(frozen=True)
class Bar:
    """A bound of a ratio, from the issue of speed."""

    meaning: str
    low: float | None = None
    high: float | None = None

    def cleared_by(self, figure: float) -> bool:
        return (self.low is None or figure >= self.low) and (self.high is None or figure <= self.high)

    def __str__(self) -> str:
        return f">= {self.low:g}" if self.low is not None else f"<= {self.high:.3g}"


BARS: Mapping[str, Bar] = {
    "ratio_served_to_raw_fp32_8": Bar("throughput at 8 connections over the raw limit", low=0.90),
    "ratio_served_to_raw_fp32_64": Bar("throughput at 64 connections over the raw limit", low=0.90),
    "ratio_p50_to_raw_plus_2_ms": Bar("p50 at one connection over the raw time of one image + 2 ms", high=1),
    "ratio_cached_to_uncached": Bar("throughput of a cached image over that of new ones", low=10),
    "ratio_to_best_rival": Bar("throughput over that of the best rival with Pillow, at 8 and at 64", low=1.3),
    "ratio_served_int8_to_raw_fp32": Bar(
        "throughput in int8, at 8 and at 64, over the raw limit in fp32", low=1.7
    ),
    "ratio_1000_heads_to_one": Bar("latency of 1000 heads on one new image over that of one head", high=1.3),
    "ratio_12mp_decode": Bar("12-megapixel JPEG: decode + resize over a plain Pillow one", high=1 / 3),
    "ratio_12mp_distance_to_bound": Bar("12-megapixel JPEG: distance of the embedding over 0.01", high=1),
    "ratio_worker_memory_to_350_mb": Bar("resident memory of a worker over 350 MB", high=1),
    "ratio_ready_to_6_s": Bar("time of a second start over 6 s", high=1),
}


@dataclass
class Measured:
    """The rounds of each server, in order, and what was measured beside them."""

    rounds: dict[Key, list[Round]] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, connections: int, found: Round) -> None:
        self.rounds.setdefault((name, connections), []).append(found)

    def ratio(self, ours: Key, theirs: Key, figure: str = "per_core") -> float:
        """Median over the rounds of one figure over another of the same round."""
        pairs = zip(self.rounds[ours], self.rounds[theirs], strict=True)
        return statistics.median(_figure(a, figure) / _figure(b, figure) for a, b in pairs)

    def median(self, key: Key, figure: str) -> float:
        return statistics.median(_figure(found, figure) for found in self.rounds[key])


def _figure(found: Round, name: str) -> float:
    return float(getattr(found, name))


def add_ratios(measured: Measured, rivals: Sequence[Rival], connections: Sequence[int]) -> None:
    """Work out the ratios of the throughput rounds; the best rival is one without our decoder."""
    ratios = measured.ratios
    for count in connections:
        key = f"ratio_served_to_raw_fp32_{count}"
        ratios[key] = measured.ratio((OURS, count), (RAW, 0))
        ratios[f"{key}_processor"] = measured.ratio((OURS, count), (RAW, 0), "per_processor_s")
    ratios["ratio_p50_over_raw"] = measured.ratio((OURS, 1), (RAW_ONE, 0), "p50_ms")
    ratios["ratio_p50_to_raw_plus_2_ms"] = statistics.median(
        ours.p50_ms / (raw.p50_ms + 2)
        for ours, raw in zip(measured.rounds[OURS, 1], measured.rounds[RAW_ONE, 0], strict=True)
    )
    ratios["ratio_cached_to_uncached"] = measured.ratio((CACHED, 8), (OURS, 8))
    for figure, suffix in (("per_core", ""), ("per_processor_s", "_processor")):
        for rival in rivals:
            # The worse of the connection counts: a rival is beaten where it is at its best.
            ratios[_key(rival) + suffix] = min(
                measured.ratio((OURS, count), (rival.name, count), figure) for count in connections
            )
    if rivals:
        ratios["ratio_to_best_rival"] = min(
            ratios[_key(rival)] for rival in rivals if rival.decoder == "pillow"
        )


def add_int8_ratios(measured: Measured, connections: Sequence[int]) -> None:
    """Work out the ratios of the rounds in int8."""
    for figure, suffix in (("per_core", ""), ("per_processor_s", "_processor")):
        measured.ratios["ratio_served_int8_to_raw_fp32" + suffix] = min(
            measured.ratio((INT8, count), (RAW_BESIDE_INT8, 0), figure) for count in connections
        )


def _key(rival: Rival) -> str:
    return f"ratio_to_{rival.name.lower().replace(',', '').replace(' ', '_')}"


HEADER = ("server", "connections", "img/s", "img/s per core", "img/s per processor s", "p50 ms", "p99 ms")


def rows(measured: Measured) -> list[tuple[str, ...]]:
    """A row for each server and number of connections: medians over the rounds."""
    figures = (("per_second", 1), ("per_core", 1), ("per_processor_s", 1), ("p50_ms", 1), ("p99_ms", 1))
    return [
        (
            key[0],
            str(key[1] or ""),
            *(f"{measured.median(key, figure):.{digits}f}" for figure, digits in figures),
        )
        for key in measured.rounds
    ]


def text(measured: Measured) -> str:
    """The table, the notes and the bars, for a terminal."""
    table = [HEADER, *rows(measured)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    lines += ["", *measured.notes, ""]
    for key, bar in BARS.items():
        if key in measured.ratios:
            figure = measured.ratios[key]
            lines.append(
                f"{'ok  ' if bar.cleared_by(figure) else 'MISS'} {bar.meaning}: {figure:.3f} ({bar})"
            )
    return "\n".join(lines)


def markdown(measured: Measured, heading: str) -> str:
    """The tables of docs/guide/performance.md."""
    lines = [heading, "", f"| {' | '.join(HEADER)} |", "|---" * len(HEADER) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(measured)]
    lines += ["", *(f"- {note}" for note in measured.notes)]
    lines += ["", "| what | measured | bar | |", "|---|---|---|---|"]
    for key, bar in BARS.items():
        if key in measured.ratios:
            figure = measured.ratios[key]
            verdict = "ok" if bar.cleared_by(figure) else "missed"
            lines.append(f"| {bar.meaning} | {figure:.3f} | {bar} | {verdict} |")
    return "\n".join(lines) + "\n"


def write_guide(path: Path, content: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Put the tables between the marks of a page.

    Raises
    ------
    ValueError
        The page has lost its marks.
    """
    begin, end = marks
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{path}: expected the marks {begin} and {end}")
    path.write_text(f"{before}{begin}\n\n{content}\n{end}{after}", encoding="utf-8")
