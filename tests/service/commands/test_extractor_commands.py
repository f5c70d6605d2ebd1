"""`headstart extractors`: add, list, remove, as a person uses them."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.cli import main
from tests.service.conftest import tiny_extractor


@pytest.fixture
def environment(tmp_path: Path, tiny_folder: Path) -> dict[str, str]:
    return {"HEADSTART_HOME": str(tmp_path / "home"), "HEADSTART_EXTRACTORS": str(tiny_folder)}


def run(environment: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(main, ["extractors", *arguments], env=environment)


def test_add_list_remove(environment: dict[str, str], second_folder: Path) -> None:
    assert run(environment, "list").output == ""
    for _ in range(2):
        added = run(environment, "add", str(second_folder))
        assert added.exit_code == 0, added.output
        assert "16 dimensions" in added.output
    listed = run(environment, "list").output.split()
    assert (listed[0], listed[2:]) == ("second", ["16", "added"])
    assert run(environment, "remove", "second").output == "second is removed, with 0 cached embeddings\n"
    assert run(environment, "list").output == ""


def test_what_cannot_be_done_is_one_line(
    environment: dict[str, str], tmp_path: Path, second_folder: Path
) -> None:
    clashing = tiny_extractor(tmp_path / "clashing", "tiny", seed=9)
    for arguments in (("add", str(tmp_path)), ("add", str(clashing)), ("remove", "second")):
        result = run(environment, *arguments)
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert result.output.count("\n") == 1
