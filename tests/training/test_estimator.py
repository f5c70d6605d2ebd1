"""`HeadClassifier` behaves as scikit-learn's own classifiers do, and exchanges heads with the service."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from tests.training.heads.clouds import clouds
from training.errors import HeadFileError
from training.estimator import HeadClassifier
from training.heads import NEGATIVE_LABEL, FitOptions, fit_head, load_head, save_head

OPTIONAL = {"check_array_api_input", "check_classifier_data_not_an_array"}  # skipped without what they test


@pytest.fixture
def problem():
    embeddings, labels = clouds(3, 12, spread=2.0)
    return embeddings, np.array(labels)


def test_every_check_of_scikit_learn_passes():
    results = check_estimator(HeadClassifier(), on_skip=None)
    assert len(results) > 50
    others = {result["check_name"] for result in results if result["status"] != "passed"}
    assert others <= OPTIONAL


def test_it_fits_what_fit_head_fits(problem):
    embeddings, labels = problem
    classifier = HeadClassifier(random_state=7).fit(embeddings, labels)
    head = fit_head(embeddings, labels.tolist(), extractor_digest="", options=FitOptions(seed=7))
    np.testing.assert_array_equal(classifier.head_.weights, head.weights)
    prediction = head.predict(embeddings)
    np.testing.assert_array_equal(classifier.predict(embeddings), prediction.labels)
    np.testing.assert_allclose(classifier.predict_proba(embeddings), prediction.probabilities, atol=1e-6)
    np.testing.assert_array_equal(classifier.typicality(embeddings), prediction.typicality)
    assert classifier.report_.accuracy == head.report.accuracy


@pytest.mark.parametrize("values", [[10, 9, 100], [True, False], ["b", "a", "c"], [0.5, 1.5], [-1, 1]])
def test_labels_keep_their_type(values):
    embeddings, names = clouds(len(values), 6)
    numbers = [int(name[-2:]) for name in names]
    labels = np.array(values)[numbers]
    if labels.dtype == float:
        with pytest.raises(ValueError, match="continuous"):
            HeadClassifier().fit(embeddings, labels)
        return
    classifier = HeadClassifier().fit(embeddings, labels)
    assert classifier.classes_.tolist() == sorted(values)
    assert classifier.predict(embeddings).dtype == labels.dtype
    assert classifier.score(embeddings, labels) == 1
    chances = classifier.predict_proba(embeddings)
    np.testing.assert_array_equal(classifier.classes_[chances.argmax(axis=1)], labels)


def test_unknown_inputs_are_not_named(problem):
    embeddings, labels = problem
    classifier = HeadClassifier(threshold=0.02).fit(embeddings, labels)
    strange = -np.abs(embeddings[:3]) - 1
    assert classifier.predict_known(strange).tolist() == [None] * 3
    assert classifier.predict_known(strange, unknown="?").tolist() == ["?"] * 3
    assert classifier.predict_known(embeddings[:3]).tolist() == labels[:3].tolist()
    assert (classifier.typicality(strange) < 0.02).all()


def test_negatives_are_no_class(problem):
    embeddings, labels = problem
    classifier = HeadClassifier().fit(embeddings, np.where(labels == "class 02", NEGATIVE_LABEL, labels))
    assert classifier.classes_.tolist() == ["class 00", "class 01"]
    assert classifier.predict_known(embeddings[labels == "class 02"]).tolist() == [None] * 12


def test_pipelines_cross_validation_grid_search_clone_and_pickle(problem):
    embeddings, labels = problem
    assert cross_val_score(HeadClassifier(), embeddings, labels, cv=3).mean() > 0.9
    pipeline = make_pipeline(StandardScaler(), HeadClassifier()).fit(embeddings, labels)
    assert pipeline.score(embeddings, labels) > 0.9
    grid = {"feature_transform": ["l2", "signed_root_l2"], "regularisation": [0.1, 1.0]}
    search = GridSearchCV(HeadClassifier(), grid, cv=3, scoring="neg_log_loss").fit(embeddings, labels)
    assert search.best_score_ > -0.3
    classifier = HeadClassifier(unknown_rate=0.1).fit(embeddings, labels)
    assert clone(classifier).get_params() == classifier.get_params()
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(embeddings), classifier.predict_proba(embeddings))


def test_head_files_go_both_ways(problem, tmp_path):
    embeddings, labels = problem
    classifier = HeadClassifier().fit(embeddings, labels)
    with pytest.raises(ValueError, match="extractor_digest"):
        classifier.save_head(tmp_path / "a.head")
    classifier.save_head(tmp_path / "a.head", extractor_digest="digest")
    assert load_head((tmp_path / "a.head").read_bytes(), extractor_digest="digest").dim == 48
    again = HeadClassifier.from_head_file(tmp_path / "a.head")
    np.testing.assert_array_equal(again.predict_proba(embeddings), classifier.predict_proba(embeddings))
    again.save_head(tmp_path / "b.head")
    assert (tmp_path / "b.head").read_bytes() == (tmp_path / "a.head").read_bytes()


def test_a_multi_label_head_file_is_refused(problem, tmp_path):
    embeddings, labels = problem
    options = FitOptions(task="multi_label")
    head = fit_head(embeddings, [[label] for label in labels], extractor_digest="d", options=options)
    (tmp_path / "multi.head").write_bytes(save_head(head))
    with pytest.raises(HeadFileError, match="multi_label"):
        HeadClassifier.from_head_file(tmp_path / "multi.head")


@pytest.mark.parametrize(
    "parameters", [{"feature_transform": "l3"}, {"regularisation": -1}, {"unknown_rate": 2}, {"threshold": 9}]
)
def test_bad_parameters_are_named_when_it_is_fitted(problem, parameters):
    with pytest.raises(ValueError, match=next(iter(parameters)).removeprefix("feature_")):
        HeadClassifier(**parameters).fit(*problem)


def test_random_state_takes_what_scikit_learn_takes(problem):
    for state in (None, 3, np.int64(3), np.random.RandomState(3)):
        assert HeadClassifier(random_state=state).fit(*problem).score(*problem) > 0.9


def test_layers_of_rows(tmp_path):
    rows, labels = clouds(3, 12)
    dims = {"embedding": 30, "stage2": 6, "stage3": 12}
    chosen = clone(HeadClassifier(layers="auto", layer_dims=dims)).fit(rows, labels)
    assert chosen.report_.layers_tried
    fitted = HeadClassifier(layers=["stage3", "embedding"], layer_dims=dims).fit(rows, labels)
    assert fitted.report_.layers == ("embedding", "stage3")
    assert fitted.n_features_in_ == 48
    fitted.save_head(tmp_path / "a.head", extractor_digest="digest")
    loaded = HeadClassifier.from_head_file(tmp_path / "a.head")
    assert loaded.n_features_in_ == 42
    alone = np.concatenate((rows[:, :30], rows[:, 36:]), axis=1)
    np.testing.assert_array_equal(loaded.predict_proba(alone), fitted.predict_proba(rows))
    with pytest.raises(ValueError, match="got 'stage9'"):
        HeadClassifier(layers=("stage9",), layer_dims=dims).fit(rows, labels)
