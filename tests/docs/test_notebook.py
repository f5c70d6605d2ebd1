"""The guide to notebooks runs as it stands there."""

import re
import shutil
from pathlib import Path

import pytest

from benchmarks.server import running

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "notebook.md").read_text()
ADDRESS = "http://localhost:3000"


@pytest.mark.long
def test_the_notebook_guide_runs(
    lite0_folder: Path,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for label in ("cat", "dog"):
        images = sorted((data_root / "cats_dogs" / label).glob("*.jpg"))
        (tmp_path / "pets" / label).mkdir(parents=True)
        (tmp_path / "new").mkdir(exist_ok=True)
        for path in images[:12]:
            shutil.copy(path, tmp_path / "pets" / label)
        shutil.copy(images[50], tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "*")
    code = "".join(re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL))
    assert ADDRESS in code
    with running(tmp_path / "home", extractor=lite0_folder) as server:
        names: dict[str, object] = {}
        exec(compile(code.replace(ADDRESS, server.url), "notebook.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.startswith("['cat' 'dog']")
    assert "['cat' 'dog'] ['cat' 'dog']" in printed
    assert printed.rstrip().endswith("True")
