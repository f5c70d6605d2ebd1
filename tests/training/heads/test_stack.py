import numpy as np
import pytest

from tests.training.heads.clouds import clouds
from training.errors import ExtractorMismatchError, InputError
from training.heads import FitOptions, HeadStack, fit_head


@pytest.fixture(scope="module")
def heads():
    """Heads of many shapes: tasks, transforms, numbers of classes and of examples, negatives."""
    found = []
    for seed, (classes, shots) in enumerate([(2, 1), (3, 8), (3, 8), (3, 8), (10, 6), (2, 30)]):
        embeddings, labels = clouds(classes, shots, seed=seed, spread=2.0)
        for transform in ("l2", "signed_root_l2"):
            options = FitOptions(transform=transform, threshold=0.1 * seed)
            found.append(fit_head(embeddings, labels, extractor_digest="d", options=options))
    embeddings, labels = clouds(4, 6)
    found.append(fit_head(embeddings, [*labels[:18], *["__none__"] * 6], extractor_digest="d"))
    options = FitOptions(task="multi_label")
    sets = [{label, "all"} for label in labels]
    found.append(fit_head(embeddings, sets, extractor_digest="d", options=options))
    return found


@pytest.mark.parametrize("kind", ["usual", "zero", "huge"])
def test_a_stack_answers_as_its_heads_do(heads, kind):
    embedding = clouds(2, 1, seed=3)[0][0] * {"usual": 1, "zero": 0, "huge": np.float32(1e37)}[kind]
    seen = []
    for group in HeadStack(heads).predict(embedding):
        for row, index in enumerate(group.heads):
            alone = heads[index].predict(embedding[None])
            np.testing.assert_allclose(group.probabilities[row], alone.probabilities[0], atol=1e-5)
            np.testing.assert_allclose(group.typicality[row], alone.typicality[0], atol=1e-4)
            assert group.unknown[row] == alone.unknown[0]
            best = alone.probabilities[0, group.best[row]]
            assert best == pytest.approx(alone.probabilities.max(), abs=1e-5)
            assert (group.negative is None) == (alone.negative is None)
            seen.append(index)
    assert sorted(seen) == list(range(len(heads)))


def test_heads_of_two_extractors_are_no_stack(heads):
    other = fit_head(*clouds(2, 3), extractor_digest="other")
    with pytest.raises(ExtractorMismatchError):
        HeadStack([*heads, other])


def test_what_is_not_an_embedding_is_refused(heads):
    stack = HeadStack(heads)
    with pytest.raises(ExtractorMismatchError, match="48 dimensions"):
        stack.predict(np.ones(47, np.float32))
    with pytest.raises(ExtractorMismatchError):
        stack.predict(np.ones((2, 48), np.float32))
    with pytest.raises(InputError):
        stack.predict(np.full(48, np.nan, np.float32))
