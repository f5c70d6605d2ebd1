"""Put an exported extractor into the BentoML model store and build the bento of `bentofile.yaml`.

python deploy/bento.py .headstart/extractors/efficientnet-lite0 [--gpu]
"""

import argparse
import os
import shutil
from pathlib import Path

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
import yaml

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


def model_folder(tag: bentoml.Tag) -> Path:
    """Where the model store keeps an extractor."""
    return Path(bentoml.models.get(tag).path)


def build_bento(*, gpu: bool = False) -> bentoml.Bento:
    """Build `bentofile.yaml`; for a GPU under another name, with the requirements that have CUDA."""
    if not gpu:
        return bentoml.bentos.build_bentofile(build_ctx=str(ROOT))
    options = yaml.safe_load((ROOT / "bentofile.yaml").read_text(encoding="utf-8"))
    options["name"] += "-gpu"
    options["python"]["requirements_txt"] = "./requirements/image-gpu.txt"
    return bentoml.bentos.build(**options, build_ctx=str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack the service with its extractor.")
    parser.add_argument("extractor", type=Path, help="an exported extractor folder")
    parser.add_argument("--gpu", action="store_true", help="with CUDA and cuDNN")
    given = parser.parse_args()
    print(f"model {import_extractor(given.extractor)}")
    print(f"bento {build_bento(gpu=given.gpu).tag}")


if __name__ == "__main__":
    main()
