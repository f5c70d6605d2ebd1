"""What a person does on the page, in the words of the tests."""

from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Locator, Page, expect


def open_head(page: Page, name: str) -> None:
    page.goto(f"/#/{name}")
    expect(page.locator("#head-title")).to_have_text(name)


def column_of(page: Page, index: int) -> Locator:
    return page.locator("#columns .column").nth(index)


def fill_class(column: Locator, label: str, files: Sequence[Path]) -> None:
    column.locator(".label").fill(label)
    column.locator("input[type=file]").set_input_files(files)
    expect(column.locator(".tile")).to_have_count(len(files))


def press_teach(page: Page) -> None:
    page.get_by_role("button", name="Teach", exact=True).click()


def try_files(page: Page, *files: Path) -> None:
    page.locator("#try-files").set_input_files(files)
