"""The processes of a server share the connections of a client that opens several at once."""

import asyncio
import errno
import os
import socket
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.processes import tree
from benchmarks.server import running
from service.http import accepting
from service.http.accepting import Acceptor

TOGETHER, ROUNDS = 8, 12
ESTABLISHED = "01"  # proc(5)


def connections_of(pid: int, port: int) -> Counter[int]:
    """How many open connections of a port each process of a tree has."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    open_ = {
        line[9] for line in lines if line[3] == ESTABLISHED and int(line[1].rpartition(":")[2], 16) == port
    }
    found: Counter[int] = Counter()
    for each in tree(pid):
        for descriptor in Path(f"/proc/{each}/fd").iterdir():
            with suppress(OSError):  # one that is closed by now
                kind, _, inode = os.readlink(descriptor).partition(":")
                found[each] += kind == "socket" and inode.strip("[]") in open_
    return +found


@pytest.mark.timing
def test_connections_that_come_at_once_are_shared(lite0_folder: Path, tmp_path: Path) -> None:
    with running(tmp_path, extractor=lite0_folder, settings={"HEADSTART_WORKERS": "2"}) as server:
        port = urlsplit(server.url).port
        assert port
        shares = []
        for _ in range(ROUNDS):
            opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(TOGETHER)]
            for connection in opened:
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            for connection in opened:
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            shares.append(max(connections_of(server.process.pid, port).values()) / TOGETHER)
            for connection in opened:
                connection.close()
            time.sleep(0.2)
    print(f"\nshare of the fuller of two processes in {TOGETHER} connections: {sorted(shares)}")
    assert sum(shares) / ROUNDS < 0.85


class Failing(socket.socket):
    """A socket on which an accept fails once, as where no file descriptor is left."""

    failures = 1

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


async def greeted(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await reader.read()
    finally:
        writer.close()


def test_an_accept_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "PAUSE_S", 0.05)

    async def go() -> None:
        with Failing() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            acceptor = Acceptor(listener, Greeting, None, [])
            async with asyncio.timeout(30):
                assert await greeted(listener.getsockname()[1]) == b"hello"
            assert not listener.failures
            acceptor.close()

    asyncio.run(go())


@pytest.mark.parametrize("connections", [[], ["one that is open"]])
def test_a_closed_acceptor_takes_nobody(connections: list[str]) -> None:
    async def go() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            acceptor = Acceptor(listener, Greeting, None, connections)
            port = listener.getsockname()[1]
            async with asyncio.timeout(30):
                assert await asyncio.gather(*(greeted(port) for _ in range(20))) == [b"hello"] * 20
            acceptor.close()
            await acceptor.wait_closed()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(greeted(port), 0.3)

    asyncio.run(go())


def test_a_connection_that_was_being_opened_at_the_end_is_told_of_it() -> None:
    class Told(Greeting):
        count = 0

        def shutdown(self) -> None:
            Told.count += 1

    async def go() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            acceptor = Acceptor(listener, Told, None, [])
            with socket.create_connection(listener.getsockname()):
                while not acceptor._opening:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                acceptor.close()
                await acceptor.wait_closed()

    asyncio.run(asyncio.wait_for(go(), 30))
    assert Told.count == 1
