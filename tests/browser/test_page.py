"""The page as a whole: readable in any light and width, usable without a mouse, linked to the rest."""

import re
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Pictures
from tests.browser.steps import open_head, press_teach, try_files

# WCAG 2.2, success criterion 1.4.3 (AA).
LEAST_CONTRAST = 4.5
LOW_CONTRAST = """(least) => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = (color) => {
        const [r, g, b] = rgba(color)
            .map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return rgba(color)[3] === 255 ? color : behind(element.parentElement);
    };
    const contrast = (element) => {
        const pair = [getComputedStyle(element).color, behind(element)].map(luminance);
        const [low, high] = pair.sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const hasText = (element) => [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    const shown = [...document.querySelectorAll("body *")].filter((e) => hasText(e) && e.checkVisibility());
    const texts = shown.filter((e) => !e.closest(".tile, .unseen, template, script"));
    const low = texts.filter((e) => contrast(e) < least);
    return { checked: texts.length, low: low.map((e) => `${e.textContent.trim()}: ${contrast(e)}`) };
}"""
WITHOUT_NAME = """() => [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0']")]
    .filter((element) => element.checkVisibility())
    .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.[0]?.textContent.trim()))
    .map((e) => e.outerHTML)"""


def fill_page(page: Page, pets: str, pictures: Pictures) -> None:
    """Every kind of element at once: report, predictions of both kinds, an error, the form."""
    open_head(page, pets)
    page.locator("#add summary").click()
    press_teach(page)
    expect(page.locator("#teach-error")).to_be_visible()
    try_files(page, pictures.new_cat, pictures.blood_cell)
    expect(page.locator(".prediction.unknown")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(
    page: Page, pets: str, pictures: Pictures, scheme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    fill_page(page, pets, pictures)
    found = page.evaluate(LOW_CONTRAST, LEAST_CONTRAST)
    assert found["checked"] > 50
    assert found["low"] == []


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_nothing_is_wider_than_the_window(page: Page, pets: str, pictures: Pictures, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    fill_page(page, pets, pictures)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("link", name="New head").click()
    expect(page.locator("#new-title")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [320, 390])
def test_tables_fit_on_a_telephone(page: Page, pets: str, width: int) -> None:
    """Rolling back is in the last column of the versions: it must not have to be looked for."""
    page.set_viewport_size({"width": width, "height": 800})
    open_head(page, pets)
    for table in page.locator(".scroll").all():
        assert table.evaluate("each => each.scrollWidth - each.clientWidth") <= 0


def test_every_control_has_a_name(page: Page, pets: str, pictures: Pictures) -> None:
    fill_page(page, pets, pictures)
    page.locator("#add input[type=file]").first.set_input_files(pictures.new_cat)
    assert page.evaluate(WITHOUT_NAME) == []
    page.get_by_role("link", name="New head").click()
    expect(page.locator("#new-title")).to_be_visible()
    assert page.evaluate(WITHOUT_NAME) == []


def test_a_head_is_taught_without_a_mouse(page: Page, pictures: Pictures) -> None:
    # Taken from now on: asked for just before a key is pressed, a busy browser may open a chooser first.
    page.on("filechooser", lambda _: None)
    page.goto("/")
    columns = page.locator("#columns .column")
    expect(columns).to_have_count(2)
    page.locator("#name").focus()
    page.keyboard.type("keyboard")
    for index, (label, files) in enumerate((("cat", pictures.cats), ("dog", pictures.dogs))):
        page.keyboard.press("Tab")
        page.keyboard.type(label)
        page.keyboard.press("Tab")  # The button that removes the class.
        page.keyboard.press("Tab")
        expect(columns.nth(index).locator("input[type=file]")).to_be_focused()
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Space")
        chooser.value.set_files(files)
        expect(columns.nth(index).locator(".tile")).to_have_count(len(files))
        for _ in files:
            page.keyboard.press("Tab")  # Each image has a button that removes it.
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Teach", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#head-title")).to_have_text("keyboard")
    expect(page.locator("#head-title")).to_be_focused()


def test_the_links_lead_somewhere(page: Page) -> None:
    page.goto("/")
    links = page.get_by_role("navigation", name="Service").get_by_role("link")
    addresses = [link.get_attribute("href") for link in links.all()]
    assert addresses == ["/docs", "/openapi.json", "/metrics"]
    for address in addresses:
        assert page.request.get(str(address)).ok


def test_the_documentation_is_readable(page: Page) -> None:
    page.goto("/docs")
    expect(page.locator(".opblock-summary-path").get_by_text("/v1/heads/{name}/predict")).to_be_visible()


def test_no_page_carries_inline_script_or_style(page: Page) -> None:
    for address in ("/", "/docs"):
        html = page.request.get(address).text()
        assert re.search(r"<style|<script(?![^>]* src=)", html) is None
        assert re.search(r"<[^>]*\s(style|on\w+)=", html) is None
