"""Build the container image of a bento and say what takes its space.

    python deploy/image/build.py .headstart/extractors/efficientnet-lite0 [--gpu] [--engine docker]

Knows the layout of a bento and of the image's build context. Knows no setting of the service.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from deploy.bento import build_bento, import_extractor, model_folder
from training.manifest import Manifest

HERE = Path(__file__).resolve().parent
IN_CONTEXT = ("headstart", "healthcheck", "uv.txt")
BASE = "docker.io/library/python:3.11-slim"
MOST_SHOWN = 12
KIB = 1024  # bytes
MB = 1_000_000


@contextmanager
def build_context(extractor: Path, *, gpu: bool) -> Iterator[Path]:
    """A folder with all that the Dockerfile copies, taken from a new bento; removed afterwards."""
    model = import_extractor(extractor)
    bento = build_bento(gpu=gpu)
    with tempfile.TemporaryDirectory(prefix="headstart-image-") as name:
        folder = Path(name)
        shutil.copytree(Path(bento.path) / "src", folder / "src")
        extractors = folder / "extractors" / Manifest.load(extractor).name
        shutil.copytree(model_folder(model), extractors, ignore=shutil.ignore_patterns("model.yaml"))
        shutil.copy(
            ROOT / "requirements" / f"image-{'gpu' if gpu else 'cpu'}.txt", folder / "requirements.txt"
        )
        for part in IN_CONTEXT:
            shutil.copy(HERE / part, folder / part)
        yield folder


def build_image(engine: str, context: Path, tag: str, arguments: dict[str, str]) -> None:
    """Run the engine's build.

    Raises
    ------
    subprocess.CalledProcessError
        It failed; what it printed says why.
    """
    options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    # Podman's own format has no healthcheck.
    options += ["--format=docker"] if engine != "docker" else []
    command = [engine, "build", "--tag", tag, "--file", str(HERE / "Dockerfile"), *options, str(context)]
    subprocess.run(command, check=True)


def report_size(engine: str, tag: str) -> None:
    """Print the size of the image and its largest parts, in MB."""
    (found,) = json.loads(_output(engine, "image", "inspect", tag))
    print(f"{tag}: {found['Size'] / MB:.0f} MB, of which")
    largest = "du -k -d1 /opt/headstart; du -k -d1 /opt/headstart/venv/lib/python3*/site-packages"
    lines = _output(
        engine, "run", "--rm", "--network=none", "--entrypoint=sh", tag, "-c", largest
    ).splitlines()
    sizes = {path: int(size) * KIB / MB for size, path in (line.split("\t") for line in lines)}
    for path in sorted(sizes, key=sizes.__getitem__, reverse=True)[:MOST_SHOWN]:
        print(f"  {sizes[path]:6.0f} MB  {path}")


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("extractor", type=Path, help="an exported extractor folder, to go into the image")
    parser.add_argument("--gpu", action="store_true", help="with CUDA and cuDNN")
    parser.add_argument("--engine", default="podman", choices=("podman", "docker", "buildah"))
    parser.add_argument("--tag", help="default: localhost/headstart:cpu or :gpu")
    parser.add_argument("--base", default=BASE, help="the Python image; pin it by digest where you can")
    given = parser.parse_args(arguments)
    kind = "gpu" if given.gpu else "cpu"
    tag = given.tag or f"localhost/headstart:{kind}"
    with build_context(given.extractor, gpu=given.gpu) as context:
        extractor = Manifest.load(given.extractor).name
        device = "cuda" if given.gpu else "cpu"
        build_image(
            given.engine, context, tag, {"BASE": given.base, "EXTRACTOR": extractor, "DEVICE": device}
        )
    report_size(given.engine, tag)


if __name__ == "__main__":
    main()
