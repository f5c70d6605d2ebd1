"""`headstart quantise`: an extractor in another precision. Needs no torch.

Knows what the user types and reads; measures nothing.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.commands.terminal import FOLDER, aligned, progress_bar, read_settings, told
from training.variant import PRECISIONS

if TYPE_CHECKING:
    from training.variant import Variant


@click.command("quantise")
@click.argument("extractor")
@click.option("--images", type=FOLDER, required=True, help="Images like yours, a sub-folder for each class.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="int8",
    show_default=True,
    help="int8 for CPUs, fp16 for GPUs.",
)
def command(extractor: str, images: Path, precision: Any) -> None:
    """Make EXTRACTOR, a name or a folder, faster by numbers of fewer bits.

    Some of the images calibrate it. The others go through both, and heads learn on both: if these are as
    good, servers take the variant from their next start on (HEADSTART_PRECISION=auto). Heads that are there
    stay with the extractor they were trained on; `POST /v1/heads/{name}/move` takes one over.
    """
    from training.image_folder import ImageFolder
    from training.preprocess import DecodeLimits
    from training.quantise import quantise

    settings = read_settings()
    folder = settings.extractor_folder(extractor)
    with told(), progress_bar(f"quantising {folder.name}") as show:
        found = quantise(
            folder,
            ImageFolder.read(images),
            precision,
            limits=DecodeLimits(settings.max_pixels),
            threads=settings.thread_count,
            progress=show,
        )
    for left in found.left_out:
        click.echo(f"left out: {left.path}: {left.reason}", err=True)
    _show(found.variant, folder)


def _show(variant: "Variant", folder: Path) -> None:
    gate = variant.gate
    layers = [["layer", "mean cosine"], *([name, f"{cosine:.4f}"] for name, cosine in gate.cosines.items())]
    rows = [["examples of each class", "fp32", variant.precision]]
    rows += [[str(p.shots), f"{100 * p.fp32:.1f} %", f"{100 * p.variant:.1f} %"] for p in gate.shots]
    click.echo(f"\n{gate.images} images that it was not calibrated on:\n")
    click.echo(aligned(layers) + f"\n\nleast cosine of an embedding: {gate.least_cosine:.4f}\n")
    click.echo("accuracy of heads, mean of " + f"{gate.seeds} draws\n" + aligned(rows) + "\n")
    verdict = (
        "It passes the gate."
        if gate.passed
        else f"It does not pass the gate: only HEADSTART_PRECISION={variant.precision} serves it."
    )
    click.echo(f"{verdict} {folder} {variant.precision} digest {variant.digest[:12]}")
