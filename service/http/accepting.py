"""Takes connections so that the processes that listen on one socket share them.

The servers of asyncio and uvloop take all connections that wait at once: of eight that a client opened, one
process often took all, and the others had nothing to do. Here a process takes one, and while it has any it
leaves the next ones to the others for a moment. Knows uvicorn; knows no protocol.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Collection
from typing import Any

from uvicorn import Server

logger = logging.getLogger("headstart.accepting")

COURTESY_S = 0.002  # to others, by a process that has connections; as long as it takes to wake one
AT_ONCE = 4  # connections that nobody took meanwhile
PAUSE_S = 1.0  # after an accept that failed, such as for want of file descriptors


class Acceptor:
    """What uvicorn takes for a server of the event loop.

    Parameters
    ----------
    listener : a socket that listens; closed by whoever opened it.
    protocol : makes what a connection speaks.
    context : for TLS.
    connections : those of this process that are open.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None,
        connections: Collection[object],
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._context = context
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[Any]] = set()
        self._is_closed = False
        listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Take no more connections."""
        self._is_closed = True
        self._loop.remove_reader(self._listener)

    async def wait_closed(self) -> None:
        """Wait for connections that were taken and are not open yet."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._come)

    def _come(self) -> None:
        """Somebody waits."""
        if self._connections or self._opening:
            self._loop.remove_reader(self._listener)
            self._loop.call_later(COURTESY_S, self._take_what_is_left)
        else:
            self._take()

    def _take_what_is_left(self) -> None:
        self._listen()
        for _ in range(0 if self._is_closed else AT_ONCE):
            if not self._take():
                break

    def _take(self) -> bool:
        """Whether a connection was there and was taken."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another process has it, or the client has gone
        except OSError as error:
            logger.error("no connection is taken for %g s: %s", PAUSE_S, error)
            self._loop.remove_reader(self._listener)
            self._loop.call_later(PAUSE_S, self._listen)
            return False
        connection.setblocking(False)
        opening = self._loop.create_task(self._open(connection))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        return True

    async def _open(self, connection: socket.socket) -> None:
        try:
            _, spoken = await self._loop.connect_accepted_socket(
                self._protocol, connection, ssl=self._context
            )
        except OSError:  # of TLS too: the client has gone or does not speak it
            connection.close()
            return
        if self._is_closed:  # meanwhile: uvicorn has told those that were open then
            protocol: Any = spoken
            protocol.shutdown()


def install_acceptor() -> None:
    """Let uvicorn, in this process, take the connections of sockets that it is given by `Acceptor`."""
    server: Any = Server
    startup = server.startup

    async def start(self: Any, sockets: list[socket.socket] | None = None) -> None:
        await startup(self, sockets=sockets if sockets is None else [])
        config = self.config

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        connections = self.server_state.connections
        self.servers += [Acceptor(listener, protocol, config.ssl, connections) for listener in sockets or ()]

    server.startup = start
