"""What can be done, what it is expected to gain and what it costs, in plain words. Measures nothing."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from training.advise.held_out import Judged
from training.advise.measures import Measures
from training.finetune.options import FinetuneOptions
from training.finetune.schedule import FEW_INPUTS, epochs_for
from training.heads.options import AUTO
from training.heads.pairing import Paired

Strategy = Literal["head", "layers", "last-blocks", "full", "conservative"]
Basis = Literal["none", "measured", "other_data"]

# What training layers gave on skin lesions (ham10000), in balanced accuracy: the worst and the best of the
# runs with 50 of each class, and with 270 on average (docs/guide/transfer.md).
USUAL: dict[Literal["small", "large"], tuple[float, float]] = {"small": (-0.02, 0.08), "large": (0.07, 0.13)}
# A training step of one image on one core costs so many times embedding it with onnxruntime, as measured for
# EfficientNet-Lite0. `last-blocks` trains the last stages only where there are few images to learn from.
STEP_COST = {"last-blocks": 5.7, "full": 13.0, "conservative": 16.0}
STEP_COST_OF_FEW = 2.2
FROZEN_COST = 4.0  # of the layers that `last-blocks` keeps and runs once
LITTLE_ROOM = 0.02  # balanced accuracy below 1 at which no training of layers is worth its time
HELD_OUT = FinetuneOptions().held_out
MS_PER_MINUTE = 60_000

WHAT: dict[Strategy, str] = {
    "head": "a head on the embedding of the frozen extractor",
    "layers": "a head on several layers of the frozen extractor",
    "last-blocks": "keep the first layers of the network and train the later ones",
    "full": "train all layers of the network, from the pretrained start",
    "conservative": "train all but the first layers, held to what the source answers, so that less is lost",
}


@dataclass(frozen=True)
class Gain:
    """Accuracy over that of the head on the embedding, as a share.

    `basis`: `measured` here by cross-validation (with its 95 % interval), `other_data` (a cautious range from
    a case that was measured elsewhere), or `none`. A figure is None where nothing is known.
    """

    basis: Basis
    estimate: float | None
    low: float | None
    high: float | None
    note: str


@dataclass(frozen=True)
class Cost:
    """What a strategy takes: examples it learns from, epochs at most, minutes on one core if known."""

    examples: int
    epochs: int
    minutes: float | None
    note: str


@dataclass(frozen=True)
class Plan:
    """One strategy. `layers`: for a head, names or auto; None for what trains the network."""

    strategy: Strategy
    layers: tuple[str, ...] | Literal["auto"] | None
    what: str
    gain: Gain
    cost: Cost

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON-ready values."""
        layers = list(self.layers) if isinstance(self.layers, tuple) else self.layers
        return {**asdict(self), "layers": layers}


def head_plan(measures: Measures) -> Plan:
    """The head as it is."""
    note = "this is what the other gains are counted from"
    return Plan(
        "head",
        measures.embedding.layers,
        WHAT["head"],
        Gain("none", 0.0, 0.0, 0.0, note),
        _fit_cost(measures),
    )


def layers_plan(measures: Measures, *, every: bool) -> Plan:
    """A head on the layers that `auto` takes, or on all."""
    judged, gain = (
        (measures.every, measures.gains["every"]) if every else (measures.chosen, measures.gains["chosen"])
    )
    what = f"{WHAT['layers']} ({', '.join(judged.layers)})"
    return Plan(
        "layers",
        judged.layers if every else AUTO,
        what,
        _measured(judged, gain, every),
        _fit_cost(measures),
    )


def training_plan(
    strategy: Literal["last-blocks", "full", "conservative"], measures: Measures, embed_ms: float | None
) -> Plan:
    """Training layers of the network."""
    learned = round((1 - HELD_OUT) * measures.size.examples)
    epochs = epochs_for(strategy, learned)
    cost = learned * _image_cost(strategy, learned, epochs)
    minutes = None if embed_ms is None else cost * embed_ms / MS_PER_MINUTE
    time = (
        "its time is not known here"
        if minutes is None
        else f"about {spoken_minutes(minutes)} on one CPU core"
    )
    note = (
        f"up to {epochs} epochs over {learned} images, {time}, less on more cores or a GPU; it needs the "
        "images themselves, and torch where it runs. The result is compared with this head on images that "
        "were held out, and is not published unless it is better"
    )
    return Plan(
        strategy,
        None,
        WHAT[strategy],
        _expected(measures),
        Cost(measures.size.examples, epochs, minutes, note),
    )


def room(measures: Measures) -> float | None:
    """What the better of the heads still misses of a balanced accuracy of 1."""
    found = [
        judged.balanced
        for judged in (measures.embedding, measures.chosen, measures.every)
        if judged.balanced is not None
    ]
    return 1 - max(found) if found else None


def spoken_minutes(minutes: float) -> str:
    """A time, as roughly as it is known."""
    if minutes < 1:
        return "a minute"
    if minutes < 90:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours"


def _image_cost(strategy: str, learned: int, epochs: int) -> float:
    """What training costs for each image that is learned from, in times of embedding it."""
    if strategy != "last-blocks":
        return epochs * STEP_COST[strategy]
    return FROZEN_COST + epochs * (STEP_COST_OF_FEW if learned < FEW_INPUTS else STEP_COST[strategy])


def _fit_cost(measures: Measures) -> Cost:
    return Cost(measures.size.examples, 0, 0.0, "no time to speak of: no image is embedded again")


def _measured(judged: Judged, gain: Paired | None, every: bool) -> Gain:
    if gain is None:
        return Gain("none", None, None, None, "no example could be held out, so nothing is known of it")
    note = f"cross-validated accuracy on {gain.held_out} examples, with its 95 % interval"
    if every:
        note += "; on sets unlike the source, all layers gave 1 to 5 points where it was measured"
    elif len(judged.layers) > 1:
        note += "; the layers were chosen by the same examples, so it is a little too high"
    return Gain("measured", gain.difference, gain.low, gain.high, note)


def _expected(measures: Measures) -> Gain:
    left = room(measures)
    if left is None:
        return Gain("none", None, None, None, "no example could be held out, so nothing is known of it")
    usual = USUAL[measures.size.level]
    low, high = (min(figure, share * left) for figure, share in zip(usual, (0.5, 1), strict=True))
    note = (
        "cannot be measured beforehand: the range is what runs gave on skin lesions, in balanced accuracy; "
        "it may be less, or nothing"
    )
    return Gain("other_data", None, low, high, note)
