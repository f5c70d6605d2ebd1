"""Do the data checks find what was planted among real images?

For each set: wrong labels (5 % of a balanced support set get another label of the set; those within the first
10 % of the ranking are counted), copies (some images come a second time, re-encoded, resized or cropped;
`alike` counts groups of images that nobody copied) and outliers (3 % images of the other sets; AUROC of the
typicality).

    python -m benchmarks.checks [--seeds 10] [--extractor FOLDER] [--data FOLDER]
"""

import argparse
import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks.embedded import REPOSITORY, Embed, EmbeddedSet, chosen_extractor, embed_set, embedder
from training.heads import check_examples

SHOTS = {"cats_dogs": 100, "blood_cells": 60, "ham10000": 70}
WRONG_SHARE, LOOKED_AT = 0.05, 0.1
OUTLIER_SHARE = 0.03
COPIED = 30


def _encoded(image: Image.Image, kind: str = "JPEG", quality: int = 90) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, quality=quality)
    return stream.getvalue()


def _resized(image: Image.Image, scale: float) -> Image.Image:
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def _cropped(image: Image.Image, share: float) -> Image.Image:
    across, down = round(image.width * share), round(image.height * share)
    return image.crop((across, down, image.width - across, image.height - down))


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "png": lambda image: _encoded(image, "PNG"),
    "jpeg_90": lambda image: _encoded(image),
    "jpeg_75": lambda image: _encoded(image, quality=75),
    "size_80": lambda image: _encoded(_resized(image, 0.8)),
    "size_50": lambda image: _encoded(_resized(image, 0.5)),
    "crop_1": lambda image: _encoded(_cropped(image, 0.01)),
    "crop_2": lambda image: _encoded(_cropped(image, 0.02)),
    "crop_5": lambda image: _encoded(_cropped(image, 0.05)),
}


def support_rows(images: EmbeddedSet, shots: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows of `shots` images of each class."""
    members = [np.flatnonzero(images.labels == label) for label in np.unique(images.labels)]
    return np.concatenate([rng.permutation(rows)[:shots] for rows in members])


def plant_wrong_labels(
    labels: npt.NDArray[np.str_], share: float, rng: np.random.Generator
) -> tuple[list[str], npt.NDArray[np.bool_]]:
    """The labels with a share of them replaced by another of the set, and which ones."""
    names, planted = np.unique(labels), np.zeros(len(labels), dtype=bool)
    planted[rng.permutation(len(labels))[: round(share * len(labels))]] = True
    wrong = [
        rng.choice(names[names != label]) if bad else label
        for label, bad in zip(labels, planted, strict=True)
    ]
    return [str(label) for label in wrong], planted


def found_wrong_labels(images: EmbeddedSet, shots: int, seed: int) -> tuple[float, float]:
    """Share of the planted wrong labels in the first 10 %, and of those, whose right label is suggested."""
    rng = np.random.default_rng(seed)
    rows = support_rows(images, shots, rng)
    labels, planted = plant_wrong_labels(images.labels[rows], WRONG_SHARE, rng)
    ranking = check_examples(images.embeddings[rows], labels).label_errors
    first = ranking[: math.ceil(LOOKED_AT * len(rows))]
    hits = [error for error in first if planted[error.index]]
    right = [error.suggested == images.labels[rows][error.index] for error in hits]
    return len(hits) / planted.sum(), float(np.mean(right)) if right else 0.0


def found_copies(
    images: EmbeddedSet, name: str, data: Path, embed: Embed, shots: int
) -> tuple[dict[str, float], int]:
    """Share of the copies that are found, by what was done to them; and groups of different images."""
    rng = np.random.default_rng(0)
    rows = support_rows(images, shots, rng)
    chosen = rng.permutation(len(rows))[:COPIED].tolist()
    embeddings, labels = images.embeddings[rows], images.labels[rows].tolist()
    alone = len(check_examples(embeddings, labels).duplicates)
    found = {}
    for how, change in COPIES.items():
        copies = []
        for index in chosen:
            with Image.open(data / name / labels[index] / images.names[rows[index]]) as image:
                copies.append(embed(change(image.convert("RGB"))))
        again = [*labels, *(labels[index] for index in chosen)]
        groups = check_examples(np.vstack((embeddings, copies)), again).duplicates
        group_of = {index: number for number, group in enumerate(groups) for index in group.indices}
        pairs = [(group_of.get(index), group_of.get(len(rows) + i)) for i, index in enumerate(chosen)]
        found[how] = sum(one is not None and one == other for one, other in pairs) / COPIED
    return found, alone


def outlier_auroc(sets: dict[str, EmbeddedSet], name: str, shots: int, seed: int) -> float:
    """AUROC of low typicality for images of the other sets under labels of this one."""
    rng = np.random.default_rng(seed)
    rows = support_rows(sets[name], shots, rng)
    others = np.concatenate([images.embeddings for other, images in sets.items() if other != name])
    chosen = others[rng.permutation(len(others))[: round(OUTLIER_SHARE * len(rows))]]
    labels = [*sets[name].labels[rows].tolist(), *rng.choice(sets[name].labels, len(chosen)).tolist()]
    found = check_examples(np.vstack((sets[name].embeddings[rows], chosen)), labels).outliers
    return float(roc_auc_score([o.index >= len(rows) for o in found], [-o.typicality for o in found]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Wrong labels, copies and outliers among real images.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--extractor", type=Path, help="folder; the default extractor if left out")
    default_data = os.environ.get("HEADSTART_DATA", REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default_data))
    arguments = parser.parse_args()
    extractor = chosen_extractor(arguments)
    sets = {name: embed_set(extractor, arguments.data, name) for name in SHOTS}
    embed = embedder(extractor)
    print(
        f"{'set':12}{'shots':>6}{'labels':>8}{'worst':>8}{'fixed':>8}{'outliers':>10}{'alike':>7}", " copies"
    )
    table: list[dict[str, Any]] = []
    for name, shots in SHOTS.items():
        labels = [found_wrong_labels(sets[name], shots, seed) for seed in range(arguments.seeds)]
        auroc = [outlier_auroc(sets, name, shots, seed) for seed in range(arguments.seeds)]
        copies, alike = found_copies(sets[name], name, arguments.data, embed, shots)
        found, fixed = np.mean(labels, axis=0)
        row = {
            "set": name,
            "shots": shots,
            "wrong_labels_found": float(found),
            "worst_seed": float(min(share for share, _ in labels)),
            "right_label_suggested": float(fixed),
            "outlier_auroc": float(np.mean(auroc)),
            "different_taken_for_copies": alike,
            "copies_found": copies,
        }
        table.append(row)
        shown = " ".join(f"{how} {share:.2f}" for how, share in copies.items())
        print(
            f"{name:12}{shots:>6}{found:>8.3f}{row['worst_seed']:>8.3f}{fixed:>8.3f}"
            f"{row['outlier_auroc']:>10.3f}{alike:>7}",
            f" {shown}",
            flush=True,
        )
    print(json.dumps({"benchmark": "checks", "seeds": arguments.seeds, "sets": table}))


if __name__ == "__main__":
    main()
