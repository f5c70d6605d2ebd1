"""Two worker processes on one database: a key that is revoked, and a rate limit, hold in both at once."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from benchmarks.server import ROOT, Server, free_port, running
from tests.access.commands import headstart, make_key
from tests.access.conftest import bearer

CONNECTIONS = 16


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    make_key(home, "--scope", "admin")
    with running(home, extractor=tiny_folder, settings={"HEADSTART_WORKERS": "2"}) as server:
        yield server


@pytest.fixture
def connections(server: Server) -> Iterator[list[httpx.Client]]:
    """Connections that stay open, spread by the system over both processes."""
    with ExitStack() as stack:
        yield [stack.enter_context(server.client()) for _ in range(CONNECTIONS)]


def processes_that_answered(server: Server) -> int:
    return len({path.name for path in (server.home / "run").glob("metrics-*/counter_*.db")})


@pytest.mark.long
def test_a_revoked_key_is_refused_at_once_by_every_process(
    server: Server, connections: list[httpx.Client]
) -> None:
    key = make_key(server.home, "--scope", "predict")
    for client in connections:
        assert client.get("/v1/heads", headers=bearer(key)).status_code == 200
    assert processes_that_answered(server) == 2
    assert headstart(server.home, "keys", "revoke", key.split("_")[1]).returncode == 0
    refused = [client.get("/v1/heads", headers=bearer(key)) for client in connections]
    assert [answer.status_code for answer in refused] == [401] * CONNECTIONS
    assert {answer.json()["error"]["code"] for answer in refused} == {"key_revoked"}
    assert key.split("_", 2)[2] not in server.log.read_text()


@pytest.mark.long
def test_a_new_key_is_known_at_once_to_every_process(server: Server, connections: list[httpx.Client]) -> None:
    key = make_key(server.home, "--scope", "predict")
    assert {client.get("/v1/heads", headers=bearer(key)).status_code for client in connections} == {200}


@pytest.mark.long
def test_a_rate_limit_is_one_for_all_processes_together(
    server: Server, connections: list[httpx.Client]
) -> None:
    burst = 60
    key = make_key(server.home, "--scope", "predict", "--rate", f"{burst}/m")
    statuses: Counter[int] = Counter()
    lock = threading.Lock()

    def ask(client: httpx.Client) -> None:
        for _ in range(10):
            answer = client.get("/v1/heads", headers=bearer(key))
            with lock:
                statuses[answer.status_code] += 1

    start = time.monotonic()
    threads = [threading.Thread(target=ask, args=(client,)) for client in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed_s = time.monotonic() - start
    assert set(statuses) == {200, 429}
    assert burst <= statuses[200] <= burst + passed_s + 1
    assert statuses[200] + statuses[429] == 10 * CONNECTIONS
    print(
        f"\n{statuses[200]} of {10 * CONNECTIONS} requests in {passed_s:.1f} s, with {burst} at once and 1/s"
    )


@pytest.mark.long
def test_hostile_headers_reach_no_key_and_hurt_no_connection(server: Server) -> None:
    host, port = "127.0.0.1", int(server.url.rpartition(":")[2])
    for value in (b"Bearer \xff\xfe", b"Bearer " + b"a" * 60_000, b"\x01\x02", b"Bearer hs_\x00"):
        with socket.create_connection((host, port), timeout=10) as raw:
            raw.sendall(b"GET /v1/heads HTTP/1.1\r\nHost: x\r\nAuthorization: " + value + b"\r\n\r\n")
            status = int(raw.recv(4096).split(b" ", 2)[1])
        assert status in (400, 401, 431), value[:20]
    with server.client() as client:
        assert client.get("/readyz").status_code == 200


@pytest.mark.long
def test_a_server_without_keys_does_not_listen_where_others_reach_it(
    tiny_folder: Path, tmp_path: Path
) -> None:
    port = str(free_port())
    settings = {"HEADSTART_EXTRACTORS": str(tiny_folder), "HEADSTART_HOST": "0.0.0.0", "HEADSTART_PORT": port}
    done = headstart(tmp_path, "serve", settings=settings)
    assert done.returncode not in (0, None)
    assert "headstart keys create" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    # BentoML's own command, with its default address and with another one.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
    environ |= {"HEADSTART_HOME": str(tmp_path), "HEADSTART_EXTRACTORS": str(tiny_folder)}
    for address in ([], ["--host", "::"]):
        command = [
            sys.executable,
            "-m",
            "bentoml",
            "serve",
            "service.app:Headstart",
            "--port",
            port,
            *address,
        ]
        refused = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        assert refused.returncode not in (0, None), address
        assert "headstart keys create" in refused.stdout + refused.stderr
    for allowed in ({"HEADSTART_ALLOW_ANONYMOUS": "true"}, {}):
        if not allowed:
            make_key(tmp_path, "--scope", "train")
        with (
            running(
                tmp_path, extractor=tiny_folder, settings={"HEADSTART_HOST": "0.0.0.0", **allowed}
            ) as server,
            server.client() as client,
        ):
            assert client.get("/v1/heads").status_code == (200 if allowed else 401)
