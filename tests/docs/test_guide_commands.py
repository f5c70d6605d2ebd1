"""Every shell command in a fenced block of README and guide is run by a test, or says what it needs.

How a command on a page is written:

- A block of shell commands is a ```bash block. Every command in it is run here, as it stands, in order,
  against a server (`localhost:3000` is that server, `.headstart` its home). The files that it may name are
  those that `files` makes; what a page needs besides, and what its placeholders are, is in `SCENES`.
- A command that another test runs: the line `<!-- run by tests/... -->` right above the block. That file, or
  one of that folder, names the page.
- A command that cannot run on a test machine: the comment line `# needs WHAT` above it, for the reader,
  too, with one of `LACKING`. It holds as far as an empty line or the end of the block.

A command that is neither marked nor runs fails its page's test.
"""

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.main_job import images_of
from benchmarks.server import Server, running
from service.commands import COMMANDS
from tests.docs.pages import PAGES, README, ROOT, Block, blocks, shell_blocks
from tests.docs.shell import run_script

# What a test machine does not have.
LACKING = {
    "a cluster",
    "a GPU",
    "a registry of images",
    "weights from a hub",
    "your database and bucket",
}
TOOLS = (
    "bentoml", "cd", "curl", "docker", "export", "git", "headstart", "helm", "kubectl", "make", "pip",
    "podman", "psql", "python", "python3", "uv",
)  # fmt: skip
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

TEACH = """
curl -X PUT localhost:3000/v1/heads/pets --data-binary @pets.zip
curl -X PUT localhost:3000/v1/heads/lesions --data-binary @lesions.zip
"""


@dataclass(frozen=True)
class Scene:
    """What a page needs beyond the server and the files, and what its placeholders stand for."""

    before: str = ""
    replaced: Mapping[str, str] = field(default_factory=dict)
    long: bool = False


SCENES = {
    "backup.md": Scene(
        replaced={"/backups": "backups", "headstart restore": "HEADSTART_HOME=copy headstart restore"},
        before="mkdir backups",
        long=True,
    ),
    "batches.md": Scene(before="curl -o pets.safetensors localhost:3000/v1/heads/pets/export", long=True),
    "production.md": Scene(long=True),
    "upgrade.md": Scene(long=True),
    "extractors.md": Scene(before="headstart export resnet50 --random-seed 0", long=True),
    "heads.md": Scene(long=True),
    "security.md": Scene(
        replaced={
            "8c1f0e5d2b7a4c63": "$(headstart keys list | grep 'camera 3' | cut -d' ' -f1)",
            "$HEADSTART_KEY": "$(cat key)",
        },
        before="headstart keys create --scope admin > key",
        long=True,
    ),
    "transfer.md": Scene(replaced={"jobs/JOB/": "jobs/$(newest_job)/"}, long=True),
}


@pytest.fixture(scope="module")
def files(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages name."""
    folder = tmp_path_factory.mktemp("files")
    photos = images_of(data_root / "cats_dogs")
    for label, paths in photos.items():
        for number, path in enumerate(paths[:4], 1):
            shutil.copy(path, folder / f"{label}{number}.jpg")
        (folder / "photos" / label).mkdir(parents=True)
        for path in paths[:45]:
            shutil.copy(path, folder / "photos" / label)
    for number, path in enumerate(sorted((data_root / "blood_cells" / "wbc").glob("*.png"))[:3], 1):
        shutil.copy(path, folder / f"bird{number}.jpg")
    for name, path in zip("abcd", (*photos["cat"][10:12], *photos["dog"][10:12]), strict=True):
        shutil.copy(path, folder / f"{name}.jpg")
    for name in ("new.jpg", "photo.jpg"):
        shutil.copy(photos["cat"][99], folder / name)
    (folder / "photographs").mkdir()
    for name in "abcd":
        shutil.copy(folder / f"{name}.jpg", folder / "photographs")
    with zipfile.ZipFile(folder / "pets.zip", "w") as bundle:
        for path in sorted(folder.glob("[cd]*[1-3].jpg")):
            bundle.write(path, f"{path.name[:3]}/{path.name}")
    with zipfile.ZipFile(folder / "lesions.zip", "w") as bundle:
        for label in ("bcc", "nv", "vasc"):
            for path in islice(sorted((data_root / "ham10000" / label).iterdir()), 6):
                bundle.write(path, f"{label}/{path.name}")
    return folder


@pytest.fixture(scope="module")
def server(lite0_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(lite0_folder, home / "extractors" / lite0_folder.name)
    with running(home, extractor=Path(lite0_folder.name)) as server:
        yield server


def commands_to_run(page: Path) -> list[str]:
    """The commands of each block that are to be run here."""
    found = []
    for block in shell_blocks(page):
        own = [one.text for one in block.commands() if one.needs is None and one.run_by is None]
        found += ["\n".join(own)] if own else []
    return found


def pages_to_run() -> Iterator[object]:
    # Once a key is made the server asks everybody for one: this page is the last.
    for page in sorted(PAGES, key=lambda page: page.name == "security.md"):
        if commands_to_run(page):
            scene = SCENES.get(page.name, Scene())
            yield pytest.param(page, id=page.name, marks=[pytest.mark.long] if scene.long else [])


@pytest.mark.parametrize("page", list(pages_to_run()))
def test_the_commands_of_the_page_run(page: Path, server: Server, files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(files, folder)
    scene = SCENES.get(page.name, Scene())
    run_script(TEACH + scene.before, server, folder)
    for script in commands_to_run(page):
        for said, meant in scene.replaced.items():
            script = script.replace(said, meant)
        run_script(script, server, folder)


def keys(value: object) -> object:
    """The shape of a JSON value: names of keys, without the values."""
    if isinstance(value, dict):
        return {key: keys(item) for key, item in value.items()}
    return [keys(value[0])] if isinstance(value, list) and value else None


def test_the_first_screen_answers_what_it_shows(server: Server, files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(files, folder)
    block = next(block for block in shell_blocks(README) if "curl" in block.text)
    taught, predicted = (json.loads(run_script(command.text, server, folder)) for command in block.commands())
    prediction, report = (json.loads(block.text) for block in blocks(README) if block.language == "json")
    assert keys(predicted) == keys(prediction)
    assert predicted["predictions"][0]["label"] == prediction["predictions"][0]["label"] == "cat"
    assert keys({key: taught["report"][key] for key in report}) == keys(report)
    for key, value in report.items():
        assert taught["report"][key] == pytest.approx(value, abs=6e-4), key


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_mark_means_something(page: Path) -> None:
    for block in shell_blocks(page):
        parsed = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True, check=False)
        assert parsed.returncode == 0, (block.name, parsed.stderr)
        if block.run_by is not None:
            expect_named(block, ROOT / block.run_by)
        for command in block.commands():
            assert command.needs in {None, *LACKING}, (page.name, command.line, command.needs)
            if made := re.match(r"(?:\w+=\S+ )*make ([a-z0-9-]+)", command.text):
                assert made[1] in TARGETS, (page.name, command.line, command.text)


def expect_named(block: Block, test: Path) -> None:
    tests = [test] if test.is_file() else sorted(test.glob("*.py"))
    assert any(block.page.name in path.read_text() for path in tests), (block.name, test)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_stands_in_a_block_of_another_kind(page: Path) -> None:
    for block in blocks(page):
        if block.language not in {"bash", "python", "json", "yaml", "ini", "nginx", "promql", "sql"}:
            assert block.language in {"", "text"}, (block.name, block.language)
            for line in block.text.splitlines():
                assert line.removeprefix("$ ").split(" ")[0] not in TOOLS, (block.name, line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_within_the_text_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z0-9-]+)", text):
        assert target in TARGETS, target
    known = {command.name for command in COMMANDS}
    for name in re.findall(r"`headstart ([a-z-]+)", text):
        assert name in known, name
