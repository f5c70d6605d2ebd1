"""The cost of a whole fit, as a ratio to scikit-learn's logistic regression on the same data in the same run.

The ratios leave room for a busy machine: the shortest of several times is compared, and each limit is about
twice what was measured (docs/experiments.md).
"""

import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from tests.training.heads.clouds import clouds
from training.heads import fit_head


def _shortest_s(call, repeats=12):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize(("classes", "shots", "limit"), [(2, 10, 8), (2, 100, 16), (10, 20, 4)])
def test_a_fit_with_its_report_costs_a_few_plain_fits(classes, shots, limit):
    embeddings, labels = clouds(classes, shots, dim=1280, spread=6.0)
    features = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    with threadpool_limits(1):
        plain = np.mean([
            _shortest_s(lambda c=c: LogisticRegression(C=c, max_iter=1000).fit(features, labels), 3)
            for c in (1, 10, 100)
        ])  # fmt: skip
        whole = _shortest_s(lambda: fit_head(embeddings, labels, extractor_digest="d"))
    assert whole < limit * plain


def test_scoring_costs_little_more_than_one_matrix_product():
    head = fit_head(*clouds(10, 10, dim=1280), extractor_digest="d")
    inputs = np.random.default_rng(0).random((64, 1280), dtype=np.float32)
    matrix = np.ascontiguousarray(
        np.vstack([head.weights, head.typicality.means, head.typicality.directions]).T
    )
    with threadpool_limits(1):
        product = _shortest_s(lambda: inputs @ matrix)
        whole = _shortest_s(lambda: head.predict(inputs))
    assert whole < 25 * product
