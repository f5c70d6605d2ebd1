"""Advice on real sets: the scenario, what is recommended, and honesty where little is known."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from tests.training.advise.conftest import Rows
from tests.training.advise.test_similarity import similarity_of
from training.advise import Advice, SourceKnowledge, advise
from training.advise.advice import SCENARIOS
from training.advise.size import Size
from training.errors import NoExamplesError, TooFewClassesError
from training.heads.gathering import gather
from training.manifest import Manifest

pytestmark = pytest.mark.long

RowsOf = Callable[[str], Rows]
Ask = Callable[..., Advice]

CASES = [
    ("cats_dogs", {"each": 20}, 1),
    ("blood_cells", {"each": 5}, 2),
    ("ham10000", {"each": 20}, 2),
    ("ham10000", {"each": 50}, 2),
    ("ham10000", {"share": 0.75}, 3),
    ("cats_dogs", {"each": 500}, 4),
]


@pytest.fixture
def ask(manifest: Manifest, source: SourceKnowledge) -> Ask:
    def ask(rows: np.ndarray, labels: object, **options: object) -> Advice:
        known = {"source": source, "layer_dims": manifest.layer_dims, "embed_ms": 6.0, **options}
        return advise(rows, list(labels), extractor_digest=manifest.digest, **known)  # type: ignore[arg-type, call-overload]

    return ask


@pytest.mark.parametrize(("name", "drawn", "scenario"), CASES)
def test_the_scenario_is_the_same_for_every_draw(
    rows_of: RowsOf, manifest: Manifest, source: SourceKnowledge, name: str, drawn: dict, scenario: int
) -> None:
    for seed in range(20):
        part = rows_of(name).draw(seed, **drawn)
        similarity = similarity_of(part.rows, manifest, source)
        size = Size.of(gather(part.rows, part.labels.tolist(), "single_label", 0, manifest.layer_dims))
        assert SCENARIOS[size.level, similarity.level] == scenario, seed  # type: ignore[index]
        assert similarity.is_sure


@pytest.mark.parametrize(
    ("case", "strategy", "others"),
    [
        (CASES[0], "head", {"layers"}),
        (CASES[1], "layers", {"head"}),
        (CASES[2], "last-blocks", {"head", "layers"}),
        (CASES[3], "conservative", {"last-blocks", "head", "layers"}),
        (CASES[4], "last-blocks", {"full", "conservative", "head", "layers"}),
        (CASES[5], "head", set()),
    ],
)
def test_each_case_has_its_strategy(
    rows_of: RowsOf, ask: Ask, case: tuple[str, dict, int], strategy: str, others: set[str]
) -> None:
    name, drawn, scenario = case
    part = rows_of(name).draw(0, **drawn)
    found = ask(part.rows, part.labels)
    assert (found.scenario, found.recommended.strategy) == (scenario, strategy)
    assert {plan.strategy for plan in found.alternatives} == others
    assert found.enough_data
    assert found.summary.startswith(f"Scenario {scenario}: {found.size}, and ")
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["scenario"] == scenario
    for plan in (found.recommended, *found.alternatives):
        trains = plan.strategy in ("last-blocks", "full", "conservative")
        assert (plan.cost.epochs > 0) == (plan.cost.minutes > 0) == trains
        assert plan.gain.basis == {"head": "none", "layers": "measured"}.get(plan.strategy, "other_data")


def test_the_gain_of_layers_is_that_of_the_heads(rows_of: RowsOf, ask: Ask) -> None:
    part = rows_of("ham10000").draw(1, each=50)
    found = ask(part.rows, part.labels)
    figures = found.as_dict()["figures"]
    heads = figures["heads"]
    gain = heads["every_layer"]["gain"]
    assert gain == pytest.approx(heads["every_layer"]["accuracy"] - heads["embedding"]["accuracy"])
    assert heads["every_layer"]["gain_low"] < gain < heads["every_layer"]["gain_high"]
    assert [layer["layer"] for layer in figures["layers"]] == heads["every_layer"]["layers"]
    accuracies = {layer["layer"]: layer["accuracy"] for layer in figures["layers"]}
    assert accuracies["embedding"] == heads["embedding"]["accuracy"] > 0.4
    assert heads["every_layer"]["accuracy"] > max(accuracies.values())
    assert figures["leep"] < 0
    assert any(f"{100 * heads['embedding']['accuracy']:.1f} %" in reason for reason in found.reasons)


def test_the_order_of_the_examples_changes_nothing(rows_of: RowsOf, ask: Ask) -> None:
    part = rows_of("blood_cells").draw(0, each=8)
    turned = part.take(np.random.default_rng(0).permutation(len(part.labels)))
    one, other = ask(part.rows, part.labels), ask(turned.rows, turned.labels)
    assert (one.summary, one.reasons, one.warnings) == (other.summary, other.reasons, other.warnings)


def test_one_example_of_each_class_is_too_little(rows_of: RowsOf, ask: Ask) -> None:
    part = rows_of("ham10000").draw(0, each=1)
    found = ask(part.rows, part.labels)
    assert not found.enough_data
    assert (found.recommended.strategy, found.alternatives) == ("head", ())
    assert "no class has a second example" in found.summary
    assert [warning.code for warning in found.warnings][:2] == ["not_validated", "few_examples"]
    assert found.measures.embedding.accuracy is None


def test_labels_that_mean_nothing_are_not_built_on(rows_of: RowsOf, ask: Ask) -> None:
    part = rows_of("cats_dogs").draw(0, each=30)
    shuffled = np.random.default_rng(2).permutation(part.labels)
    found = ask(part.rows, shuffled)
    assert not found.enough_data
    assert (found.recommended.strategy, found.warnings[0].code) == ("head", "not_above_chance")
    assert "look at the labels" in found.summary


def test_an_extractor_that_knows_nothing_gets_advice_without_a_scenario(
    rows_of: RowsOf, ask: Ask, manifest: Manifest
) -> None:
    part = rows_of("cats_dogs").draw(0, each=10)
    dim = manifest.output.dim
    found = ask(
        part.rows[:, :dim],
        part.labels,
        source=SourceKnowledge(None, None),
        layer_dims={"embedding": dim},
        embed_ms=None,
    )
    assert (found.scenario, found.similarity, found.recommended.strategy) == (None, None, "head")
    assert "similarity_unknown" in [warning.code for warning in found.warnings]
    assert found.summary.startswith("Small, and its likeness")


def test_inputs_of_several_labels_and_of_none(rows_of: RowsOf, ask: Ask) -> None:
    part = rows_of("cats_dogs").draw(3, each=12)
    labels = [{label, "pet"} if i % 2 else {label} for i, label in enumerate(part.labels.tolist())]
    several = ask(part.rows, labels, task="multi_label")
    assert (several.scenario, several.measures.size.classes) == (1, 3)
    assert several.measures.leep is None
    assert all(layer.h_score is None for layer in several.measures.layers)
    single = part.labels.astype("<U8")
    single[:4] = "__none__"
    found = ask(part.rows, single.tolist())
    assert (found.measures.size.negatives, found.measures.size.classes) == (4, 2)
    json.dumps([several.as_dict(), found.as_dict()], allow_nan=False)


def test_many_examples_are_examined_in_part() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3600, 8)).astype(np.float32)
    rows[::2, 0] += 2
    found = advise(rows, ["a", "b"] * 1800, layer_dims={"embedding": 8}, extractor_digest="0" * 64)
    assert found.measures.size.examples == 3600
    assert found.measures.embedding.held_out <= 3002
    assert "sampled" in [warning.code for warning in found.warnings]


def test_what_cannot_train_a_head_gets_no_advice(ask: Ask, manifest: Manifest) -> None:
    with pytest.raises(NoExamplesError):
        ask(np.zeros((0, manifest.width), np.float32), [])
    with pytest.raises(TooFewClassesError):
        ask(np.eye(2, manifest.width, dtype=np.float32), ["a", "a"])
