"""Does the exported extractor still see what its network was trained to see?

Takes 250 ImageNet images, one for each of 250 classes, through the same path as the service: decode_image,
the ONNX graph, onnxruntime. Then applies the network's own classifier and counts how often the best of the
1000 classes is right. These are training images, so the figure is no accuracy to quote: it falls when
preprocessing, weights or the order of the classes are wrong (0.81 instead of 0.90 with another mean and std).

    python -m benchmarks.imagenet_sample [--extractor FOLDER] [--data FOLDER]
"""

import argparse
import csv
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from training.classifier import Classifier
from training.export import export_extractor
from training.manifest import FILES, Manifest
from training.preprocess import decode_image
from training.runtime import onnxruntime

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("HEADSTART_DATA", REPOSITORY.parent / "shared" / "data"))


@dataclass(frozen=True)
class Score:
    """What was measured; rates are images per second on one thread of one core."""

    extractor: str
    images: int
    top1: float
    top5: float
    decode_images_per_s: float
    embed_images_per_s: float


def score(folder: Path, data_root: Path) -> Score:
    """Top-1 and top-5 of the extractor in `folder` on `imagenet_sample` under `data_root`."""
    manifest, classifier = Manifest.load(folder), Classifier.load(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / FILES.model, options, ["CPUExecutionProvider"])
    paths, labels = _sample(data_root / "imagenet_sample")
    start = time.perf_counter()
    images = [decode_image(path.read_bytes(), manifest.preprocess) for path in paths]
    decoded = time.perf_counter()
    embeddings = [session.run(None, {manifest.input.name: image[np.newaxis]})[0] for image in images]
    embedded = time.perf_counter()
    ranking = np.argsort(-classifier.logits(np.concatenate(embeddings)), axis=1)  # (n, k), best first
    hits = ranking == labels[:, np.newaxis]
    return Score(
        extractor=manifest.name,
        images=len(paths),
        top1=float(hits[:, :1].any(axis=1).mean()),
        top5=float(hits[:, :5].any(axis=1).mean()),
        decode_images_per_s=round(len(paths) / (decoded - start), 1),
        embed_images_per_s=round(len(paths) / (embedded - decoded), 1),
    )


def _sample(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Paths of the images, and the index of each one's class among the 1000."""
    with (folder / "classes.csv").open(encoding="utf-8") as stream:
        index_of = {row["wnid"]: int(row["index"]) for row in csv.DictReader(stream)}
    paths = sorted(path for path in folder.glob("n*/*") if path.is_file())
    return paths, np.array([index_of[path.parent.name.split("_")[0]] for path in paths])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    extractors = REPOSITORY / ".headstart" / "extractors"
    parser.add_argument("--extractor", type=Path, default=extractors / "efficientnet-lite0")
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    if arguments.extractor == extractors / "efficientnet-lite0":
        export_extractor("efficientnet-lite0", arguments.extractor)
    result = asdict(score(arguments.extractor, arguments.data))
    for key, value in result.items():
        print(f"{key:24}{value:>20.3f}" if isinstance(value, float) else f"{key:24}{value:>20}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
