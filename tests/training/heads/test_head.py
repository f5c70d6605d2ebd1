import numpy as np
import pytest

from tests.training.heads.clouds import clouds
from training.errors import ExtractorMismatchError, InputError, SupportSetError
from training.heads import fit_head


@pytest.fixture(scope="module")
def head():
    return fit_head(*clouds(3, 10), extractor_digest="digest")


def test_the_threshold_of_a_request_overrides_the_head(head):
    embeddings, _ = clouds(3, 10)
    assert head.predict(embeddings, threshold=1.0).unknown.all()
    assert not head.predict(embeddings, threshold=0.0).unknown.any()
    prediction = head.predict(embeddings)
    np.testing.assert_array_equal(prediction.unknown, prediction.typicality < head.unknown_threshold)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), True])
def test_a_threshold_is_a_typicality(head, threshold):
    with pytest.raises(SupportSetError, match="threshold"):
        head.predict(np.ones((1, 48), np.float32), threshold=threshold)


def test_embeddings_of_another_length(head):
    with pytest.raises(ExtractorMismatchError, match="expected 48 dimensions, got 47"):
        head.predict(np.ones((1, 47), np.float32))


@pytest.mark.parametrize("bad", [np.ones(48, np.float32), np.full((1, 48), np.nan, np.float32), [["x"] * 48]])
def test_inputs_that_are_not_embeddings(head, bad):
    with pytest.raises(InputError):
        head.predict(bad)


def test_no_inputs(head):
    prediction = head.predict(np.zeros((0, 48), np.float32))
    assert prediction.probabilities.shape == (0, 3)
    assert prediction.labels == []


def test_float64_and_strided_inputs_equal_contiguous_ones(head):
    embeddings, _ = clouds(3, 10)
    plain = head.predict(embeddings).probabilities
    np.testing.assert_array_equal(head.predict(embeddings.astype(np.float64)).probabilities, plain)
    np.testing.assert_array_equal(head.predict(np.asfortranarray(embeddings)).probabilities, plain)
