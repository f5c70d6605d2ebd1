"""The bars of the main job, measured by `benchmarks/main_job.py` through the real service."""

import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import main_job
from benchmarks.server import Server, running

SEEDS = 5


@pytest.fixture(scope="module")
def fresh_server(
    lite0_folder: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that has embedded nothing yet."""
    with running(tmp_path_factory.mktemp("bars"), extractor=lite0_folder) as server:
        yield server


@pytest.mark.timing
def test_a_head_costs_little_more_than_its_embeddings(fresh_server: Server) -> None:
    ratios = main_job.put_to_embedding_ratio(fresh_server, rounds=7)
    assert statistics.median(ratios) <= 1.5, ratios


@pytest.mark.timing
def test_training_again_embeds_nothing_and_is_fast(fresh_server: Server) -> None:
    found = main_job.retraining(fresh_server)
    assert found["new_embeddings"] == 0
    assert found["speedup"] >= 10, found


@pytest.mark.long
def test_accuracy_on_photographs_that_were_never_posted(fresh_server: Server) -> None:
    found = main_job.accuracies(fresh_server, SEEDS)
    assert statistics.mean(found["cats_dogs_10"]) >= 0.955, found
    assert statistics.mean(found["blood_cells_5"]) >= 0.97, found
