"""What many heads cost, measured by `benchmarks/many_heads.py` with fewer of them and some room."""

from pathlib import Path

import pytest

from benchmarks import many_heads
from benchmarks.server import running

HEADS, ROUNDS, MOST = 300, 15, 2.0


@pytest.mark.long
def test_many_heads_cost_little_more_than_one(lite0_folder: Path, data_root: Path, tmp_path: Path) -> None:
    with running(tmp_path, extractor=lite0_folder) as server:
        names = many_heads.import_heads(server, HEADS)
        ratios = many_heads.ratios(many_heads.measure(server, names, ROUNDS))
    new = {name: ratio for name, ratio in ratios.items() if name.endswith("_new")}
    assert len(new) == 2
    assert max(new.values()) <= MOST, ratios
