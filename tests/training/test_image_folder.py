"""A folder with a sub-folder for each class is read as its user sees it."""

from pathlib import Path

import pytest

from training.errors import NoExamplesError, TooFewClassesError
from training.image_folder import ImageFolder


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_the_first_sub_folder_names_the_class(tmp_path: Path) -> None:
    touch(tmp_path, "dog/b.PNG", "cat/2.jpg", "cat/old/cellar/1.jpeg", "loose.jpg", "cat/notes.txt")
    found = ImageFolder.read(tmp_path)
    assert found.labels == ("cat", "cat", "dog")
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == [
        "cat/2.jpg",
        "cat/old/cellar/1.jpeg",
        "dog/b.PNG",
    ]
    assert found.loose == (tmp_path / "loose.jpg",)
    assert found.counts == {"cat": 2, "dog": 1}


def test_what_a_desktop_leaves_behind_is_no_image(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.jpg", "dog/a.jpg", "dog/._a.jpg", "__MACOSX/cat/a.jpg", ".trash/x/a.jpg")
    (tmp_path / "cat" / "folder.jpg").mkdir()
    assert ImageFolder.read(tmp_path).counts == {"cat": 1, "dog": 1}


def test_a_folder_that_cannot_be_learned_from_says_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(NoExamplesError, match="at least two classes, found none"):
        ImageFolder.read(touch(tmp_path, "a.jpg"))
    with pytest.raises(TooFewClassesError, match="found cat alone"):
        ImageFolder.read(touch(tmp_path, "cat/a.jpg", "__none__/b.jpg"))
