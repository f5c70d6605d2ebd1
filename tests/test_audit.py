"""The audit of the dependencies: the pins, what the committed list knows, and that silence is no answer."""

from datetime import date
from pathlib import Path

import pytest

from deploy.audit import Advisories, NotRunError, findings, read_pins, requirements_files

OLD = """
# a comment
Pillow[extra]==11.2.1 ; sys_platform == 'linux' \\
    --hash=sha256:00
starlette==0.46.0
uvloop==0.22.1
"""


@pytest.fixture
def pins(tmp_path: Path) -> frozenset[tuple[str, str]]:
    (tmp_path / "old.txt").write_text(OLD)
    return read_pins([tmp_path / "old.txt"])


def test_the_pins_are_read_with_their_canonical_names(pins: frozenset[tuple[str, str]]) -> None:
    assert pins == {("pillow", "11.2.1"), ("starlette", "0.46.0"), ("uvloop", "0.22.1")}


def test_the_committed_list_finds_versions_that_are_affected(pins: frozenset[tuple[str, str]]) -> None:
    found = Advisories.load().found_in(pins)
    assert [line.partition(" (")[0] for line in found] == [
        "pillow 11.2.1: CVE-2025-48379",
        "pillow 11.2.1: CVE-2026-25990",
        "starlette 0.46.0: CVE-2025-54121",
        "starlette 0.46.0: CVE-2025-62727",
    ]


def test_nothing_that_is_pinned_is_on_the_committed_list() -> None:
    advisories = Advisories.load()
    pins = read_pins(requirements_files())
    assert advisories.found_in(pins) == []
    assert {advisory.package for advisory in advisories.entries} <= {name for name, _ in pins}
    assert advisories.as_of >= date(2026, 2, 28)
    assert len(pins) > 150


def test_a_report_is_believed_only_with_an_answer_for_every_pin(pins: frozenset[tuple[str, str]]) -> None:
    vulnerability = {"id": "PYSEC-1", "fix_versions": ["0.47.2"], "aliases": [], "description": ""}
    answers = [
        {"name": "pillow", "version": "11.2.1", "vulns": []},
        {"name": "starlette", "version": "0.46.0", "vulns": [vulnerability]},
        {"name": "uvloop", "version": "0.22.1", "vulns": []},
    ]
    assert findings({"dependencies": answers}, pins) == ["starlette 0.46.0: PYSEC-1 (fixed: 0.47.2)"]
    skipped = {"name": "uvloop", "skip_reason": "Dependency not found and could not be audited"}
    for partial in ([*answers[:2], skipped], answers[:2], []):
        with pytest.raises(NotRunError, match="uvloop" if partial else "3 of 3"):
            findings({"dependencies": partial}, pins)
