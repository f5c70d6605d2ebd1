"""The main job on real photographs, through the real service: accuracy, and what a head costs.

Posts the support set of a head, predicts inputs that were never in it, and prints a table and, last, one JSON
line. Timings are ratios within the run; the server is fresh, so nothing is cached before.

    python -m benchmarks.main_job [--seeds 5]
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from benchmarks.server import ROOT, Server, running

Labelled = Sequence[tuple[str, Path]]
PREDICT_BATCH = 64


def data_root() -> Path:
    return Path(os.environ.get("HEADSTART_DATA", ROOT.parent / "shared" / "data"))


def images_of(folder: Path) -> dict[str, list[Path]]:
    """Image files by the name of the folder they are in."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() in {".jpg", ".jpeg", ".png"}:
            found[path.parent.name].append(path)
    return found


def split_per_class(images: Mapping[str, Sequence[Path]], shots: int, seed: int) -> tuple[Labelled, Labelled]:
    """`shots` images of each class to learn from, all others to test on."""
    support: list[tuple[str, Path]] = []
    test: list[tuple[str, Path]] = []
    for label, paths in images.items():
        shuffled = random.Random(f"{seed} {label}").sample(paths, len(paths))
        support += [(label, path) for path in shuffled[:shots]]
        test += [(label, path) for path in shuffled[shots:]]
    return support, test


def split_by_name(images: Mapping[str, Sequence[Path]], shots: int, seed: int) -> tuple[Labelled, Labelled]:
    """As `split_per_class`, but files of one name (one smear) are all on one side."""
    support, test = split_per_class(images, shots, seed)
    learned_from = {path.name for _, path in support}
    return support, [(label, path) for label, path in test if path.name not in learned_from]


def multipart(items: Labelled) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [(label, (path.name, path.read_bytes(), "application/octet-stream")) for label, path in items]


def put_head(client: httpx.Client, name: str, support: Labelled) -> dict[str, object]:
    response = client.put(f"/v1/heads/{name}", files=multipart(support))
    response.raise_for_status()
    answer: dict[str, object] = response.json()
    return answer


def accuracy(client: httpx.Client, name: str, test: Labelled) -> float:
    """Share of inputs whose most probable class is right."""
    right = 0
    for start in range(0, len(test), PREDICT_BATCH):
        batch = test[start : start + PREDICT_BATCH]
        response = client.post(f"/v1/heads/{name}/predict", files=multipart(batch))
        response.raise_for_status()
        predictions = response.json()["predictions"]
        right += sum(p["label"] == label for p, (label, _) in zip(predictions, batch, strict=True))
    return right / len(test)


def accuracies(server: Server, seeds: int) -> dict[str, list[float]]:
    """Accuracy of each seed's head on everything that was not posted for it."""
    cats_dogs = images_of(data_root() / "cats_dogs")
    blood_cells = images_of(data_root() / "blood_cells")
    found: dict[str, list[float]] = defaultdict(list)
    with server.client() as client:
        for seed in range(seeds):
            for name, (support, test) in {
                "cats_dogs_10": split_per_class(cats_dogs, 10, seed),
                "blood_cells_5": split_by_name(blood_cells, 5, seed),
            }.items():
                head = f"{name}.{seed}"
                put_head(client, head, support)
                found[name].append(accuracy(client, head, test))
    return found


def put_to_embedding_ratio(server: Server, rounds: int) -> list[float]:
    """Time of a PUT of 20 photographs over that of embedding 20 others, all new to the server."""
    images = images_of(data_root() / "cats_dogs")
    ratios = []
    with server.client() as client:
        client.get("/readyz")
        for i in range(rounds):
            chunk = [
                [(label, path) for label, paths in images.items() for path in paths[start : start + 10]]
                for start in (20 * i, 20 * i + 10)
            ]
            files = [multipart(items) for items in chunk]
            start = time.perf_counter()
            client.post(
                "/v1/embeddings", params={"encoding_format": "base64"}, files=files[0]
            ).raise_for_status()
            embedded = time.perf_counter()
            answer = client.put(f"/v1/heads/ratio{i}", files=files[1])
            end = time.perf_counter()
            answer.raise_for_status()
            if answer.json()["examples"]["embedded"] != 20:
                raise RuntimeError("the photographs of the PUT were cached: this measures nothing")
            ratios.append((end - embedded) / (embedded - start))
    return ratios


def retraining(server: Server) -> dict[str, float]:
    """PUT of 200 photographs, then training again: how many are embedded, and how much faster it is."""
    images = images_of(data_root() / "cats_dogs")
    support = [(label, path) for label, paths in images.items() for path in paths[400:500]]
    with server.client() as client:
        files = multipart(support)
        start = time.perf_counter()
        client.put("/v1/heads/retrained", files=files).raise_for_status()
        put_s = time.perf_counter() - start
        before = server.metric("headstart_embeddings_total", source="computed")
        times = []
        for _ in range(5):
            start = time.perf_counter()
            client.post("/v1/heads/retrained/train").raise_for_status()
            times.append(time.perf_counter() - start)
        after = server.metric("headstart_embeddings_total", source="computed")
    return {"new_embeddings": after - before, "speedup": put_s / statistics.median(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, running(Path(home)) as server:
        ratios = put_to_embedding_ratio(server, rounds=5)
        retrained = retraining(server)
        found = accuracies(server, arguments.seeds)
    for name, values in found.items():
        each = " ".join(f"{value:.3f}" for value in values)
        print(f"{name:<16} mean {statistics.mean(values):.4f}   each seed {each}")
    each = " ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"{'PUT of 20 / embedding 20':<32} {statistics.median(ratios):.2f}   each round {each}")
    print(f"{'PUT of 200 / training again':<32} {retrained['speedup']:.1f}")
    print(f"{'new embeddings in training':<32} {retrained['new_embeddings']:.0f}")
    line = {f"accuracy_{name}": round(statistics.mean(values), 4) for name, values in found.items()}
    line["ratio_put_to_embedding"] = round(statistics.median(ratios), 3)
    line["ratio_put_to_retraining"] = round(retrained["speedup"], 2)
    line["new_embeddings_in_retraining"] = retrained["new_embeddings"]
    print(json.dumps(line))


if __name__ == "__main__":
    main()
