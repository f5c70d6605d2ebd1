"""Only what can be learned from is used, and the rest is told."""

from pathlib import Path

import pytest

from tests.training.images import encode, png, scene
from training.errors import TooFewClassesError
from training.image_folder import ImageFolder
from training.preprocess import DecodeLimits
from training.usable_images import check_images


def write(folder: Path, files: dict[str, bytes]) -> ImageFolder:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return ImageFolder.read(folder)


def test_broken_images_copies_and_loose_ones_are_left_out_with_their_reasons(tmp_path: Path) -> None:
    jpeg = encode(scene(90, 60), "JPEG")
    files = {
        "cat/a.png": png(scene(40, 30)),
        "cat/cut.jpg": jpeg[: len(jpeg) // 2],
        "cat/text.jpg": b"not an image",
        "dog/b.jpg": jpeg,
        "dog/copy.png": png(scene(40, 30)),
        "loose.png": png(scene(30, 30)),
    }
    done: list[float] = []
    found = check_images(write(tmp_path, files), threads=2, tell=done.append)
    assert [path.name for path in found.paths] == ["a.png", "b.jpg"]
    assert found.counts == {"cat": 1, "dog": 1}
    reasons = {left.path.name: left.reason for left in found.left_out}
    assert reasons.keys() == {"cut.jpg", "text.jpg", "copy.png", "loose.png"}
    assert "truncated" in reasons["cut.jpg"]
    assert "not an image" in reasons["text.jpg"]
    assert reasons["copy.png"] == "the same file as cat/a.png"
    assert "no class" in reasons["loose.png"]
    assert (len(done), done[-1], done == sorted(done)) == (5, 1.0, True)


def test_images_above_the_limit_are_left_out_before_they_are_decoded(tmp_path: Path) -> None:
    files = {
        f"{label}/{side}.png": png(scene(side, side)) for label, side in (("a", 20), ("b", 21), ("b", 90))
    }
    found = check_images(write(tmp_path, files), limits=DecodeLimits(max_pixels=1000))
    assert [left.path.name for left in found.left_out] == ["90.png"]


def test_one_readable_class_is_too_few(tmp_path: Path) -> None:
    images = write(tmp_path, {"cat/a.png": png(scene(40, 30)), "dog/b.png": b"broken"})
    with pytest.raises(TooFewClassesError, match=r"found only cat\n.*b\.png: not an image"):
        check_images(images)
