"""What a caller may choose about a fit. Knows no array and no method's inside."""

import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal

from training.errors import SupportSetError
from training.heads.layers import EMBEDDING
from training.heads.transform import TRANSFORMS

SINGLE_LABEL, MULTI_LABEL = "single_label", "multi_label"
TASKS = (SINGLE_LABEL, MULTI_LABEL)
MAX_SEED = 2**63 - 1
AUTO: Literal["auto"] = "auto"


@dataclass(frozen=True)
class FitOptions:
    """How to fit a head.

    Parameters
    ----------
    task
        `"single_label"`: an input is of one class (softmax). `"multi_label"`: of any number of them
        (an independent sigmoid each).
    transform
        From embedding to feature: `"l2"` or `"signed_root_l2"`. None chooses it from the examples.
    regularisation
        Strength of the L2 penalty (lambda of ridge regression) on features of unit length; larger follows the
        examples less closely. None chooses it from the examples.
    unknown_rate
        Fraction of in-class inputs that the default threshold answers with `unknown`, in [0, 1).
    threshold
        Typicality in [0, 1] below which an input is `unknown`. None takes it from `unknown_rate`.
    seed
        Decides which examples are left out together. The same examples and seed give the same head.
    layers
        Names of the layers of an extractor's rows that the head uses, in any order; `"auto"` chooses them
        from the examples.

    Raises
    ------
    SupportSetError
        If a value is outside its range.
    """

    task: str = SINGLE_LABEL
    transform: str | None = None
    regularisation: float | None = None
    unknown_rate: float = 0.05
    threshold: float | None = None
    seed: int = 0
    layers: tuple[str, ...] | Literal["auto"] = (EMBEDDING,)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise SupportSetError(f"task: expected one of {', '.join(TASKS)}, got {self.task!r}")
        if self.transform is not None and self.transform not in TRANSFORMS:
            expected = ", ".join(TRANSFORMS)
            raise SupportSetError(f"transform: expected one of {expected}, got {self.transform!r}")
        if (
            self.regularisation is not None
            and not 1e-6 <= _number("regularisation", self.regularisation) <= 1e6
        ):
            raise SupportSetError(f"regularisation: expected 1e-6 to 1e6, got {self.regularisation!r}")
        if not 0 <= _number("unknown_rate", self.unknown_rate) < 1:
            raise SupportSetError(f"unknown_rate: expected 0 <= rate < 1, got {self.unknown_rate!r}")
        if self.threshold is not None:
            check_threshold(self.threshold)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed <= MAX_SEED:
            raise SupportSetError(f"seed: expected an integer of 0 to {MAX_SEED}, got {self.seed!r}")
        if self.layers != AUTO:
            object.__setattr__(self, "layers", _names(self.layers))

    def as_dict(self) -> dict[str, Any]:
        """The options as JSON-ready values."""
        return {**asdict(self), "layers": AUTO if self.layers == AUTO else list(self.layers)}


def check_threshold(threshold: float) -> float:
    """Return `threshold`, or raise SupportSetError if it is not a typicality in [0, 1]."""
    if not 0 <= _number("threshold", threshold) <= 1:
        raise SupportSetError(f"threshold: expected 0 to 1, got {threshold!r}")
    return threshold


def _names(layers: object) -> tuple[str, ...]:
    if not isinstance(layers, tuple | list) or not layers or len(set(layers)) < len(layers):
        raise SupportSetError(f"layers: expected {AUTO!r} or different names of layers, got {layers!r}")
    for name in layers:
        if not isinstance(name, str) or not name or name == AUTO:
            raise SupportSetError(f"layers: expected names of layers, got {name!r}")
    return tuple(layers)


def _number(name: str, value: object) -> float:
    # An int may be beyond every float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise SupportSetError(f"{name}: expected a finite number, got {value!r}")
    return float(value)
