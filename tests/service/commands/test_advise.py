"""`headstart advise` as its user sees it, with the real extractor on real images."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.cli import main
from tests.service.conftest import tiny_extractor
from tests.training.folders import photographs

LITE0 = "efficientnet-lite0"
REPOSITORY = Path(__file__).resolve().parents[3]

Advise = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, lite0_folder: Path) -> Path:
    """A home folder in which the default extractor is exported."""
    (tmp_path / "home" / "extractors").mkdir(parents=True)
    (tmp_path / "home" / "extractors" / LITE0).symlink_to(lite0_folder)
    return tmp_path / "home"


@pytest.fixture
def advise(home: Path) -> Advise:
    def run(folder: Path, *arguments: object) -> Result:
        command = ["advise", str(folder), *map(str, arguments)]
        return CliRunner().invoke(main, command, env={"HEADSTART_HOME": str(home)})

    return run


def test_photographs_of_pets_want_a_head_and_nothing_else(
    advise: Advise, data_root: Path, tmp_path: Path
) -> None:
    pets = photographs(data_root, tmp_path / "pets", 12)
    (pets / "cat" / "cut.jpg").write_bytes(min((pets / "cat").iterdir()).read_bytes()[:4000])
    result = advise(pets, "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    assert "Scenario 1: small, and like what the network was trained on" in result.output
    assert "cut.jpg: the JPEG image is truncated" in result.output
    assert "embedding  1280" in result.output
    assert result.output.endswith("Next: PUT /v1/heads/NAME?layers=embedding with these images\n")
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["scenario"], found["recommended"]["strategy"]) == (1, "head")
    assert found["figures"]["size"]["counts"] == {"cat": 12, "dog": 12}
    assert [Path(left["path"]).name for left in found["left_out"]] == ["cut.jpg"]
    assert found["timing"]["network_ms"] > 0


def test_lesions_want_layers_that_are_trained(advise: Advise, data_root: Path, tmp_path: Path) -> None:
    for label in ("bcc", "nv", "vasc"):
        (tmp_path / "skin" / label).mkdir(parents=True)
        for path in sorted((data_root / "ham10000" / label).glob("*.jpg"))[:40]:
            (tmp_path / "skin" / label / path.name).symlink_to(path)
    result = advise(tmp_path / "skin")
    assert result.exit_code == 0, result.output
    assert "Scenario 2: small, and unlike" in result.output
    options = f"--strategy conservative --extractor {LITE0} --output skin-tuned"
    assert result.output.endswith(f"Next: headstart finetune {tmp_path / 'skin'} {options}\n")


def test_one_image_of_each_class_is_too_little(advise: Advise, data_root: Path, tmp_path: Path) -> None:
    pets = photographs(data_root, tmp_path / "pets", 1)
    result = advise(pets)
    assert result.exit_code == 0, result.output
    assert "Too little to judge any strategy by" in result.output
    assert result.output.endswith(f"Next: add images to {pets}\n")


def test_an_extractor_of_another_folder(advise: Advise, data_root: Path, tmp_path: Path) -> None:
    other = tiny_extractor(tmp_path / "other")
    result = advise(photographs(data_root, tmp_path / "pets", 6), "--extractor", other)
    assert result.exit_code == 0, result.output
    assert "cannot be told" in result.output


def test_what_cannot_be_advised_on_is_one_line(advise: Advise, data_root: Path, tmp_path: Path) -> None:
    pets = photographs(data_root, tmp_path / "pets", 2)
    (tmp_path / "empty").mkdir()
    for arguments in ((tmp_path / "empty",), (pets, "--extractor", "absent")):
        result = advise(*arguments)
        assert result.exit_code == 1
        assert result.output.splitlines()[-1].startswith("Error: ")


def test_it_needs_no_torch(home: Path, data_root: Path, tmp_path: Path) -> None:
    pets = photographs(data_root, tmp_path / "pets", 3)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from service.cli import main\n"
        f"main(['advise', {str(pets)!r}])"
    )
    environment = {"HEADSTART_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Next: " in done.stdout
