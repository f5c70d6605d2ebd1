"""Teaching a head in the browser, and what happens when it goes wrong."""

from pathlib import Path

import httpx
from playwright.sync_api import Page, expect

from tests.browser.conftest import Pictures
from tests.browser.steps import column_of, fill_class, open_head, press_teach, try_files

MARKUP = '<img src=x onerror="alert(1)">'


def test_a_newcomer_teaches_and_tries_a_head(page: Page, server: str, pictures: Pictures) -> None:
    page.goto("/")
    page.get_by_label("Name of the head").fill("newcomer")
    fill_class(column_of(page, 0), "cat", pictures.cats)
    fill_class(column_of(page, 1), "dog", pictures.dogs)
    expect(column_of(page, 0).locator(".count")).to_have_text("8 images")
    press_teach(page)

    expect(page.locator("#outcome")).to_contain_text("Version 1 learned from 16 new examples")
    expect(page.locator("#head-title")).to_have_text("newcomer")
    expect(page.locator("#head-title")).to_be_focused()
    report = httpx.get(f"{server}/v1/heads/newcomer").json()["report"]
    expect(page.locator("#accuracy")).to_have_text(f"{report['accuracy']:.0%}")
    expect(page.locator("#interval")).to_contain_text(
        f"from {report['accuracy_low']:.0%} to {report['accuracy_high']:.0%}"
    )
    expect(page.locator("#per-class th")).to_have_text(["cat", "dog"])
    expect(page.locator("#per-class .examples")).to_have_text(["8", "8"])
    expect(page.locator("#heads a[aria-current=page]")).to_contain_text("newcomer")

    try_files(page, pictures.new_cat, pictures.new_dog)
    expect(page.locator(".prediction .verdict")).to_have_text(["cat", "dog"])


def test_warnings_of_the_service_are_shown(page: Page, server: str, pictures: Pictures) -> None:
    page.goto("/")
    page.get_by_label("Name of the head").fill("few")
    fill_class(column_of(page, 0), "cat", [pictures.cats[0]])
    fill_class(column_of(page, 1), "dog", [pictures.dogs[0]])
    press_teach(page)
    expect(page.locator("#accuracy")).to_have_text("Not known")
    warnings = httpx.get(f"{server}/v1/heads/few").json()["warnings"]
    assert warnings, "one example of each class deserves a warning"
    expect(page.locator("#warnings li")).to_have_text([warning["message"] for warning in warnings])


def test_a_bad_file_is_named_and_marked_and_can_be_removed(
    page: Page, server: str, pictures: Pictures, tmp_path: Path
) -> None:
    bad = tmp_path / "notes.jpg"
    bad.write_text("not a picture")
    page.goto("/")
    page.get_by_label("Name of the head").fill("fragile")
    fill_class(column_of(page, 0), "cat", [*pictures.cats[:2], bad])
    fill_class(column_of(page, 1), "dog", pictures.dogs[:3])
    press_teach(page)

    error = page.locator("#teach-error")
    expect(error).to_contain_text("notes.jpg (cat)")
    expect(error).to_contain_text("not an image")
    marked = page.locator(".tile.bad")
    expect(marked).to_have_count(1)
    expect(marked.locator("img")).to_have_attribute("alt", "notes.jpg")
    assert httpx.get(f"{server}/v1/heads/fragile").status_code == 404

    page.get_by_role("button", name="Remove notes.jpg").click()
    press_teach(page)
    expect(page.locator("#outcome")).to_contain_text("learned from 5 new examples")


def test_one_image_under_two_labels_is_marked(page: Page, pictures: Pictures) -> None:
    page.goto("/")
    page.get_by_label("Name of the head").fill("torn")
    fill_class(column_of(page, 0), "cat", pictures.cats[:2])
    fill_class(column_of(page, 1), "dog", [*pictures.dogs[:2], pictures.cats[0]])
    press_teach(page)
    expect(page.locator("#teach-error")).to_contain_text(pictures.cats[0].name)
    expect(column_of(page, 1).locator(".tile.bad")).to_have_count(1)
    expect(column_of(page, 0).locator(".tile.bad")).to_have_count(0)


def test_one_class_is_refused_in_the_words_of_the_service(page: Page, pictures: Pictures) -> None:
    page.goto("/")
    page.get_by_label("Name of the head").fill("lonely")
    fill_class(column_of(page, 0), "cat", pictures.cats[:2])
    press_teach(page)
    files = [("cat", (path.name, path.read_bytes())) for path in pictures.cats[:2]]
    answer = httpx.put(f"{page.evaluate('location.origin')}/v1/heads/lonely", files=files)
    assert answer.status_code == 422
    expect(page.locator("#teach-error")).to_contain_text(answer.json()["error"]["message"])


def test_images_without_a_class_name_are_not_sent(page: Page, pictures: Pictures) -> None:
    page.goto("/")
    page.get_by_label("Name of the head").fill("nameless")
    fill_class(column_of(page, 0), "cat", pictures.cats[:2])
    column_of(page, 1).locator("input[type=file]").set_input_files(pictures.dogs[:2])
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    press_teach(page)
    label = column_of(page, 1).locator(".label")
    expect(label).to_be_focused()
    assert label.evaluate("input => input.validationMessage") == "Name the class of these images."
    assert "PUT" not in sent


def test_markup_in_names_stays_text(page: Page, server: str, pictures: Pictures, tmp_path: Path) -> None:
    file = tmp_path / "<img src=x onerror=alert(1)>.jpg"
    file.write_bytes(pictures.cats[0].read_bytes())
    page.goto("/")
    page.get_by_label("Name of the head").fill("markup")
    fill_class(column_of(page, 0), MARKUP, [file, *pictures.cats[1:4]])
    fill_class(column_of(page, 1), "50% \"dog\" & 'friends'; é", pictures.dogs[:4])
    press_teach(page)
    expect(page.locator("#outcome")).to_contain_text("8 new examples")
    labels = sorted([MARKUP, "50% \"dog\" & 'friends'; é"])
    taught = httpx.get(f"{server}/v1/heads/markup").json()["classes"]
    assert sorted(each["label"] for each in taught) == labels
    expect(page.locator("#per-class th")).to_have_text(labels)
    expect(page.locator("#versions .classes").first).to_contain_text(MARKUP)
    expect(page.locator("#heads a[aria-current=page]")).to_contain_text(MARKUP)

    try_files(page, file)
    expect(page.locator(".prediction .verdict")).to_have_text(MARKUP)
    expect(page.locator(".prediction .file")).to_have_text(file.name)
    assert page.locator('img[src="x"], [onerror]').count() == 0


def test_files_can_be_dropped_on_a_class(page: Page, pictures: Pictures) -> None:
    page.goto("/")
    transfer = page.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["1"], "one.jpg", { type: "image/jpeg" }));
            transfer.items.add(new File(["2"], "two.jpg", { type: "image/jpeg" }));
            return transfer;
        }"""
    )
    column_of(page, 1).dispatch_event("drop", {"dataTransfer": transfer})
    expect(column_of(page, 1).locator(".tile")).to_have_count(2)
    expect(column_of(page, 0).locator(".tile")).to_have_count(0)
    page.locator("h1").first.dispatch_event("drop", {"dataTransfer": transfer})
    expect(page.locator(".tile")).to_have_count(2)


def test_replacing_a_head_is_asked_for(page: Page, server: str, pets: str, pictures: Pictures) -> None:
    page.goto("/")
    page.get_by_label("Name of the head").fill(pets)
    fill_class(column_of(page, 0), "cat", pictures.cats[:2])
    fill_class(column_of(page, 1), "dog", pictures.dogs[:2])
    press_teach(page)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Replace its 16 examples")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Teach", exact=True)).to_be_focused()
    assert httpx.get(f"{server}/v1/heads/{pets}").json()["examples"] == 16

    press_teach(page)
    dialog.get_by_role("button", name="Replace").click()
    expect(page.locator("#outcome")).to_contain_text("Version 2 learned from 4 new examples")


def test_a_double_click_teaches_once(page: Page, server: str, pictures: Pictures) -> None:
    page.goto("/")
    page.get_by_label("Name of the head").fill("once")
    fill_class(column_of(page, 0), "cat", pictures.cats)
    fill_class(column_of(page, 1), "dog", pictures.dogs)
    page.get_by_role("button", name="Teach", exact=True).dblclick()
    expect(page.locator("#head-title")).to_have_text("once")
    assert len(httpx.get(f"{server}/v1/heads/once/versions").json()["versions"]) == 1


def test_chosen_images_survive_a_look_at_another_head(page: Page, pets: str, pictures: Pictures) -> None:
    page.goto("/")
    fill_class(column_of(page, 0), "cat", pictures.cats[:3])
    page.locator("#heads").get_by_role("link", name=pets).click()
    expect(page.locator("#head-title")).to_have_text(pets)
    page.get_by_role("link", name="New head").click()
    expect(page.locator("#new-title")).to_be_visible()
    expect(column_of(page, 0).locator(".tile")).to_have_count(3)
    expect(column_of(page, 0).locator(".label")).to_have_value("cat")


def test_an_unreachable_server_is_said_to_be(page: Page, pets: str, pictures: Pictures) -> None:
    open_head(page, pets)
    page.context.set_offline(True)
    try_files(page, pictures.new_cat)
    expect(page.locator("#try-error")).to_contain_text("The server cannot be reached.")
