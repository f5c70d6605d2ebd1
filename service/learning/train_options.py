"""How a version is to be trained: what a request says of it, and what it leaves as it was.

Knows what versions tell of themselves. Knows no fit, no store and no HTTP.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any

from service.learning.layers import layers_in
from service.store import Task, VersionRow
from training.errors import SupportSetError
from training.heads import AUTO, FitOptions

# A head's task is its own, whatever its versions were.
RETAINED = tuple(field.name for field in fields(FitOptions) if field.name != "task")


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes
    ----------
    fit : the options of the fit
    classes : those that take part; None: all
    publish : whether the version is served at once
    said : names of the options of the fit that were asked for; the others are those of the version before.
        None: all were, so that none is taken from there
    """

    fit: FitOptions = FitOptions()
    classes: tuple[str, ...] | None = None
    publish: bool = True
    said: frozenset[str] | None = None

    def of_task(self, task: Task) -> "TrainOptions":
        """The options for a head of this task."""
        return replace(self, fit=replace(self.fit, task=task))

    def after(self, version: VersionRow | None, layers: Collection[str]) -> "TrainOptions":
        """The options for a head with this version, in which nothing is left open any more.

        Parameters
        ----------
        version : the one before; None if there is none: what was not said then has its default.
        layers : names of those that the extractor gives. If one that the version uses is not among them, the
            head uses the embedding.
        """
        if self.said is None or version is None:
            return replace(self, said=None)
        kept = {name: value for name, value in fit_of(version).items() if name not in self.said}
        if "unknown_rate" in self.said:
            kept.pop("threshold", None)  # it would decide in place of the rate
        if not _is_given(kept.get("layers", ()), layers):
            del kept["layers"]
        return replace(self, fit=replace(self.fit, **kept), said=None)

    def as_dict(self) -> dict[str, object]:
        return {**self.fit.as_dict(), "classes": None if self.classes is None else list(self.classes)}


def fit_of(version: VersionRow) -> dict[str, Any]:
    """The options of the fit of a version, without those that it does not tell or that have no such value."""
    found: dict[str, Any] = {"layers": layers_in(version)}
    for name in RETAINED:
        if name in version.options:
            try:
                found[name] = getattr(FitOptions(**{name: version.options[name]}), name)
            except (SupportSetError, TypeError):
                continue
    return found


def _is_given(wanted: Collection[str], layers: Collection[str]) -> bool:
    return len(layers) > 1 if wanted == AUTO else set(wanted) <= set(layers)
