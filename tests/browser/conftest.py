"""A real server and a real Chromium for the tests of the page."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    expect,
    sync_playwright,
)

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30
EXPECT_TIMEOUT_MS = 30_000
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_ARGS = [
    "--no-sandbox",  # Chromium refuses to start as root with it; it opens nothing but the server under test.
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Pictures:
    """Real photographs: some to teach with, others to try. Those are clear ones: the page is tested here."""

    cats: tuple[Path, ...]
    dogs: tuple[Path, ...]
    new_cat: Path
    new_dog: Path
    blood_cell: Path

    def labelled(self) -> list[tuple[str, tuple[str, bytes]]]:
        """The parts of a multipart request: field name, then file name and bytes."""
        pairs = [("cat", path) for path in self.cats] + [("dog", path) for path in self.dogs]
        return [(label, (path.name, path.read_bytes())) for label, path in pairs]


@pytest.fixture(scope="session")
def pictures(data_root: Path) -> Pictures:
    cats = sorted((data_root / "cats_dogs" / "cat").glob("*.jpg"))
    dogs = sorted((data_root / "cats_dogs" / "dog").glob("*.jpg"))
    blood_cells = sorted((data_root / "blood_cells").rglob("*.png"))
    cat, dog = (data_root / "cats_dogs" / name for name in ("cat/cat.1090.jpg", "dog/dog.1089.jpg"))
    return Pictures(tuple(cats[:8]), tuple(dogs[:8]), cat, dog, blood_cells[0])


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, lite0_folder: Path) -> Iterator[str]:
    """Base URL of `headstart serve` on a free port, with a home of its own."""
    home = tmp_path_factory.mktemp("home")
    (home / "extractors").symlink_to(lite0_folder.parent, target_is_directory=True)
    port = _free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
    env |= {"HEADSTART_HOME": str(home), "HEADSTART_PORT": str(port), "HEADSTART_WORKERS": "1"}
    log_path = home / "server.log"
    with log_path.open("wb") as log:
        command = [sys.executable, "-m", "service.cli", "serve"]
        process = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process, log_path)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass  # Nobody listens yet.
        time.sleep(0.1)
    pytest.fail(f"the server did not become ready; its log ends:\n{log_path.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = (os.environ.get("CHROMIUM", ""), *CHROMIUM_NAMES)
    executable = next((path for path in map(shutil.which, names) if path), None)
    if executable is None:
        pytest.fail(
            "these tests drive Chromium, and there is none: `apt-get install -y chromium` (Debian, Ubuntu),"
            " or set CHROMIUM to the path of a Chromium or Chrome",
            pytrace=False,
        )
    expect.set_options(timeout=EXPECT_TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser, server: str) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=server, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(EXPECT_TIMEOUT_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, server: str) -> Iterator[Page]:
    """A page that fails its test on a script error, a policy violation or a request to elsewhere."""
    page = context.new_page()
    problems: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        # A refused request is part of some tests, and Chromium reports each as an error.
        if message.type == "error" and "Failed to load resource" not in message.text:
            problems.append(message.text)

    def on_dialog(dialog: Dialog) -> None:
        problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def on_request(request: Request) -> None:
        if not request.url.startswith((server, "blob:", "data:")):
            problems.append(f"request: {request.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", on_dialog)
    page.on("request", on_request)
    yield page
    assert problems == []


@pytest.fixture
def pets(server: str, pictures: Pictures) -> str:
    """Name of a head that knows cats and dogs, in version 1, made anew for each test."""
    name = "pets"
    httpx.delete(f"{server}/v1/heads/{name}")
    answer = httpx.put(f"{server}/v1/heads/{name}", files=pictures.labelled(), timeout=60)
    assert answer.status_code == 201, answer.text
    return name
