"""A server with keys, in the browser: the page asks for one, keeps it in its tab, and forgets it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from benchmarks.main_job import multipart
from benchmarks.server import Server, running
from tests.access.commands import make_key
from tests.browser.conftest import EXPECT_TIMEOUT_MS, Pictures


@pytest.fixture(scope="module")
def guarded(lite0_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server with a key of the scope `train`, and the key."""
    home = tmp_path_factory.mktemp("home")
    key = make_key(home, "--scope", "train")
    with running(home, extractor=lite0_folder, settings={"HEADSTART_WORKERS": "1"}) as server:
        yield server, key


@pytest.fixture
def guarded_context(browser: Browser, guarded: tuple[Server, str]) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=guarded[0].url)
    context.set_default_timeout(EXPECT_TIMEOUT_MS)
    yield context
    context.close()


def test_the_page_asks_for_a_key_once_and_works_with_it(
    guarded: tuple[Server, str], guarded_context: BrowserContext, pictures: Pictures, tmp_path: Path
) -> None:
    server, key = guarded
    with server.client() as client:
        support = [("cat", path) for path in pictures.cats] + [("dog", path) for path in pictures.dogs]
        headers = {"Authorization": f"Bearer {key}"}
        assert client.put("/v1/heads/pets", files=multipart(support), headers=headers).status_code == 201
    page = guarded_context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto("/#/pets")
    dialog = page.locator("#key-dialog")
    expect(dialog).to_be_visible()
    page.get_by_role("textbox", name="API key").fill("hs_wrong")
    page.get_by_role("button", name="Use").click()
    expect(page.locator("#key-message")).to_contain_text("not a key of this service")
    page.get_by_role("textbox", name="API key").fill(key)
    page.get_by_role("button", name="Use").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#head-title")).to_have_text("pets")
    page.locator("#try-files").set_input_files([pictures.new_cat])
    expect(page.locator(".prediction .verdict")).to_have_text("cat")
    expect(page.locator("#command")).to_contain_text("$HEADSTART_KEY")
    assert key not in page.content()
    with page.expect_download() as download:
        page.get_by_role("link", name="head file").click()
    assert download.value.suggested_filename == "pets-v1.safetensors"
    assert Path(download.value.path()).stat().st_size > 1000
    page.reload()
    expect(page.locator("#head-title")).to_have_text("pets")
    assert page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
    page.get_by_role("button", name="Forget key").click()
    expect(dialog).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#failure")).to_contain_text("this needs a key")
    assert errors == []
