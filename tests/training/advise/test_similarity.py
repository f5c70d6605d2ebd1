"""Similarity to the source on real images: few of them are enough, and a verdict in doubt says so."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.training.advise.conftest import Rows
from training.advise import Similarity, SourceKnowledge, measure_similarity
from training.advise.similarity import tap_distance
from training.heads.layers import layers_of
from training.manifest import Manifest
from training.source import Channels

pytestmark = pytest.mark.long

RowsOf = Callable[[str], Rows]
Judge = Callable[[np.ndarray], Similarity]


@pytest.fixture
def judge(manifest: Manifest, source: SourceKnowledge) -> Judge:
    return lambda rows: similarity_of(rows, manifest, source)


def similarity_of(rows: np.ndarray, manifest: Manifest, source: SourceKnowledge) -> Similarity:
    first, *taps = layers_of(manifest.layer_dims)
    return measure_similarity(
        {tap.name: rows[:, tap.columns] for tap in taps}, rows[:, first.columns], source
    )


@pytest.mark.parametrize(
    ("name", "level"),
    [("imagenet_sample", "high"), ("cats_dogs", "high"), ("blood_cells", "low"), ("ham10000", "low")],
)
def test_any_five_images_tell_how_far_a_set_is(rows_of: RowsOf, judge: Judge, name: str, level: str) -> None:
    everything = rows_of(name)
    rng = np.random.default_rng(0)
    found = [judge(everything.rows[rng.choice(len(everything.rows), 5, replace=False)]) for _ in range(30)]
    assert [similarity.level for similarity in found] == [level] * 30
    assert sum(similarity.is_sure for similarity in found) >= 24
    whole = judge(everything.rows)
    assert whole.is_sure
    held = [similarity.low < whole.distance < similarity.high for similarity in found]  # type: ignore[operator]
    assert sum(held) >= 26


@pytest.mark.parametrize("name", ["cats_dogs", "blood_cells", "ham10000"])
def test_one_class_alone_is_as_far_as_its_set(rows_of: RowsOf, judge: Judge, name: str) -> None:
    everything = rows_of(name)
    level = judge(everything.rows).level
    rng = np.random.default_rng(1)
    for label in np.unique(everything.labels):
        members = np.flatnonzero(everything.labels == label)
        for _ in range(5):
            assert judge(everything.rows[rng.choice(members, 5, replace=False)]).level == level, label


def test_without_statistics_the_verdict_is_weaker(
    rows_of: RowsOf, manifest: Manifest, source: SourceKnowledge
) -> None:
    alone = replace(source, statistics=None)
    for name in ("cats_dogs", "ham10000"):
        rows = rows_of(name).rows
        with_both, weaker = similarity_of(rows, manifest, source), similarity_of(rows, manifest, alone)
        assert weaker.level == with_both.level
        assert weaker.confidence < with_both.confidence
        assert (weaker.distance, weaker.is_sure) == (None, False)
    assert similarity_of(rows_of("imagenet_sample").rows, manifest, alone).is_sure


def test_without_any_knowledge_there_is_no_verdict(rows_of: RowsOf, manifest: Manifest) -> None:
    found = similarity_of(rows_of("blood_cells").rows, manifest, SourceKnowledge(None, None))
    assert (found.level, found.confidence, found.is_sure, found.opinion) == (None, 0.5, False, None)


def test_what_chance_adds_to_a_distance_is_taken_off() -> None:
    """Images whose channels are those of the source are no farther for being few."""
    rng = np.random.default_rng(0)
    mean, std = np.zeros(200, np.float32), np.ones(200, np.float32)
    channels = Channels(mean, std)
    shifted = [rng.normal(0.3, 1, size=(count, 200)).astype(np.float32) for count in (4, 4, 4, 4, 4, 4)]
    raw = np.mean([channels.distance(rows) for rows in shifted])
    corrected = np.mean([tap_distance(rows, channels) for rows in shifted])
    assert raw > 0.5
    assert corrected == pytest.approx(0.3, abs=0.05)
