"""Heads on several layers of a row: what they are, which are chosen, and that nothing else changes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from tests.training.heads.clouds import clouds
from tests.training.heads.test_stack import check
from training.errors import ExtractorMismatchError, SupportSetError
from training.heads import FitOptions, HeadStack, check_examples, fit_head, load_head, save_head
from training.heads.transform import TRANSFORMS, transform_features

DIMS = {"embedding": 30, "stage2": 6, "stage3": 12}
ALL = tuple(DIMS)


def rows(classes=3, shots=8, *, embedding=1.0, taps=1.0, seed=0):
    """Rows of which embedding and taps are told apart by so much of their spread, and labels."""
    points, labels = clouds(classes, shots, dim=48, seed=seed)
    noise = np.random.default_rng(seed + 1).permutation(points)
    share = np.where(np.arange(48) < DIMS["embedding"], embedding, taps)
    return (share * points + (1 - share) * noise).astype(np.float32), labels


def fit(embeddings, labels, layer_dims=DIMS, **options):
    options = FitOptions(**options)
    return fit_head(embeddings, labels, extractor_digest="d", options=options, layer_dims=layer_dims)


def without_timings(head):
    return save_head(replace(head, width=0, report=replace(head.report, timings_ms={})))


@pytest.mark.parametrize("shots", [1, 2, 8, 120])
def test_the_embedding_of_a_row_is_fitted_as_an_embedding_alone(shots):
    points, labels = clouds(3, shots, dim=88)
    head = fit(points, labels, layer_dims={**DIMS, "embedding": 70})
    alone = fit(points[:, :70], labels, layer_dims=None)
    assert without_timings(head) == without_timings(alone)
    assert (head.width, head.dim, alone.width) == (88, 70, 70)


@pytest.mark.parametrize("shots", [1, 4, 120])
@pytest.mark.parametrize("layers", [("embedding",), ("stage3",), ("embedding", "stage3"), ALL])
def test_rows_and_their_chosen_layers_are_answered_alike(layers, shots):
    points, labels = rows(shots=shots)
    head = fit(points, labels, layers=layers)
    assert head.report.layers == tuple(layer.name for layer in head.layers) == layers
    chosen = np.concatenate([points[:, layer.columns] for layer in head.layers], axis=1)
    assert chosen.shape[1] == head.dim == head.weights.shape[1]
    one, other = head.predict(points), head.predict(chosen)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.typicality, other.typicality)
    assert np.mean(np.array(one.labels) == labels) > 0.95
    with pytest.raises(ExtractorMismatchError, match="expected 48"):
        head.predict(points[:, :-1])


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_layers_count_alike_whatever_their_length_and_scale(transform):
    points, labels = rows()
    head = fit(points, labels, layers=ALL, transform=transform)
    parts = np.split(points, [30, 36], axis=1)
    features = np.concatenate([transform_features(part, transform) for part in parts], axis=1) / np.sqrt(3)
    alone = replace(FitOptions(), transform="l2")
    expected = fit_head(features.astype(np.float32), labels, extractor_digest="d", options=alone)
    np.testing.assert_allclose(head.weights, expected.weights, atol=1e-4)
    scaled = points * np.repeat([1, 1000, 0.001], list(DIMS.values())).astype(np.float32)
    again = fit(scaled, labels, layers=ALL, transform=transform)
    np.testing.assert_allclose(
        again.predict(scaled).probabilities, head.predict(points).probabilities, atol=1e-3
    )


def test_neither_order_changes_a_head():
    points, labels = rows()
    order = np.random.default_rng(0).permutation(len(labels))
    for layers in (ALL, "auto"):
        head = fit(points, labels, layers=layers)
        other = fit(points[order], [labels[row] for row in order], layers=layers)
        assert without_timings(head) == without_timings(other)
    assert without_timings(fit(points, labels, layers=ALL[::-1])) == without_timings(
        fit(points, labels, layers=ALL)
    )


@pytest.mark.parametrize("transform", [None, "l2"])
def test_taps_are_chosen_where_they_tell_more(transform):
    points, labels = rows(4, 12, embedding=0.2)
    head = fit(points, labels, layers="auto", transform=transform)
    assert head.report.layers == ALL
    assert [entry["layers"] for entry in head.report.layers_tried] == [
        ["embedding"],
        ["embedding", "stage3"],
        list(ALL),
    ]
    errors = [entry["error"] for entry in head.report.layers_tried]
    assert min(errors) == errors[2]
    explicit = fit(points, labels, layers=ALL, transform=transform)
    np.testing.assert_array_equal(head.weights, explicit.weights)
    assert explicit.report.layers_tried == ()


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_the_embedding_stays_alone_where_taps_tell_nothing(task):
    points, labels = rows(4, 12, taps=0.0)
    sets = [[label] for label in labels] if task == "multi_label" else labels
    assert fit(points, sets, layers="auto", task=task).report.layers == ("embedding",)


def test_the_embedding_stays_alone_where_nothing_can_be_compared():
    points, labels = rows(3, 1, embedding=0.0)
    head = fit(points, labels, layers="auto")
    assert (head.report.layers, head.report.layers_tried) == (("embedding",), ())
    head = fit(*rows(), layer_dims=None, layers="auto")
    assert (head.report.layers, head.width) == (("embedding",), 48)


def test_layers_that_are_not_there():
    points, labels = rows()
    with pytest.raises(SupportSetError, match="embedding, stage2, stage3, got 'stage9'"):
        fit(points, labels, layers=("embedding", "stage9"))
    with pytest.raises(SupportSetError, match="some of embedding, got 'stage2'"):
        fit(points, labels, layer_dims=None, layers=("stage2",))
    with pytest.raises(SupportSetError, match="rows of 48 columns, got 47"):
        fit(points[:, :-1], labels)


@pytest.mark.parametrize("layers", ["embedding", (), ("a", "a"), ("auto",), ("",), (1,), None, 3])
def test_options_that_name_no_layers(layers):
    with pytest.raises(SupportSetError, match="layers"):
        FitOptions(layers=layers)


def test_options_as_json():
    assert FitOptions(layers=["stage2", "embedding"]).as_dict()["layers"] == ["stage2", "embedding"]
    assert FitOptions(layers="auto").as_dict()["layers"] == "auto"


@pytest.mark.parametrize("layers", [ALL, ("stage2",), "auto"])
def test_a_file_keeps_the_layers(layers):
    head = fit(*rows(), layers=layers)
    again = load_head(save_head(head))
    assert (again.layers, again.width, again.report.layers) == (head.layers, 48, head.report.layers)
    assert again.report.layers_tried == head.report.layers_tried
    assert save_head(again) == save_head(head)


def test_a_file_of_before_there_were_layers_is_a_head_of_embeddings():
    points, labels = clouds(3, 8)
    head = fit(points, labels, layer_dims=None)
    data = save_head(head)
    length = int.from_bytes(data[:8], "little")
    document = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["headstart"])
    del document["layers"], document["report"]["layers"], document["report"]["layers_tried"]
    document |= {"format_version": 1, "dim": document.pop("width")}
    old = load_head(save(load(data), {"headstart": json.dumps(document)}))
    assert save_head(old) == data


def test_heads_of_different_layers_share_a_stack():
    points, labels = rows()
    heads = [fit(points, labels, layers=layers) for layers in (("embedding",), ALL, ALL, ("stage3",))]
    heads += [fit(points, labels, layers=ALL, transform=name) for name in TRANSFORMS]
    found = HeadStack(heads).predict(points[5])
    for index, head in enumerate(heads):
        check(found, index, head.predict(points[5:6]))


def test_typicality_is_of_the_chosen_layers():
    points, labels = rows(3, 20)
    strange = points[:5].copy()
    strange[:, 30:] = np.random.default_rng(5).uniform(0, 9, (5, 18))
    assert fit(points, labels).predict(strange).typicality.min() > 0.05
    assert np.median(fit(points, labels, layers=ALL).predict(strange).typicality) < 0.05


def test_checks_judge_labels_by_the_chosen_layers_and_copies_by_the_embedding():
    points, labels = rows(3, 20, embedding=0.0)
    wrong = ["class 01", *labels[1:]]
    copy = points[7].copy()
    copy[30:] = points[30, 30:]
    points, wrong = np.concatenate((points, copy[None])), [*wrong, labels[7]]
    found = check_examples(points, wrong, options=FitOptions(layers=("stage2", "stage3")), layer_dims=DIMS)
    assert found.label_errors[0].index in (0, 60)
    assert 0 in [error.index for error in found.label_errors[:2]]
    assert (7, 60) in [group.indices for group in found.duplicates]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_rows_and_layers_give_a_head_that_answers(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count = data.draw(st.integers(4, 20))
    scale = data.draw(st.sampled_from([0.0, 1e-30, 1.0, 1e30]))
    points = (rng.standard_normal((count, 48)) * np.repeat([1.0, scale, 1.0], [30, 6, 12])).astype(np.float32)
    labels = [f"class {row % data.draw(st.integers(2, 3))}" for row in range(count)]
    labels[:2] = ["class 0", "class 1"]
    layers = data.draw(st.sampled_from(["auto", ALL, ("stage2",), ("embedding", "stage2")]))
    head = load_head(save_head(fit(points, labels, layers=layers)))
    found = head.predict(rng.standard_normal((5, 48)).astype(np.float32) * 1e20)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert ((found.typicality >= 0) & (found.typicality <= 1)).all()
