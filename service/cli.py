"""The `headstart` command. Knows how to start things and how to report errors to a person in a terminal."""

import os
import socket
import sys
from pathlib import Path

import click

from service.config import Settings, SettingsError
from training import __version__
from training.errors import HeadstartError

# There is a process for each core already. Threads of numpy on top of that wait for each other far longer
# than they compute: where two processes share two cores, a factorisation took up to sixty times as long.
ONE_BLAS_THREAD = ("OPENBLAS_NUM_THREADS", "1")
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(help="Teach a frozen, pretrained network new classes over REST.")
@click.version_option(__version__)
def main() -> None:
    """The group of all commands."""


@main.command()
def serve() -> None:
    """Serve the REST API. Settings come from HEADSTART_* variables (docs/guide/settings.md)."""
    settings = _settings()
    _require_free(settings.host, settings.port)
    address = ["--host", settings.host, "--port", str(settings.port)]
    # BentoML would wait for a day for a client that has stopped sending.
    patience = ["--timeout-graceful-shutdown", str(settings.shutdown_timeout_s)]
    command = [sys.executable, "-m", "bentoml", "serve", "service.app:Headstart", *address, *patience]
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    os.environ.setdefault(*ONE_BLAS_THREAD)
    sys.stdout.flush()
    # The server takes this process's place, so that its process id is the one a supervisor knows.
    os.execv(command[0], command)  # noqa: S606 - a fixed command, no shell


@main.command()
@click.argument("name", default="efficientnet-lite0")
@click.option("--weights", type=FILE, help="Local file of the weights, for a machine that reaches no hub.")
@click.option("--sha256", help="Refuse the weights file unless it has this sha256.")
@click.option("--random-seed", type=int, help="Random weights, to try an architecture without its own.")
@click.option("--images", type=FOLDER, help="Images on which the export must agree with torch.")
@click.option("--force", is_flag=True, help="Export again even if the extractor is there.")
def export(
    name: str,
    weights: Path | None,
    sha256: str | None,
    random_seed: int | None,
    images: Path | None,
    force: bool,
) -> None:
    """Export a pretrained network as an extractor folder: HEADSTART_HOME/extractors/NAME.

    A second run does nothing.
    """
    from training.export import export_extractor

    folder = _settings().extractor_folder(name)
    with click.progressbar(length=100, label=f"exporting {name}", show_eta=False) as bar:

        def show(stage: str, fraction: float) -> None:
            bar.label = f"exporting {name}: {stage}"
            bar.update(round(fraction * 100) - bar.pos)

        try:
            manifest = export_extractor(
                name,
                folder,
                weights_path=weights,
                weights_sha256=sha256,
                random_seed=random_seed,
                parity_images=_images_in(images),
                progress=show,
                force=force,
            )
        except (HeadstartError, OSError) as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"{folder} digest {manifest.digest[:12]}, {manifest.output.dim} dimensions")


def _require_free(host: str, port: int) -> None:
    """The server would find out too, and end with a traceback."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            message = (
                f"cannot listen on {host} port {port}: {error.strerror}. Set HEADSTART_HOST or HEADSTART_PORT"
            )
            raise click.ClickException(message) from error


def _images_in(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    suffixes = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if not found:
        raise click.BadParameter(f"no images in {folder}", param_hint="--images")
    return found


def _settings() -> Settings:
    try:
        return Settings.from_env()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
