"""The shell commands of README and guide, as they stand in the pages' fenced blocks, and their marks.

Knows how a page is read; runs nothing. `test_guide_commands.py` tells how a command is marked.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs" / "guide").glob("*.md")))
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUN_BY = re.compile(r"<!-- run by (\S+) -->\n$")
NEEDS = re.compile(r"# needs (.+)")


@dataclass(frozen=True)
class Command:
    """A command with its continuation lines, and its marks: what it needs, which test runs it."""

    line: int
    text: str
    needs: str | None
    run_by: str | None


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines and the number of the first one."""

    page: Path
    line: int
    language: str
    text: str
    run_by: str | None

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"

    def commands(self) -> Iterator[Command]:
        """The commands; comments and blank lines are none, a here-document belongs to its command."""
        needs: str | None = None
        lines = enumerate(self.text.splitlines(), self.line)
        for number, line in lines:
            if not line.strip():
                needs = None
            elif line.lstrip().startswith("#"):
                mark = NEEDS.fullmatch(line.strip())
                needs = mark[1] if mark else needs
            else:
                whole = [line]
                while whole[-1].endswith("\\"):
                    whole.append(next(lines)[1])
                if begin := re.search(r"<<-?\s*'?(\w+)'?", line):
                    while whole[-1].strip() != begin[1]:
                        whole.append(next(lines)[1])
                yield Command(number, "\n".join(whole), needs, self.run_by)


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, of every language."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        mark = RUN_BY.search(text[: found.start()])
        first = text.count("\n", 0, found.start(2)) + 1
        yield Block(page, first, found[1], found[2], mark[1] if mark else None)


def shell_blocks(page: Path) -> Iterator[Block]:
    return (block for block in blocks(page) if block.language == "bash")
