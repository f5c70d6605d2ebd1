"""What `benchmarks.transfer` measured, as a table, and the bars that it must clear. Measures nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ALL = 0.75  # of all images, the rest are the test
Case = tuple[str, float]
CASES: tuple[Case, ...] = (
    ("cats_dogs", 20),
    ("blood_cells", 5),
    ("ham10000", 20),
    ("ham10000", 50),
    ("ham10000", ALL),
)
FROZEN, ADVICE = ("head", "layers"), "advice"
TRAINED = ("last-blocks", "full", "conservative", "scratch", "recalibrate")
SCENARIOS: Mapping[Case, int] = dict(zip(CASES, (1, 2, 2, 2, 3), strict=True))
REFERENCE_50 = 0.547  # of a head on the last layer at 50 of each class, measured before the start
BEGIN, END = "<!-- measured by benchmarks.transfer -->", "<!-- end -->"

Result = Mapping[str, Any]
Results = Mapping[tuple[str, float, int, str], Result]
Bars = dict[str, tuple[Any, bool]]


@dataclass(frozen=True)
class Cell:
    """One strategy on one set and size, over the seeds: mean accuracy, its range, and median seconds."""

    accuracy: float
    low: float
    high: float
    seconds: float
    runs: int
    source_top1: float | None

    @classmethod
    def of(cls, found: Sequence[Result]) -> "Cell":
        """Balanced accuracy; where the classes are equal in number it is the accuracy."""
        values = [item["balanced_accuracy"] for item in found]
        top1 = [item["source_top1"] for item in found if "source_top1" in item]
        return cls(
            accuracy=float(np.mean(values)),
            low=min(values),
            high=max(values),
            seconds=float(np.median([item["seconds"] for item in found])),
            runs=len(found),
            source_top1=float(np.mean(top1)) if top1 else None,
        )


Cells = Mapping[Case, Mapping[str, Cell]]


def read_results(path: Path) -> dict[tuple[str, float, int, str], Result]:
    """What is measured already, by set, size, seed and strategy."""
    if not path.is_file():
        return {}
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(item["set"], item["size"], item["seed"], item["strategy"]): item for item in found}


def cells_of(results: Results) -> dict[Case, dict[str, Cell]]:
    """The cells that were measured, by case and strategy."""
    table: dict[Case, dict[str, Cell]] = {}
    for case in CASES:
        for strategy in FROZEN + TRAINED:
            found = [item for key, item in results.items() if key[:2] == case and key[3] == strategy]
            measured = [item for item in found if "error" not in item]
            if measured:
                table.setdefault(case, {})[strategy] = Cell.of(measured)
    return table


def name_of(case: Case) -> str:
    """A case in words."""
    return f"{case[0]}, {case[1]:g} per class" if case[1] >= 1 else f"{case[0]}, {case[1]:.0%} of all"


def markdown(results: Results) -> str:
    """The table of docs/guide/transfer.md."""
    lines = [
        "| images | strategy | accuracy | worst to best run | runs | time | top-1 on the source |",
        "|---|---|---|---|---|---|---|",
    ]
    for case, cells in cells_of(results).items():
        for strategy, cell in cells.items():
            top1 = "" if cell.source_top1 is None else f"{cell.source_top1:.3f}"
            lines.append(
                f"| {name_of(case)} | `{strategy}` | {cell.accuracy:.3f} | {cell.low:.3f} to {cell.high:.3f}"
                f" | {cell.runs} | {spoken(cell.seconds)} | {top1} |"
            )
    return "\n".join(lines) + "\n"


def write_guide(path: Path, results: Results) -> None:
    """Put the table between the marks of a page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{markdown(results)}\n{END}{after}", encoding="utf-8")


def spoken(seconds: float) -> str:
    """A time with two digits."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def bars_of(results: Results) -> Bars:
    """Each bar with its figure, and whether it is cleared; without those that nothing was measured for.

    Two strategies are compared on the seeds that were measured with both.
    """
    cells, bars = cells_of(results), Bars()
    for case, found in cells.items():
        said = [item for key, item in results.items() if key[:2] == case and key[3] == ADVICE]
        if said:
            bars[f"scenario of {name_of(case)}"] = (
                sorted({item["scenario"] for item in said}),
                all(item["scenario"] == SCENARIOS[case] for item in said),
            )
            advised = [found[item["recommended"]].accuracy for item in said if item["recommended"] in found]
            gap = round(max(cell.accuracy for cell in found.values()) - float(np.mean(advised)), 4)
            bars[f"advice behind the best strategy on {name_of(case)}"] = (gap, gap <= 0.01)
    for case, gain in ((CASES[3], 0.04), (CASES[4], 0.08)):
        found = cells.get(case, {})
        if "head" in found and len(found) > 1:
            best = max(cell.accuracy for cell in found.values()) - found["head"].accuracy
            bars[f"gain over the frozen head on {name_of(case)}"] = (round(best, 4), best >= gain)
    for case in CASES:
        pairs = [
            (results[*case, seed, "conservative"], found)
            for (*of, seed, strategy), found in results.items()
            if tuple(of) == case and strategy == "full" and (*case, seed, "conservative") in results
        ]
        pairs = [pair for pair in pairs if all("source_top1" in item for item in pair)]
        if pairs:
            for name, key in (("source top-1", "source_top1"), ("accuracy", "balanced_accuracy")):
                gain = round(float(np.mean([careful[key] - plain[key] for careful, plain in pairs])), 4)
                passed = gain > 0 if key == "source_top1" else gain >= 0
                bars[f"{name}, conservative less full, on {name_of(case)}"] = (gain, passed)
    return bars
