"""`headstart compare`: pretrained networks on a user's own images, as a table, a recommendation and a plot.

Knows what the user types and reads; measures nothing.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.commands.arguments import counts, names, new_file, pair
from service.commands.terminal import FOLDER, aligned, progress_bar, read_settings, told
from service.config import Settings
from training.manifest import FILES

if TYPE_CHECKING:
    from training.backbones.catalogue import WeightsChoice
    from training.compare import Source
    from training.comparison import Candidate, Comparison

LEAST_SEEDS, MOST_SEEDS = 2, 100  # one draw does not tell how much draws differ
MOST_LISTED = 10
MIB = 1 << 20


@click.command("compare")
@click.argument("folder", type=FOLDER)
@click.option(
    "--backbones", type=names, metavar="NAMES", required=True, help="Networks, separated by commas."
)
@click.option(
    "--shots",
    type=counts,
    metavar="COUNTS",
    default="1,5,20,50",
    show_default=True,
    help="Numbers of examples of each class.",
)
@click.option(
    "--seeds",
    type=click.IntRange(LEAST_SEEDS, MOST_SEEDS),
    default=5,
    show_default=True,
    help="How often the examples are drawn.",
)
@click.option(
    "--weights-dir", type=FOLDER, help="Folder of weights files, for a machine that reaches no hub."
)
@click.option(
    "--weights",
    type=pair,
    metavar="NAME=VALUE",
    multiple=True,
    help="NAME=FILE, a local file of one network's weights.",
)
@click.option(
    "--sha256",
    type=pair,
    metavar="NAME=VALUE",
    multiple=True,
    help="NAME=DIGITS, to refuse other weights of NAME.",
)
@click.option("--random-seed", type=int, help="Random weights for all, to try the command without theirs.")
@click.option(
    "--json",
    "json_file",
    type=new_file,
    metavar="FILE",
    help="Write everything that was measured to this file.",
)
@click.option(
    "--plot", type=new_file, metavar="FILE", help="Draw accuracy against time into this file, as SVG."
)
def command(
    folder: Path,
    backbones: tuple[str, ...],
    shots: tuple[int, ...],
    seeds: int,
    weights_dir: Path | None,
    weights: tuple[tuple[str, str], ...],
    sha256: tuple[tuple[str, str], ...],
    random_seed: int | None,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Compare pretrained networks on the images of FOLDER, which has a sub-folder for each class.

    For each network: the accuracy of heads on images that they have not learned from, the time of an image
    on this machine, and the size. A network that is not exported yet is exported first; embeddings are
    kept under HEADSTART_HOME/cache, so that a comparison that was stopped goes on.
    """
    from training.compare import compare_backbones
    from training.image_folder import ImageFolder
    from training.preprocess import DecodeLimits

    settings = read_settings()
    sources = _Sources(
        settings, weights_dir, _once("--weights", weights), _once("--sha256", sha256), random_seed
    )
    sources.require_known(backbones)
    with told(), progress_bar("comparing") as show:
        found = compare_backbones(
            ImageFolder.read(folder),
            backbones,
            sources.locate,
            cache_root=settings.home / "cache" / "embeddings",
            shots=shots,
            seeds=seeds,
            limits=DecodeLimits(settings.max_pixels),
            threads=settings.thread_count,
            progress=show,
        )
    with told():
        _write(found, json_file, plot)
    _show(found)


class _Sources:
    """Where each network comes from: the options, else what is exported, else the catalogue."""

    def __init__(
        self,
        settings: Settings,
        weights_dir: Path | None,
        weights: dict[str, str],
        sha256: dict[str, str],
        random_seed: int | None,
    ) -> None:
        if random_seed is not None and (weights_dir or weights or sha256):
            raise click.UsageError("random weights come from no file: give --random-seed or files, not both")
        self._settings, self._weights_dir = settings, weights_dir
        self._weights, self._sha256, self._random_seed = weights, sha256, random_seed

    def require_known(self, names: tuple[str, ...]) -> None:
        """A misspelt name is told at once; a network that cannot be had, in the result."""
        from training.backbones.catalogue import CATALOGUE

        for name in (*self._weights, *self._sha256):
            if name not in names:
                raise click.UsageError(f"--weights or --sha256 of {name!r}, which is not one of --backbones")
        for name in names:
            folder = self._settings.extractor_folder(name)
            if name not in CATALOGUE and not (folder / FILES.manifest).is_file():
                raise click.BadParameter(
                    f"no network named {name!r} in the catalogue, and no extractor in {folder}. "
                    f"The catalogue has: {', '.join(CATALOGUE)}",
                    param_hint="--backbones",
                )

    def locate(self, name: str) -> "Source":
        """The source of a network. Raises WeightsError if its file is not as expected."""
        from training.backbones.catalogue import WeightsChoice
        from training.compare import Source

        folder = self._settings.extractor_folder(name)
        if self._random_seed is not None:
            # Beside the real one: heads of that must not meet random embeddings.
            random = self._settings.home / "cache" / "random" / str(self._random_seed) / name
            return Source(name, random, WeightsChoice(random_seed=self._random_seed))
        return Source(name, folder, self._choice(name))

    def _choice(self, name: str) -> "WeightsChoice | None":
        from training.backbones.catalogue import CATALOGUE, WeightsChoice
        from training.backbones.weight_files import choice_of, weights_in

        sha256 = self._sha256.get(name)
        if name in self._weights:
            return choice_of(Path(self._weights[name]), sha256)
        if self._weights_dir is not None and name in CATALOGUE:
            found = weights_in(self._weights_dir, CATALOGUE[name])
            if found is not None:
                return WeightsChoice(found.path, sha256)
        return None if sha256 is None else WeightsChoice(sha256=sha256)


def _once(option: str, pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    if len(dict(pairs)) < len(pairs):
        raise click.UsageError(f"{option} was given twice for one network")
    return dict(pairs)


def _write(found: "Comparison", json_file: Path | None, plot: Path | None) -> None:
    from training.comparison_plot import plot_comparison

    if json_file is not None:
        json_file.write_text(json.dumps(found.as_dict(), indent=2) + "\n", encoding="utf-8")
    if plot is not None and found.candidates:
        plot.write_text(plot_comparison(found), encoding="utf-8")


def _show(found: "Comparison") -> None:
    """Print the result; end with exit code 1 if no network could be measured."""
    from training.comparison import recommend

    _show_images(found)
    if found.candidates:
        click.echo("\n" + _table(found) + "\n")
        images = found.candidates[0].timing.images
        click.echo(
            f"Accuracy: mean of {found.seeds} draws of the examples, every class alike, on images in "
            f"no support set; in brackets its 95 % interval. Time: median of {images} images, decoded and "
            "embedded one at a time on one thread of this machine.\n"
        )
        click.echo(recommend(found))
    for missing in found.unavailable:
        click.echo(f"\n{missing.name} was not compared: {missing.reason}", err=True)
    if not found.candidates:
        raise click.ClickException("no network could be compared")


def _show_images(found: "Comparison") -> None:
    classes = ", ".join(f"{label} {count}" for label, count in found.counts.items())
    click.echo(f"\n{sum(found.counts.values())} images: {classes}")
    if found.left_out:
        click.echo(f"{len(found.left_out)} left out:")
    for left in found.left_out[:MOST_LISTED]:
        click.echo(f"  {left.path}: {left.reason}")
    if len(found.left_out) > MOST_LISTED:
        click.echo(f"  and {len(found.left_out) - MOST_LISTED} more (all are in the file of --json)")
    if found.shots_left_out:
        counts = ", ".join(map(str, found.shots_left_out))
        click.echo(f"Too few images to learn from {counts} of each class and test on others: left out.")


def _table(found: "Comparison") -> str:
    """Aligned columns, the most accurate network first."""
    shots = [f"{count} of each" for count in found.shots]
    rows = [["network", *shots, "ms an image", "MiB", "dim"], *(_cells(one) for one in found.candidates)]
    return aligned(rows)


def _cells(one: "Candidate") -> list[str]:
    accuracies = [f"{100 * a.mean:.1f} ({100 * a.low:.1f}-{100 * a.high:.1f})" for a in one.accuracies]
    return [one.name, *accuracies, f"{one.timing.total_ms:.1f}", f"{one.size_bytes / MIB:.1f}", str(one.dim)]
