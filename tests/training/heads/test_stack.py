import numpy as np
import pytest

from tests.training.heads.clouds import clouds
from training.errors import ExtractorMismatchError, InputError, SupportSetError
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
@pytest.mark.parametrize("threshold", [None, 0.3])
def test_a_stack_answers_as_its_heads_do(heads, kind, threshold):
    embedding = clouds(2, 1, seed=3)[0][0] * {"usual": 1, "zero": 0, "huge": np.float32(1e37)}[kind]
    stack = HeadStack(heads)
    found = stack.predict(embedding, threshold)
    for index, head in enumerate(heads):
        check(found, index, head.predict(embedding[None], threshold))
    assert len(stack) == len(heads) == len(found.best)
    assert stack.size_bytes == sum(head.rows.nbytes for head in heads)


def check(found, index, alone):
    """Whether a head of a stack says what it says alone; the products have the same bits."""
    np.testing.assert_allclose(found.probabilities(index), alone.probabilities[0], rtol=0, atol=1e-7)
    assert found.best[index] == alone.best[0]
    assert found.probability[index] == found.probabilities(index).max()
    assert found.typicality[index] == pytest.approx(alone.typicality[0], abs=1e-7)
    assert found.unknown[index] == alone.unknown[0]
    if alone.negative is None:
        assert np.isnan(found.negative[index])
    else:
        assert found.negative[index] == pytest.approx(alone.negative[0], abs=1e-7)


def test_a_threshold_out_of_bounds_is_refused(heads):
    with pytest.raises(SupportSetError, match="threshold"):
        HeadStack(heads).predict(np.ones(48, np.float32), 1.5)


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
