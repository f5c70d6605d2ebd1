"""`headstart finetune`: train a network further on a folder of images, here and now, without a server."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.commands.terminal import FOLDER, progress_bar, read_settings, require_torch, told

if TYPE_CHECKING:
    from training.finetune import Progress
    from training.finetune.run import Finetuned

RUN, EXTRACTOR, HEAD, REPORT = "run", "extractor", "head.safetensors", "report.json"


@click.command("finetune")
@click.argument("folder", type=FOLDER)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the extractor, the head and the report.",
)
@click.option("--extractor", help="Extractor to start from, by name or path; the default one if left out.")
@click.option("--name", help="Name of the new extractor; that of the output folder if left out.")
@click.option("--strategy", help="head, last-blocks, full, scratch, conservative or recalibrate.")
@click.option("--keep", help="For last-blocks: the last stage that stays as it is, or auto.")
@click.option("--epochs", type=int, help="At most; 0: by the number of images.")
@click.option("--learning-rate", type=float, help="Largest rate; 0: the strategy's own.")
@click.option("--batch-size", type=int, help="Images of one step.")
@click.option("--augment/--no-augment", default=None, help="Whether images are shifted, scaled, mirrored.")
@click.option("--held-out", type=float, help="Share of the images that judge the result.")
@click.option("--patience", type=int, help="Epochs without a better loss after which training stops.")
@click.option("--seed", type=int, help="Decides the split and all else.")
@click.option("--device", help="auto, cpu or cuda.")
def command(folder: Path, output: Path, extractor: str | None, name: str | None, **given: Any) -> None:
    """Train a network further on the images of FOLDER, which has a sub-folder for each class.

    OUTPUT then has the new extractor, a head for it, and a report that compares it with the frozen network.
    Ctrl-C ends after the epoch; the same command goes on from there, also after a kill. A second Ctrl-C ends
    at once.
    """
    require_torch("headstart finetune")

    from service.jobs.signals import StopSignals
    from training.errors import FinetuneStoppedError
    from training.finetune import FinetuneOptions, finetune
    from training.image_folder import ImageFolder

    settings = read_settings()
    if (output / REPORT).exists():
        raise click.ClickException(f"{output} has a result already: choose another --output")
    source = settings.extractor_folder(extractor or settings.extractors[0])
    with told(), StopSignals() as signals:
        options = FinetuneOptions.from_dict({key: value for key, value in given.items() if value is not None})
        images = ImageFolder.read(folder)
        try:
            with progress_bar("fine-tuning") as show:
                finetuned = finetune(
                    [path.read_bytes() for path in images.paths],
                    images.labels,
                    source=source,
                    run_folder=output / RUN,
                    options=options,
                    name=name or output.absolute().name,
                    progress=lambda progress: show(_stage(progress), progress.fraction),
                    should_stop=lambda: signals.asked,
                )
        except FinetuneStoppedError as error:
            raise click.ClickException(f"{error}; the same command goes on from there") from error
        _write(output, finetuned)
    held_out = finetuned.report["held_out"]
    click.echo(
        f"{output}: accuracy {held_out['tuned_accuracy']:.3f} on {held_out['count']} images that were not"
        f" trained on, {held_out['frozen_accuracy']:.3f} with the frozen network"
        f" (difference {held_out['low']:+.3f} to {held_out['high']:+.3f}):"
        f" {'better' if finetuned.is_better else 'not better beyond doubt'}"
    )


def _stage(progress: "Progress") -> str:
    return progress.stage if progress.epoch is None else f"epoch {progress.epoch} of {progress.epochs}"


def _write(output: Path, finetuned: "Finetuned") -> None:
    """The report comes last: where it is, the rest is whole."""
    from training.heads import save_head

    shutil.rmtree(output / EXTRACTOR, ignore_errors=True)
    shutil.copytree(finetuned.folder, output / EXTRACTOR)
    (output / HEAD).write_bytes(save_head(finetuned.head))
    report = {"is_better": finetuned.is_better, **finetuned.report}
    (output / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(output / RUN)
