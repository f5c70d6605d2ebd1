"""The cost of a whole fit, as a ratio to scikit-learn's logistic regression on the same data in the same run.

`make bench-heads` prints the figures; here they are kept with room for a machine that is busy:
the shortest of several times is compared, on one thread.
"""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from benchmarks.embedded import best_time_s
from tests.training.heads.clouds import clouds
from training.heads import FitOptions, HeadStack, fit_head

pytestmark = pytest.mark.timing

ROOT = FitOptions(transform="signed_root_l2")


@pytest.mark.parametrize(("classes", "shots", "times"), [(2, 10, 0.5), (10, 20, 1.0), (100, 5, 2.0)])
def test_a_fit_with_its_report_is_not_slower_than_one_plain_fit(classes, shots, times):
    embeddings, labels = clouds(classes, shots, dim=1280, spread=6.0)
    features = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    with threadpool_limits(1):
        plain = np.mean([
            best_time_s(lambda c=c: LogisticRegression(C=c, max_iter=1000).fit(features, labels), 3)
            for c in (1, 10, 100)
        ])  # fmt: skip
        whole = best_time_s(lambda: fit_head(embeddings, labels, extractor_digest="d"), 12)
    assert times * whole < plain


def test_a_thousand_heads_cost_little_more_than_one_matrix_product():
    heads = [
        fit_head(*clouds(10, 4, dim=1280, seed=seed), extractor_digest="d", options=ROOT)
        for seed in range(20)
    ]
    stack = HeadStack(heads * 50)
    matrix = np.concatenate([head.weights for head in heads] * 50)
    feature = np.random.default_rng(0).random(1280, dtype=np.float32)
    with threadpool_limits(1):
        product = best_time_s(lambda: matrix @ feature, 40)
        whole = best_time_s(lambda: stack.predict(feature), 40)
    assert whole < 2.5 * product
