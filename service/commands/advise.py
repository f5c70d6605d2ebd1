"""`headstart advise`: which case of transfer the images of a folder are, and what to do about it.

Knows what the user types and reads; measures nothing.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.commands.arguments import new_file
from service.commands.terminal import FOLDER, aligned, progress_bar, read_settings, told

if TYPE_CHECKING:
    from training.advise import Plan
    from training.advise_folder import FolderAdvice

WIDTH = 100


@click.command("advise")
@click.argument("folder", type=FOLDER)
@click.option("--extractor", help="Name or folder of an extractor.  [default: that of the server]")
@click.option(
    "--json",
    "json_file",
    type=new_file,
    metavar="FILE",
    help="Write the advice and everything that was measured to this file.",
)
def command(folder: Path, extractor: str | None, json_file: Path | None) -> None:
    """Advise on the images of FOLDER, which has a sub-folder for each class.

    Says whether they are few or many, like or unlike what the network was trained on, what to do about it,
    and what that gains and costs. Embeddings are kept under HEADSTART_HOME/cache.
    """
    from training.advise_folder import advise_folder
    from training.image_folder import ImageFolder
    from training.preprocess import DecodeLimits

    settings = read_settings()
    name = extractor or settings.extractors[0]
    with told(), progress_bar("advising") as show:
        found = advise_folder(
            ImageFolder.read(folder),
            settings.extractor_folder(name),
            cache_root=settings.home / "cache" / "embeddings",
            limits=DecodeLimits(settings.max_pixels),
            threads=settings.thread_count,
            progress=show,
        )
    if json_file is not None:
        with told():
            json_file.write_text(json.dumps(found.as_dict(), indent=2) + "\n", encoding="utf-8")
    _show(found, folder, name)


def _show(found: "FolderAdvice", folder: Path, extractor: str) -> None:
    advice = found.advice
    for left in found.left_out:
        click.echo(f"left out: {left.path}: {left.reason}", err=True)
    click.echo("\n" + aligned(list(_layer_cells(found))) + "\n")
    _paragraph(advice.summary)
    for reason in advice.reasons:
        _paragraph(reason, "- ")
    for warning in advice.warnings:
        _paragraph(f"Careful: {warning.message}", "! ")
    click.echo("\n" + aligned(list(_plan_cells([advice.recommended, *advice.alternatives]))))
    _paragraph(f"Gain: {advice.recommended.gain.note}.")
    _paragraph(f"Cost: {advice.recommended.cost.note}.")
    click.echo(f"\nNext: {_next(found, folder, extractor)}")


def _next(found: "FolderAdvice", folder: Path, extractor: str) -> str:
    from service.review.steps import shell_step

    if not found.advice.enough_data:
        return f"add images to {folder}"
    return shell_step(found.advice.recommended, folder, extractor)


def _layer_cells(found: "FolderAdvice") -> Iterator[list[str]]:
    yield ["layer", "dim", "from the source", "LogME", "H-score", "accuracy", "every class alike"]
    for layer in found.advice.measures.layers:
        shares = (layer.accuracy, layer.balanced_accuracy)
        figures = (_number(layer.distance), _number(layer.log_me), _number(layer.h_score))
        yield [layer.layer, str(layer.dim), *figures, *map(_percent, shares)]


def _plan_cells(plans: "Sequence[Plan]") -> Iterator[list[str]]:
    yield ["strategy", "gain in points", "basis", "epochs", "minutes on one core"]
    for plan in plans:
        gain, cost = plan.gain, plan.cost
        known = gain.low is not None and gain.high is not None
        points = f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}" if known else "-"  # type: ignore[operator]
        minutes = "-" if cost.minutes is None else f"{cost.minutes:.0f}"
        basis = "-" if plan.strategy == "head" else gain.basis.replace("_", " ")
        yield [plan.strategy, "-" if plan.strategy == "head" else points, basis, str(cost.epochs), minutes]


def _paragraph(text: str, bullet: str = "") -> None:
    indent = " " * len(bullet)
    click.echo(click.wrap_text(text, WIDTH, initial_indent=bullet, subsequent_indent=indent))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
