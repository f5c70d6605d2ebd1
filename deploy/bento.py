"""Put an exported extractor into the BentoML model store and build the bento of `bentofile.yaml`.

python deploy/bento.py .headstart/extractors/efficientnet-lite0
"""

import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml

from training.manifest import Manifest

ROOT = Path(__file__).resolve().parent.parent


def import_extractor(folder: Path) -> bentoml.Tag:
    """Copy an extractor folder into the model store, once: the version is its digest."""
    manifest = Manifest.load(folder)
    manifest.verify_files(folder)
    tag = bentoml.Tag(f"headstart-{manifest.name}", manifest.digest[:16])
    try:
        return bentoml.models.get(tag).tag
    except bentoml.exceptions.NotFound:
        with bentoml.models.create(tag, labels={"extractor": manifest.name}) as model:
            shutil.copytree(folder, model.path, dirs_exist_ok=True)
        return tag


def main(folder: str) -> None:
    print(f"model {import_extractor(Path(folder))}")
    bento = bentoml.bentos.build_bentofile(build_ctx=str(ROOT))
    print(f"bento {bento.tag}")


if __name__ == "__main__":
    main(*sys.argv[1:])
