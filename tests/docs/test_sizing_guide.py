"""The arithmetic of the page on sizing follows from its figures."""

import math
import re
from pathlib import Path

import pytest

from benchmarks.sizing import BUSY, GUIDE, read_figures
from training.manifest import Manifest

PAGE = GUIDE.read_text(encoding="utf-8")
FIGURES = read_figures(PAGE)
ROWS = re.findall(r"^\| (\d+) \| (\d+) \| ([\d.]+) \| (\d+) \|$", PAGE, re.MULTILINE)
FORMULA = "cores = N * ((1 - c) * new + c * cached + (M - 1) * head) / 1000 / busy"


def test_the_examples_follow_from_the_figures_and_the_formula() -> None:
    assert FORMULA in PAGE
    assert f"that you plan to use: {BUSY:g}." in PAGE
    assert len(ROWS) >= 8
    known = {"new": FIGURES.new_ms, "cached": FIGURES.cached_ms, "head": FIGURES.head_ms, "busy": BUSY}
    for requests, heads, seen, cores in ROWS:
        assert FIGURES.cores(int(requests), heads=int(heads), cached=float(seen)) == int(cores)
        names = known | {"N": int(requests), "M": int(heads), "c": float(seen)}
        exact = eval(FORMULA.partition("= ")[2], {}, names)
        assert max(1, math.ceil(round(exact, 6))) == int(cores)


def test_memory_disk_and_bulk_follow_too(lite0_folder: Path) -> None:
    assert f"`HEADSTART_WORKERS`): {FIGURES.worker_mb:g} MB" in PAGE
    numbers = Manifest.load(lite0_folder).width
    row = 4 * numbers
    assert f"is {numbers} numbers, {row / 1e3:.1f} kB" in PAGE
    assert f"100,000 examples of 50 kB take\n{100_000 * (50_000 + row) / 1e9:.1f} GB" in PAGE
    assert f"one million embeddings without inputs {1e6 * row / 1e9:.1f} GB" in PAGE
    (images_per_s,) = map(int, re.findall(r"embeds about (\d+) images a second", PAGE))
    hours = 1e6 / images_per_s / 3600
    assert f"take {hours:.1f} core-hours" in PAGE
    two, many = map(int, re.findall(r"(\d+) minutes on two cores, (\d+) on 32", PAGE)[0])
    assert two == pytest.approx(60 * hours / 2, rel=0.05)
    assert many == pytest.approx(60 * hours / 32, rel=0.1)
