"""What a caller may choose about fine-tuning, and what is told while it runs. Knows no tensor."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from training.errors import FinetuneError

Strategy = Literal["head", "last-blocks", "full", "scratch", "conservative", "recalibrate"]
Device = Literal["auto", "cpu", "cuda"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
DEVICES: tuple[str, ...] = get_args(Device)
AUTO = "auto"
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class FinetuneOptions:
    """How to train a network further.

    Parameters
    ----------
    strategy
        `head`: no layer is trained, only a new head (on one or several layers). `last-blocks`: the first
        layers are kept, the later ones are trained. `full`: all layers are trained from the pretrained start.
        `scratch`: all layers from a random start, for comparison. `conservative`: all but the first stage,
        while the source's answers to patchworks of the inputs are distilled, so that the network forgets less
        of what it knew. `recalibrate`: no weight is trained; the statistics of batch normalisation are
        estimated anew from unlabelled inputs (same task, another domain).
    keep
        For `last-blocks`: the name of the last stage that is kept as it is; `auto` decides.
    epochs
        Passes over the training part, 1 to 1000; 0 decides by the number of inputs.
    learning_rate
        Largest rate of the last layers, 1e-6 to 1; earlier layers get less. 0 takes the strategy's own.
    batch_size
        Inputs of one step, 2 to 1024.
    augment
        Whether training sees shifted, scaled and mirrored inputs.
    held_out
        Share of the inputs of each class, from 0.1 to 0.5, that no layer is trained on: the result is judged
        by them.
    patience
        Epochs without a better loss after which training stops, 1 to 1000.
    seed
        Decides the split, the order and the augmentation. The same inputs and seed give the same result.
    device
        `cpu`, `cuda` (refuses to run without it) or `auto`.

    Raises
    ------
    FinetuneError
        If a value is outside its range; the message names the key.
    """

    strategy: Strategy = "last-blocks"
    keep: str = AUTO
    epochs: int = 0
    learning_rate: float = 0.0
    batch_size: int = 32
    augment: bool = True
    held_out: float = 0.25
    patience: int = 5
    seed: int = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        _one_of("strategy", self.strategy, STRATEGIES)
        _one_of("device", self.device, DEVICES)
        if not isinstance(self.keep, str) or not self.keep:
            raise FinetuneError(f"keep: expected the name of a stage, or {AUTO}, got {self.keep!r}")
        if self.keep != AUTO and self.strategy != "last-blocks":
            raise FinetuneError(f"keep: only last-blocks keeps stages, not {self.strategy}")
        _whole("epochs", self.epochs, 0, 1000)
        _whole("batch_size", self.batch_size, 2, 1024)
        _whole("patience", self.patience, 1, 1000)
        _whole("seed", self.seed, 0, MAX_SEED)
        _real("held_out", self.held_out, 0.1, 0.5)
        if self.learning_rate != 0:
            _real("learning_rate", self.learning_rate, 1e-6, 1.0)
        if not isinstance(self.augment, bool):
            raise FinetuneError(f"augment: expected true or false, got {self.augment!r}")

    def as_dict(self) -> dict[str, Any]:
        """The options as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FinetuneOptions":
        """Options from JSON values; what is left out has its default.

        Raises
        ------
        FinetuneError
            If a key is unknown or a value is outside its range; the message names the key.
        """
        known = [item.name for item in fields(cls)]
        for key in values:
            if key not in known:
                raise FinetuneError(f"{key}: not an option; expected one of {', '.join(known)}")
        return cls(**values)


@dataclass(frozen=True)
class Progress:
    """How far fine-tuning has come.

    Attributes
    ----------
    stage : prepare, frozen-layers, train, export or judge
    fraction : of the whole work, 0 to 1
    epoch, epochs : epochs that are done, and how many there will be at most; None outside training
    figures : of the last epoch: losses, seconds
    message : one line for a log
    """

    stage: str
    fraction: float
    epoch: int | None = None
    epochs: int | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    message: str = ""


def _one_of(name: str, value: object, expected: tuple[str, ...]) -> None:
    if value not in expected:
        raise FinetuneError(f"{name}: expected one of {', '.join(expected)}, got {value!r}")


def _whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise FinetuneError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")


def _real(name: str, value: object, low: float, high: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise FinetuneError(f"{name}: expected a number from {low:g} to {high:g}, got {value!r}")
