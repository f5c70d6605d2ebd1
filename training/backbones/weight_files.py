"""Weights files in a folder of the user's, found by their names. Loads none of them."""

import re
from pathlib import Path

from training.backbones.catalogue import Entry, WeightsChoice
from training.errors import WeightsError
from training.manifest import sha256_of

# As torch.hub names files: the first digits of the sha256 before the suffix.
_HASHED_NAME = re.compile(r".*-([0-9a-f]{8,64})\.(?:pth|pt)")


def weights_in(folder: Path, entry: Entry) -> WeightsChoice | None:
    """The file of a network's weights in `folder`, under its published name or as `NAME.pth`; None without.

    Raises
    ------
    WeightsError
        The file has another sha256 than its name says, as after a download that was cut off.
    """
    found = [path for name in (entry.file_name, f"{entry.name}.pth") if (path := folder / name).is_file()]
    return choice_of(found[0]) if found else None


def choice_of(path: Path, sha256: str | None = None) -> WeightsChoice:
    """A local file, compared with the digits in its name if it has any, and later with `sha256` if given.

    Raises
    ------
    WeightsError
        No such file, or it has another sha256 than its name says.
    """
    choice = WeightsChoice(path, sha256)
    hashed = _HASHED_NAME.fullmatch(path.name)
    if hashed is not None and not (found := sha256_of(path)).startswith(hashed[1]):
        raise WeightsError(
            f"{path.name}: expected a sha256 that starts with {hashed[1]}, as its name says, found {found}. "
            "Download it again"
        )
    return choice
