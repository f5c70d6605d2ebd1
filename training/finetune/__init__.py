"""Training a network further on labelled inputs: from an extractor folder to another one.

Importing this package does not import torch; `finetune` does when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import FinetuneError
from training.finetune.options import STRATEGIES, FinetuneOptions, Progress
from training.heads import FitOptions

if TYPE_CHECKING:
    from training.finetune.run import Finetuned

HEAD_OPTIONS = FitOptions(layers="auto")

__all__ = ["HEAD_OPTIONS", "STRATEGIES", "FinetuneOptions", "Progress", "finetune"]


def finetune(
    inputs: Sequence[bytes],
    labels: Sequence[str],
    *,
    source: Path,
    run_folder: Path,
    options: FinetuneOptions,
    fit: FitOptions = HEAD_OPTIONS,
    name: str,
    unlabelled: Sequence[bytes] = (),
    weights_path: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Finetuned:
    """Train the network behind an extractor further, and compare the result with the network as it was.

    Called again with the same arguments and folder, it goes on after the last epoch that ended.

    Parameters
    ----------
    inputs, labels : encoded images and the class of each; at least two of every class
    source : the extractor folder to start from
    run_folder : for checkpoints and the result; a new folder, or that of the same run
    fit : how heads are fitted, that of the result and those that are compared
    name : of the new extractor
    unlabelled : more inputs for `recalibrate`, which needs no labels
    weights_path : the weights file of the source, if it was exported from a file of its own
    progress : is told how far it has come
    should_stop : asked between epochs

    Raises
    ------
    FinetuneStoppedError
        `should_stop` said so.
    FinetuneError
        The inputs, the options or the network do not allow it, or torch is not installed.
    WeightsError, ManifestError, ExportError, DeviceError
        The source, its weights or the device cannot be used, or the result cannot be exported.
    """
    try:
        from training.finetune.run import run_finetune
    except ModuleNotFoundError as error:
        raise FinetuneError(f"{error}: training needs torch. Install requirements/export.txt") from error
    return run_finetune(
        inputs,
        labels,
        source=source,
        run_folder=run_folder,
        options=options,
        fit=fit,
        name=name,
        unlabelled=unlabelled,
        weights_path=weights_path,
        progress=progress,
        should_stop=should_stop,
    )
