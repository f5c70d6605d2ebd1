"""Trying and looking after heads in the browser."""

import json
import subprocess
from pathlib import Path

import httpx
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Pictures
from tests.browser.steps import column_of, fill_class, open_head, press_teach, try_files


def test_predictions_are_those_of_the_service(page: Page, server: str, pets: str, pictures: Pictures) -> None:
    open_head(page, pets)
    paths = [pictures.new_cat, pictures.new_dog, pictures.blood_cell]
    try_files(page, *paths)
    cards = page.locator(".prediction")
    expect(cards).to_have_count(3)
    files = [("image", (path.name, path.read_bytes())) for path in paths]
    predictions = httpx.post(f"{server}/v1/heads/{pets}/predict", files=files).json()["predictions"]
    for index, prediction in enumerate(predictions):
        card = cards.nth(index)
        verdict = "Unknown" if prediction["unknown"] else prediction["label"]
        expect(card.locator(".verdict")).to_have_text(verdict)
        expect(card.locator(".typicality")).to_have_text(f"Typicality {prediction['typicality']:.2f}")
        labels = [each["label"] for each in prediction["probabilities"]]
        expect(card.locator(".bar-label")).to_have_text(labels)
        width = card.locator(".fill").first.get_attribute("width") or ""
        assert abs(float(width.rstrip("%")) / 100 - prediction["probability"]) < 1e-3


def test_a_multi_label_head_shows_all_labels_and_negatives_are_no_class(
    page: Page, server: str, pictures: Pictures
) -> None:
    fields = [("cat", path) for path in pictures.cats] + [("dog", path) for path in pictures.dogs]
    fields += [("photo", path) for path in (*pictures.cats, *pictures.dogs)]
    fields += [("__none__", pictures.blood_cell)]
    files = [(label, (path.name, path.read_bytes())) for label, path in fields]
    url = f"{server}/v1/heads/tagged"
    httpx.put(url, files=files, params={"task": "multi_label"}).raise_for_status()
    image = [("image", (pictures.new_cat.name, pictures.new_cat.read_bytes()))]
    (item,) = httpx.post(f"{url}/predict", files=image).json()["predictions"]

    open_head(page, "tagged")
    expect(page.locator("#head-facts")).to_contain_text("3 classes, 33 examples")
    try_files(page, pictures.new_cat)
    verdict = " and ".join(item["labels"]) or "No class"
    expect(page.locator(".prediction .verdict")).to_have_text("Unknown" if item["unknown"] else verdict)
    expect(page.locator(".prediction .bar-label")).to_have_text(
        [row["label"] for row in item["probabilities"]]
    )
    expect(page.locator("#columns")).not_to_contain_text("__none__")


def test_an_unknown_image_is_marked(page: Page, pets: str, pictures: Pictures) -> None:
    open_head(page, pets)
    try_files(page, pictures.blood_cell)
    card = page.locator(".prediction")
    expect(card.locator(".verdict")).to_have_text("Unknown")
    expect(card.locator(".note")).to_contain_text("Unlike every class of this head")


def test_good_images_are_predicted_beside_bad_ones(
    page: Page, pets: str, pictures: Pictures, tmp_path: Path
) -> None:
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    open_head(page, pets)
    try_files(page, bad, pictures.new_dog)
    expect(page.locator(".prediction .verdict")).to_have_text("dog")
    expect(page.locator(".prediction img")).to_have_attribute("alt", pictures.new_dog.name)
    expect(page.locator("#try-error")).to_contain_text("broken.png")
    try_files(page, pictures.new_cat)
    expect(page.locator(".prediction .verdict")).to_have_text("cat")
    expect(page.locator("#try-error")).to_be_hidden()


def test_the_command_predicts_the_same(page: Page, pets: str, pictures: Pictures, tmp_path: Path) -> None:
    odd = tmp_path / 'it\'s "a; cat", $(really).jpg'
    odd.write_bytes(pictures.new_cat.read_bytes())
    plain = tmp_path / "dog.jpg"
    plain.write_bytes(pictures.new_dog.read_bytes())
    open_head(page, pets)
    try_files(page, odd, plain)
    expect(page.locator(".prediction")).to_have_count(2)
    command = page.locator("#command").inner_text()
    run = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True
    )
    predictions = json.loads(run.stdout)["predictions"]
    assert [each["label"] for each in predictions] == ["cat", "dog"]
    assert [each["id"] for each in predictions] == [odd.name, plain.name]


def test_the_command_is_copied(page: Page, context: BrowserContext, pets: str) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_head(page, pets)
    expect(page.locator("#command")).to_contain_text("photo.jpg")
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#command").inner_text()


def test_adding_a_class_and_rolling_back(page: Page, server: str, pets: str, pictures: Pictures) -> None:
    open_head(page, pets)
    try_files(page, pictures.blood_cell)
    expect(page.locator(".prediction .verdict")).to_have_text("Unknown")
    page.locator("#add summary").click()
    expect(column_of(page, 0).locator(".count")).to_have_text("0 images, 8 taught before")
    expect(column_of(page, 0).locator(".label")).not_to_be_editable()
    page.get_by_role("button", name="Add a class").click()
    expect(column_of(page, 2).locator(".label")).to_be_focused()
    others = sorted(pictures.blood_cell.parent.glob("*.png"))[1:6]
    fill_class(column_of(page, 2), "cell", others)
    press_teach(page)

    expect(page.locator("#outcome")).to_contain_text("Version 2 learned from 5 new examples")
    expect(page.locator("#per-class th")).to_have_text(["cat", "cell", "dog"])
    expect(page.locator(".prediction .verdict")).to_have_text("cell")  # What was tried is predicted again.
    expect(page.locator("#versions th")).to_have_text(["2", "1"])

    page.get_by_role("button", name="Publish version 1").click()
    expect(page.locator("#head-facts")).to_contain_text("Version 1 is published")
    expect(page.locator(".prediction .verdict")).to_have_text("Unknown")
    assert httpx.get(f"{server}/v1/heads/{pets}").json()["published_version"] == 1
    page.get_by_role("button", name="Publish version 2").click()
    expect(page.locator("#head-facts")).to_contain_text("Version 2 is published")


def test_deleting_is_asked_for(page: Page, server: str, pets: str) -> None:
    open_head(page, pets)
    page.get_by_role("button", name="Delete this head").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Delete {pets}, its 16 examples")
    dialog.get_by_role("button", name="Cancel").click()
    assert httpx.get(f"{server}/v1/heads/{pets}").status_code == 200

    page.get_by_role("button", name="Delete this head").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.locator("#new-title")).to_be_focused()
    expect(page.locator("#heads b").get_by_text(pets, exact=True)).to_have_count(0)
    assert httpx.get(f"{server}/v1/heads/{pets}").status_code == 404


def test_a_head_has_an_address(page: Page, pets: str) -> None:
    page.goto("/")
    page.locator("#heads").get_by_role("link", name=pets).click()
    expect(page.locator("#head-title")).to_have_text(pets)
    page.reload()
    expect(page.locator("#head-title")).to_have_text(pets)
    page.go_back()
    expect(page.locator("#new-title")).to_be_visible()


def test_an_address_of_no_head_says_so(page: Page, server: str) -> None:
    page.goto("/#/nobody")
    message = httpx.get(f"{server}/v1/heads/nobody").json()["error"]["message"]
    expect(page.locator("#failure")).to_contain_text(message)
    page.get_by_role("link", name="New head").click()
    expect(page.locator("#new-title")).to_be_visible()
    expect(page.locator("#failure")).to_be_hidden()


def test_the_published_version_is_exported(page: Page, server: str, pets: str) -> None:
    open_head(page, pets)
    for text, form in (("head file", "head"), ("ONNX", "onnx"), ("ONNX with its extractor", "fused")):
        with page.expect_download() as download:
            page.get_by_role("link", name=text, exact=True).click()
        expected = httpx.get(f"{server}/v1/heads/{pets}/export", params={"format": form})
        assert download.value.path().read_bytes() == expected.content
        assert download.value.suggested_filename in expected.headers["Content-Disposition"]
