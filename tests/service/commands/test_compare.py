"""`headstart compare` as its user sees it, with the real extractor on real photographs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
import torch
from click.testing import CliRunner, Result
from torchvision.models import get_model_weights

from service.cli import main
from tests.training.folders import photographs
from training.backbones import WeightsChoice, load_backbone
from training.manifest import FILES, Manifest, sha256_of

pytestmark = pytest.mark.long

LITE0 = "efficientnet-lite0"
REPOSITORY = Path(__file__).resolve().parents[3]

Compare = Callable[..., Result]


@pytest.fixture(scope="module")
def pets(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve cats and twelve dogs, one image that is cut off and one that is there twice."""
    folder = photographs(data_root, tmp_path_factory.mktemp("images") / "pets", 12)
    first = min((folder / "cat").iterdir())
    (folder / "cat" / "cut.jpg").write_bytes(first.read_bytes()[:4000])
    (folder / "dog" / "copy.jpg").symlink_to(first.resolve())
    return folder


@pytest.fixture
def home(tmp_path: Path, lite0_folder: Path) -> Path:
    """A home folder in which the default extractor is exported."""
    (tmp_path / "home" / "extractors").mkdir(parents=True)
    (tmp_path / "home" / "extractors" / LITE0).symlink_to(lite0_folder)
    return tmp_path / "home"


@pytest.fixture
def compare(home: Path, pets: Path) -> Compare:
    def run(*arguments: object, folder: Path = pets) -> Result:
        command = ["compare", str(folder), *map(str, arguments)]
        return CliRunner().invoke(main, command, env={"HEADSTART_HOME": str(home)})

    return run


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's address is replaced by one that nobody serves, so that the tests are the same everywhere."""
    published = get_model_weights("resnet50")["IMAGENET1K_V2"]
    monkeypatch.setattr(type(published), "url", "http://127.0.0.1:9/resnet50-11ad3fa6.pth", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def test_a_comparison_prints_a_table_and_writes_what_it_measured(
    compare: Compare, tmp_path: Path, home: Path
) -> None:
    files = tmp_path / "found.json", tmp_path / "plot.svg"
    options = ("--backbones", LITE0, "--shots", "5,1,50", "--seeds", 3)
    result = compare(*options, "--json", files[0], "--plot", files[1])
    assert result.exit_code == 0, result.output
    assert "24 images: cat 12, dog 12" in result.output
    assert "cut.jpg: the JPEG image is truncated" in result.output
    assert "copy.jpg: the same file as cat/" in result.output
    assert "Too few images to learn from 50 of each class" in result.output
    assert "of this machine" in result.output
    assert f"{LITE0} is the only one measured" in result.output
    found = json.loads(files[0].read_text())
    (candidate,) = found["candidates"]
    assert (found["shots"], found["shots_left_out"], found["best"]) == ([1, 5], [50], LITE0)
    assert (candidate["dim"], candidate["cached"], candidate["timing"]["images"]) == (1280, 0, 24)
    assert candidate["size_bytes"] == (home / "extractors" / LITE0 / FILES.model).stat().st_size
    accuracies = candidate["accuracies"]
    assert accuracies[1]["mean"] > 0.85
    assert all(a["low"] <= a["mean"] <= a["high"] and a["seeds"] == 3 for a in accuracies)
    assert len(found["left_out"]) == 2
    markers = [element for element in Xml.parse(files[1]).iter() if element.get("class") == "marker"]
    assert len(markers) == 2
    (row,) = [line for line in result.output.splitlines() if line.startswith(f"{LITE0}  ")]
    assert f"{100 * accuracies[1]['mean']:.1f} (" in row

    again = compare(*options, "--json", files[0])
    (repeated,) = json.loads(files[0].read_text())["candidates"]
    assert again.exit_code == 0
    assert (repeated["cached"], repeated["accuracies"]) == (24, accuracies)


def test_a_network_without_its_weights_is_reported_and_the_others_go_on(
    compare: Compare, no_hub: None, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vgg16-397923af.pth").write_bytes(b"cut off")
    (tmp_path / "weights" / "vit-b-16.pth").write_bytes(b"not weights")
    names = ["resnet50", "vgg16", "vit-b-16", LITE0]
    result = compare(
        *(
            "--backbones",
            ",".join(names),
            "--weights-dir",
            tmp_path / "weights",
            "--shots",
            "5",
            "--seeds",
            2,
        ),
        *("--json", tmp_path / "found.json"),
    )
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "found.json").read_text())
    reasons = {missing["name"]: missing["reason"] for missing in found["unavailable"]}
    assert list(reasons) == names[:3]
    assert "run `headstart export resnet50 --weights resnet50-11ad3fa6.pth`" in reasons["resnet50"]
    assert "starts with 397923af, as its name says" in reasons["vgg16"]
    assert "vit-b-16.pth is not a file of weights" in reasons["vit-b-16"]
    assert [candidate["name"] for candidate in found["candidates"]] == [LITE0]
    assert f"{LITE0} is the only one measured" in result.output
    assert result.output.count("was not compared: ") == 3
    assert {path.name for path in (home / "extractors").iterdir() if path.is_dir()} == {LITE0}


def test_without_any_network_the_command_fails_and_draws_nothing(
    compare: Compare, no_hub: None, tmp_path: Path
) -> None:
    plot = tmp_path / "plot.svg"
    result = compare("--backbones", "resnet50", "--plot", plot)
    assert result.exit_code == 1
    assert "cannot be downloaded" in result.output
    assert "no network could be compared" in result.output
    assert not plot.exists()


def test_random_weights_are_kept_apart_from_the_exported_extractor(
    compare: Compare, home: Path, lite0_folder: Path, random_folder: Path, tmp_path: Path
) -> None:
    (home / "cache" / "random" / "0").mkdir(parents=True)
    (home / "cache" / "random" / "0" / LITE0).symlink_to(random_folder)
    before = Manifest.load(lite0_folder).digest
    options = ("--backbones", LITE0, "--shots", "5", "--seeds", 2, "--random-seed", 0)
    result = compare(*options, "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    (candidate,) = json.loads((tmp_path / "found.json").read_text())["candidates"]
    assert candidate["weights"] == "random, seed 0"
    assert candidate["digest"] != before == Manifest.load(home / "extractors" / LITE0).digest


def test_a_local_file_is_verified_and_compared(
    compare: Compare, home: Path, lite0_folder: Path, tmp_path: Path
) -> None:
    (home / "extractors" / LITE0).unlink()
    network = load_backbone(LITE0, WeightsChoice(random_seed=3))
    state = dict(network.module.state_dict())
    state["_fc.weight"] = torch.from_numpy(network.classifier.weight)
    state["_fc.bias"] = torch.from_numpy(network.classifier.bias)
    torch.save(state, tmp_path / "mine.pth")
    sha256 = sha256_of(tmp_path / "mine.pth")
    options = (
        "--backbones",
        LITE0,
        "--shots",
        "5",
        "--seeds",
        2,
        "--weights",
        f"{LITE0}={tmp_path / 'mine.pth'}",
    )
    refused = compare(*options, "--sha256", f"{LITE0}={'0' * 64}")
    assert refused.exit_code == 1
    assert f"mine.pth: expected sha256 {'0' * 64}, found {sha256}" in refused.output
    assert not (home / "extractors" / LITE0).exists()
    result = compare(*options, "--sha256", f"{LITE0}={sha256}", "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    (candidate,) = json.loads((tmp_path / "found.json").read_text())["candidates"]
    assert candidate["weights"] == "file mine.pth"
    assert Manifest.load(home / "extractors" / LITE0).weights.sha256 == sha256
    # What is exported is taken as it is, unless another file is named.
    assert compare(*options[:6]).exit_code == 0
    other = compare(*options[:6], "--sha256", f"{LITE0}={'1' * 64}")
    assert other.exit_code == 1
    assert "holds another extractor" in other.output


def test_a_damaged_extractor_of_the_users_own_is_reported(compare: Compare, home: Path) -> None:
    tuned = home / "extractors" / "tuned"
    tuned.mkdir()
    (tuned / FILES.manifest).write_text("{}")
    result = compare("--backbones", "tuned")
    assert result.exit_code == 1
    assert "tuned was not compared: " in result.output
    assert "manifest.json: key format_version is missing" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbones", "resnet51"], "no network named 'resnet51' in the catalogue"),
        (["--backbones", " , "], "expected one or more names"),
        ([], "Missing option '--backbones'"),
        (["--backbones", LITE0, "--shots", "5,0"], "expected whole numbers from 1 to 1000000"),
        (["--backbones", LITE0, "--shots", "five"], "expected whole numbers from 1 to 1000000"),
        (["--backbones", LITE0, "--shots", "12345678900"], "expected whole numbers from 1 to 1000000"),
        (["--backbones", LITE0, "--seeds", "1"], "1 is not in the range 2<=x<=100"),
        (["--backbones", LITE0, "--weights", "mine.pth"], "expected NAME=VALUE"),
        (["--backbones", LITE0, "--weights", "vgg16=mine.pth"], "not one of --backbones"),
        (["--backbones", LITE0, "--sha256", f"{LITE0}=1", "--sha256", f"{LITE0}=2"], "given twice"),
        (["--backbones", LITE0, "--random-seed", "1", "--sha256", f"{LITE0}=1"], "not both"),
        (["--backbones", LITE0, "--plot", "absent/plot.svg"], "expected a file in a folder that exists"),
    ],
)
def test_a_slip_is_told_before_anything_is_done(
    compare: Compare, home: Path, arguments: list[str], message: str
) -> None:
    result = compare(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (home / "cache").exists()


def test_a_folder_that_cannot_be_compared(compare: Compare, pets: Path, tmp_path: Path) -> None:
    few = compare("--backbones", LITE0, "--shots", "20,50")
    assert few.exit_code == 1
    assert "expected at least 23 images of each class" in few.output
    empty = compare("--backbones", LITE0, folder=tmp_path)
    assert empty.exit_code == 1
    assert "at least two classes, found none" in empty.output


def test_the_commands_start_where_networks_and_their_export_are_not_packed() -> None:
    """As in a bento."""
    code = (
        "import sys; sys.modules['training.backbones'] = sys.modules['training.export'] = None;"
        "from service.cli import main; main(['compare', '--help'])"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


def test_where_torch_is_missing_what_is_exported_is_compared(home: Path, pets: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from service.cli import main;"
        f"main(['compare', {str(pets)!r}, '--backbones', 'resnet50,{LITE0}', '--shots', '1', '--seeds', '2'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={"HEADSTART_HOME": str(home), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert f"{LITE0} is the only one measured" in ran.stdout
    assert "resnet50 was not compared" in ran.stderr
    assert "Install requirements/export.txt" in ran.stderr
