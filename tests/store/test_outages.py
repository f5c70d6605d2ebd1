"""A full disk and a lost database: a clear 503 while it lasts, and recovery by itself."""

import os
import random
import resource
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.server import Server, running
from tests.service.api.conftest import photographs
from tests.service.images import png
from tests.service.store.postgres import running_postgres

DISK_BYTES = 24 * 1024 * 1024
RESTARTS = 3
CLIENTS = 4
DOWN_S = 1.0
RECOVERY_S = 15.0


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own with little room."""
    folder = Path(tempfile.mkdtemp(prefix="headstart-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("no file system can be mounted here: that needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def noise(number: int) -> bytes:
    """An image of some 190 KiB that does not compress."""
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.frombytes("RGB", (256, 256), random.Random(number).randbytes(256 * 256 * 3)).save(buffer, "PNG")
    return buffer.getvalue()


def require_refusal(status: int, answer: dict) -> None:
    assert (status, answer["error"]["code"]) == (503, "store_unavailable"), answer


def test_a_full_disk_is_a_503_and_goes_on_once_there_is_room(small_disk: Path, tiny_folder: Path) -> None:
    ballast = small_disk / "ballast"
    with (
        running(small_disk / "home", extractor=tiny_folder, settings={"HEADSTART_WORKERS": "2"}) as server,
        server.client() as client,
    ):
        assert client.put("/v1/heads/pets", files=photographs(0, 4)).status_code == 201
        free = os.statvfs(small_disk)
        ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - 512 * 1024))
        acknowledged, refused = 1, 0
        for number in range(60):
            files = [("cat", ("a.png", noise(number))), ("dog", ("b.png", noise(1000 + number)))]
            response = client.post("/v1/heads/pets/examples", files=files)
            if response.status_code == 201:
                acknowledged += 1
                continue
            require_refusal(response.status_code, response.json())
            assert str(small_disk) not in response.text
            refused += 1
        assert refused
        # What was there still predicts.
        assert client.post("/v1/heads/pets/predict", content=png(1)).status_code == 200
        head = client.get("/v1/heads/pets").json()
        assert (head["last_version"], head["published_version"]) == (acknowledged, acknowledged)
        ballast.unlink()
        assert client.post("/v1/heads/pets/train").status_code == 201
        assert client.get("/readyz").status_code == 200
        kept = client.get("/v1/heads/pets").json()["examples"]
    blobs = sum(1 for path in (small_disk / "home" / "blobs" / "inputs").rglob("*") if path.is_file())
    print(f"\nfull disk: {acknowledged} changes acknowledged, {refused} refused, then it goes on")
    assert kept == blobs == 8 + 2 * (acknowledged - 1)


def test_files_that_may_not_grow_are_a_503(tmp_path: Path, tiny_folder: Path) -> None:
    two = [("a", noise(1)), ("b", noise(2))]
    settings = {"HEADSTART_WORKERS": "1"}
    with running(tmp_path, extractor=tiny_folder, settings=settings) as server, server.client() as client:
        assert client.put("/v1/heads/pets", files=photographs(0, 4)).status_code == 201
        limits = _limit_files(server, 4096)
        response = client.put("/v1/heads/other", files=two)
        require_refusal(response.status_code, response.json())
        assert client.post("/v1/heads/pets/predict", content=png(1)).status_code == 200
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
        made = client.put("/v1/heads/other", files=two)
        assert made.status_code == 201, made.text


def _limit_files(server: Server, size: int) -> dict[int, tuple[int, int]]:
    """Let no file of the server grow beyond a size; the limits that there were."""
    from benchmarks.processes import tree

    found = {}
    for pid in tree(server.process.pid):
        found[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, found[pid][1]))
    return found


def test_a_lost_postgresql_is_a_503_and_the_server_finds_it_again(tmp_path: Path, tiny_folder: Path) -> None:
    seen: Counter[int] = Counter()
    stop = threading.Event()
    newest = [1]

    def train(server: Server) -> None:
        """Train for ever; what was acknowledged must be there, what was refused may be."""
        with server.client() as client:
            while not stop.is_set():
                response = client.post("/v1/heads/pets/train")
                seen[response.status_code] += 1
                if response.status_code == 201:
                    newest[0] = max(newest[0], response.json()["version"])
                elif response.status_code != 409:
                    require_refusal(response.status_code, response.json())
                    assert "127.0.0.1" not in response.text

    with running_postgres(durable=True) as postgres:
        settings = {"HEADSTART_DATABASE_URL": postgres.create_database(), "HEADSTART_WORKERS": "2"}
        with running(tmp_path, extractor=tiny_folder, settings=settings) as server:
            with server.client() as client:
                assert client.put("/v1/heads/pets", files=photographs(0, 4)).status_code == 201
            with ThreadPoolExecutor(CLIENTS) as pool:
                clients = [pool.submit(train, server) for _ in range(CLIENTS)]
                try:
                    longest_s = max(_restart(postgres, server, number) for number in range(RESTARTS))
                finally:
                    stop.set()
                for client_job in clients:
                    client_job.result()
            with server.client() as client:
                rows = client.get("/v1/heads/pets/versions", params={"limit": 1000}).json()["versions"]
    numbers = [row["version"] for row in rows]
    print(
        f"\nPostgreSQL restarted {RESTARTS} times under load: answers {dict(seen)}, ready again after at most"
        f" {longest_s:.1f} s"
    )
    assert seen[201]
    assert seen[503]
    assert set(seen) <= {201, 409, 503}
    assert numbers[0] >= newest[0]
    assert numbers == list(range(numbers[0], 0, -1))


def _restart(postgres, server: Server, number: int) -> float:  # type: ignore[no-untyped-def]
    """Stop the database or kill it, start it, and wait for the server; how long that took, in seconds."""
    time.sleep(DOWN_S)
    (postgres.kill if number % 2 else postgres.stop)()
    with server.client() as client:
        down = client.get("/readyz")
        require_refusal(down.status_code, down.json())
        assert client.get("/livez").status_code == 200
        time.sleep(DOWN_S)
        postgres.start()
        start_s = time.monotonic()
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < start_s + RECOVERY_S
        return time.monotonic() - start_s
