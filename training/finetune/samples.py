"""The inputs of one run, decoded, and parted into what is trained on and what judges. Knows no network."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from training.errors import FinetuneError, InputError
from training.manifest import Preprocess
from training.preprocess import decode_image
from training.tuned import TunedOn

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
FEWEST_OF_A_CLASS = 2
NOTHING = TunedOn()
# Training inputs from which a tenth can be spared to watch for overfitting while training goes on.
FEWEST_TO_WATCH, WATCHED_SHARE = 150, 0.1


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled inputs.

    Attributes
    ----------
    pixels : (n, height, width, 3) uint8
    labels : names of the classes of the inputs, n
    classes : names, ascending
    targets : (n,) int64, index of the class
    keys : sha256 of the bytes of each input
    """

    pixels: Pixels
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    targets: Ints
    keys: tuple[str, ...]

    @classmethod
    def of(cls, inputs: Sequence[bytes], labels: Sequence[str], spec: Preprocess) -> "Samples":
        """Decode on every core.

        Raises
        ------
        FinetuneError
            An input that cannot be decoded, named by its index, or too few inputs or classes.
        """
        if len(inputs) != len(labels):
            raise FinetuneError(
                f"expected a label for each input, got {len(inputs)} inputs, {len(labels)} labels"
            )
        classes = tuple(sorted(set(labels)))
        if len(classes) < 2:
            raise FinetuneError(f"expected at least two classes, got {len(classes)}")
        number = {name: index for index, name in enumerate(classes)}
        return cls(
            pixels=decode_all(inputs, spec),
            labels=tuple(labels),
            classes=classes,
            targets=np.array([number[label] for label in labels]),
            keys=tuple(hashlib.sha256(data).hexdigest() for data in inputs),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: Ints) -> "Samples":
        """Some of the inputs; the classes stay as they are."""
        return replace(
            self,
            pixels=self.pixels[rows],
            labels=tuple(self.labels[row] for row in rows),
            targets=self.targets[rows],
            keys=tuple(self.keys[row] for row in rows),
        )


def decode_all(inputs: Sequence[bytes], spec: Preprocess) -> Pixels:
    """Inputs as the network takes them: (n, height, width, 3) uint8."""

    def decode(index: int) -> Pixels:
        try:
            return decode_image(inputs[index], spec)
        except InputError as error:
            raise FinetuneError(f"input {index}: {error}") from error

    pixels = np.empty((len(inputs), spec.crop_height, spec.crop_width, 3), np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, image in enumerate(pool.map(decode, range(len(inputs)))):
            pixels[index] = image
    return pixels


@dataclass(frozen=True, eq=False)
class Split:
    """Rows, ascending: `train` is trained on, `watched` decides when to stop, `held_out` judges."""

    train: Ints
    watched: Ints
    held_out: Ints

    @classmethod
    def of(cls, samples: Samples, share: float, seed: int, tuned_on: TunedOn = NOTHING) -> "Split":
        """Part each class; equal inputs stay on one side.

        Parameters
        ----------
        tuned_on : inputs that the network was trained on before: they are not held out again, which leaves
            fewer to be held out of a class that has too few others.

        Raises
        ------
        FinetuneError
            A class is too small to be parted, or the network was trained on all inputs before.
        """
        order = np.random.default_rng(seed).permutation(len(samples))
        keys, first = np.unique(np.array(samples.keys), return_index=True)
        place = dict(zip(keys.tolist(), order[first].tolist(), strict=True))
        ranks = np.array([place[key] for key in samples.keys])
        is_seen = np.array([key in tuned_on.inputs for key in samples.keys])
        ranks += len(samples) * is_seen
        held_out = _take(ranks, samples, np.arange(len(samples)), share)
        held_out = held_out[~is_seen[held_out]]
        if not len(held_out):
            raise FinetuneError(
                "the network was trained on all of these inputs before, so none can judge the result: add"
                " some that it has not seen, or train the network that it came from"
            )
        rest = np.setdiff1d(np.arange(len(samples)), held_out)
        watched = np.empty(0, np.int64)
        if len(rest) >= FEWEST_TO_WATCH:
            watched = _take(ranks, samples, rest, WATCHED_SHARE)
        return cls(np.setdiff1d(rest, watched), watched, held_out)


def _take(ranks: Ints, samples: Samples, rows: Ints, share: float) -> Ints:
    """About `share` of the distinct inputs of each class among `rows`, at least one, leaving at least one."""
    taken = []
    for index, name in enumerate(samples.classes):
        members = rows[samples.targets[rows] == index]
        distinct = np.unique(ranks[members])
        if len(distinct) < FEWEST_OF_A_CLASS:
            raise FinetuneError(
                f"class {name!r} has {len(distinct)} different input{'s' * (len(distinct) != 1)}: "
                f"expected at least {FEWEST_OF_A_CLASS} of each class, one of them to judge the result by"
            )
        count = min(max(1, round(share * len(distinct))), len(distinct) - 1)
        taken.append(members[np.isin(ranks[members], distinct[:count])])
    return np.sort(np.concatenate(taken))
