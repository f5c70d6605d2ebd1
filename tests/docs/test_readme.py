"""The first screen of the README answers what it shows, and links lead somewhere."""

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from benchmarks.server import Server, running

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
ADDRESS = "localhost:3000"


@pytest.fixture(scope="module")
def pictures(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the commands name."""
    folder = tmp_path_factory.mktemp("pictures")
    wanted = {"cat": 4, "dog": 4}
    for label, count in wanted.items():
        for i, path in enumerate(sorted((data_root / "cats_dogs" / label).glob("*.jpg"))[:count], 1):
            shutil.copy(path, folder / f"{label}{i}.jpg")
    cells = sorted((data_root / "blood_cells" / "wbc").glob("*.png"))
    for i, path in enumerate(cells[:3], 1):
        shutil.copy(path, folder / f"bird{i}.jpg")
    shutil.copy(sorted((data_root / "cats_dogs" / "cat").glob("*.jpg"))[99], folder / "new.jpg")
    with zipfile.ZipFile(folder / "pets.zip", "w") as bundle:
        for path in folder.glob("*[1-3].jpg"):
            if not path.name.startswith("bird"):
                bundle.write(path, f"{path.name[:3]}/{path.name}")
    return folder


@pytest.fixture(scope="module")
def server(lite0_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("home"), extractor=lite0_folder) as server:
        yield server


def commands(text: str) -> list[str]:
    """Every curl command of the shell blocks, its continuation lines joined."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("curl")]


def run(command: str, server: Server, folder: Path) -> str:
    """Run a command of the documentation against this server, in the folder of the pictures."""
    assert ADDRESS in command
    address = server.url.removeprefix("http://")
    command = command.replace("curl", "curl -sS --fail-with-body --noproxy '*'", 1).replace(ADDRESS, address)
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def shown(text: str) -> list[dict]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]


def keys(value: object) -> object:
    """The shape of a JSON value: names of keys, without the values."""
    if isinstance(value, dict):
        return {key: keys(item) for key, item in value.items()}
    return [keys(value[0])] if isinstance(value, list) and value else None


def test_the_first_screen_answers_what_it_shows(server: Server, pictures: Path) -> None:
    teach, predict = commands(README)[:2]
    taught = json.loads(run(teach, server, pictures))
    predicted = json.loads(run(predict, server, pictures))
    shown_prediction, shown_report = shown(README)[:2]
    assert keys(predicted) == keys(shown_prediction)
    assert predicted["predictions"][0]["label"] == shown_prediction["predictions"][0]["label"] == "cat"
    assert keys({key: taught["report"][key] for key in shown_report}) == keys(shown_report)
    for key, value in shown_report.items():
        assert taught["report"][key] == pytest.approx(value, abs=6e-4), key


def test_the_readme_links_every_page_of_the_guide() -> None:
    for page in (ROOT / "docs" / "guide").glob("*.md"):
        assert f"(docs/guide/{page.name})" in README, page.name


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page, target)
