"""What is planted among examples is found, whatever their order."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.checks import found_wrong_labels
from benchmarks.embedded import embed_set, embedder
from tests.training.heads.clouds import clouds
from training.errors import NoExamplesError, SupportSetError, TooFewClassesError
from training.heads import FitOptions, check_examples
from training.heads import neighbours as neighbours_module
from training.heads import suspicion as suspicion_module
from training.heads.neighbours import find_neighbours


@pytest.fixture(scope="module")
def pets(lite0_folder, data_root):
    return embed_set(lite0_folder, data_root, "cats_dogs", 120)


def test_wrong_labels_are_in_the_first_tenth_of_the_ranking(pets):
    found = [found_wrong_labels(pets, 100, seed) for seed in range(3)]
    assert min(share for share, _ in found) >= 0.9
    assert min(right for _, right in found) == 1


def test_a_re_encoded_photograph_is_a_copy_and_two_photographs_are_not(pets, lite0_folder, data_root):
    embed = embedder(lite0_folder)
    copies = []
    for row in (3, 130):
        with Image.open(data_root / "cats_dogs" / pets.labels[row] / pets.names[row]) as image:
            stream = io.BytesIO()
            image.convert("RGB").resize((image.width * 4 // 5, image.height * 4 // 5)).save(stream, "JPEG")
        copies.append(embed(stream.getvalue()))
    embeddings = np.vstack((pets.embeddings, copies))
    found = check_examples(embeddings, [*pets.labels.tolist(), "cat", "cat"]).duplicates
    assert [(group.indices, group.conflicting) for group in found] == [((130, 241), True), ((3, 240), False)]
    assert all(0.95 <= group.similarity < 1 for group in found)


def test_photographs_of_something_else_are_the_least_typical(pets, lite0_folder, data_root):
    embed = embedder(lite0_folder)
    lesions = sorted((data_root / "ham10000" / "mel").glob("*.jpg"))[:6]
    embeddings = np.vstack((pets.embeddings, [embed(path.read_bytes()) for path in lesions]))
    found = check_examples(embeddings, [*pets.labels.tolist(), *["dog"] * 6]).outliers
    assert {240, 241, 242, 243, 244, 245} <= {outlier.index for outlier in found[:9]}
    assert np.mean([outlier.typicality < 0.05 for outlier in found]) <= 0.1


def _content(findings, rows):
    """Findings in terms of the rows that the examples came from."""
    return (
        sorted((rows[e.index], e.label, e.suggested, e.probability_given) for e in findings.label_errors),
        [e.score for e in findings.label_errors],
        sorted(
            (sorted(rows[i] for i in d.indices), d.similarity, d.conflicting) for d in findings.duplicates
        ),
        sorted((rows[o.index], o.typicality) for o in findings.outliers),
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_examples_does_not_matter(seed):
    embeddings, labels = clouds(3, 15, spread=3.0)
    embeddings[4] = embeddings[20]
    embeddings[5] = embeddings[6] * 1.01
    embeddings = np.vstack((embeddings, embeddings[:2]))
    labels = [*labels, *labels[:2]]
    order = np.random.default_rng(seed).permutation(len(labels))
    one = check_examples(embeddings, labels)
    other = check_examples(embeddings[order], [labels[row] for row in order])
    assert _content(one, range(len(labels))) == _content(other, order.tolist())


def test_equal_embeddings_are_grouped_and_those_of_two_labels_come_first():
    embeddings, labels = clouds(2, 10)
    embeddings = np.vstack((embeddings, embeddings[[0, 0, 3]]))
    found = check_examples(embeddings, [*labels, labels[0], labels[0], labels[10]]).duplicates
    assert [(group.indices, group.conflicting) for group in found] == [((3, 22), True), ((0, 20, 21), False)]
    assert [group.similarity for group in found] == pytest.approx([1, 1])


def test_everything_is_ranked_and_a_class_of_one_is_not_judged():
    embeddings, labels = clouds(2, 8)
    findings = check_examples(np.vstack((embeddings, -embeddings[:1])), [*labels, "alone"])
    assert sorted(error.index for error in findings.label_errors) == list(range(16))
    assert sorted(outlier.index for outlier in findings.outliers) == list(range(17))
    scores = [error.score for error in findings.label_errors]
    assert scores == sorted(scores, reverse=True)
    assert findings.outliers[0].index == 16


def test_large_sets_are_held_out_and_compared_in_parts(monkeypatch):
    """More examples than dimensions: sums over all of them, and no more than some cosines at once."""
    embeddings, labels = clouds(3, 80, dim=8, spread=3.0)
    whole = check_examples(embeddings, labels)
    monkeypatch.setattr(suspicion_module, "CHUNK_ROWS", 7)
    monkeypatch.setattr(neighbours_module, "BLOCK_VALUES", 500)
    monkeypatch.setattr("training.heads.ridge.MAX_HELD_OUT", 50)
    parts = check_examples(embeddings, labels)
    assert [error.index for error in parts.label_errors[:20]] == [
        error.index for error in whole.label_errors[:20]
    ]
    np.testing.assert_allclose(
        [error.score for error in parts.label_errors],
        [error.score for error in whole.label_errors],
        atol=0.05,
    )
    assert [outlier.index for outlier in parts.outliers] == [outlier.index for outlier in whole.outliers]


def test_neighbours_are_those_of_all_pairs():
    features = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    cosines = features @ features.T
    np.fill_diagonal(cosines, -2)
    found = find_neighbours(features)
    np.testing.assert_array_equal(found.rows, np.argsort(-cosines, axis=1)[:, :3])
    np.testing.assert_allclose(found.cosines, -np.sort(-cosines, axis=1)[:, :3], atol=1e-6)


def test_a_multi_label_set_has_copies_and_outliers():
    embeddings, labels = clouds(2, 10)
    sets = [[label] for label in labels]
    sets[1] = []
    embeddings = np.vstack((embeddings, embeddings[:2]))
    findings = check_examples(embeddings, [*sets, sets[0], sets[0]], options=FitOptions(task="multi_label"))
    assert findings.label_errors == ()
    assert [(g.indices, g.conflicting) for g in findings.duplicates] == [((1, 21), True), ((0, 20), False)]
    assert sorted(outlier.index for outlier in findings.outliers) == [0, *range(2, 21), 21]


def test_what_cannot_be_checked_is_refused():
    embeddings, labels = clouds(1, 3)
    with pytest.raises(TooFewClassesError):
        check_examples(embeddings, labels)
    with pytest.raises(NoExamplesError):
        check_examples(np.zeros((0, 4), np.float32), [])
    with pytest.raises(SupportSetError, match="one label for each"):
        check_examples(embeddings, ["a", "b"])
