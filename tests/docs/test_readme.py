"""The README leads to every page of the guide, and links lead somewhere."""

import re

from tests.docs.pages import README, ROOT


def test_the_readme_links_every_page_of_the_guide() -> None:
    text = README.read_text()
    for page in (ROOT / "docs" / "guide").glob("*.md"):
        assert f"(docs/guide/{page.name})" in text, page.name


def test_links_lead_somewhere() -> None:
    for page in [README, *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page, target)
