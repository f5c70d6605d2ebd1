"""The process of a device, seen from its socket: one thread for each connection, one batcher for each graph.

Knows who may connect and what each frame asks for. Who starts the process, and when it ends, is in
`service.device_process`.
"""

import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np

from service.devices.address import Address
from service.devices.batcher import Batcher
from service.devices.bound import BoundSession
from service.devices.frames import (
    MAX_IMAGE_BYTES,
    MAX_IMAGES,
    ClosedError,
    Failure,
    FrameError,
    Header,
    Kind,
    read_header,
    read_into,
    read_text,
    write,
    write_text,
)
from service.devices.sessions import Device, Graph
from service.devices.waiting import LateError
from service.shelf import Shelf
from training.errors import DeviceError
from training.manifest import sha256_of

logger = logging.getLogger("headstart.devices")

MAX_CONNECTIONS = 4096
BACKLOG = 128
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid (unix(7), SO_PEERCRED)


class DeviceProcess:
    """Answers API processes on a socket.

    Parameters
    ----------
    device : opens graphs with fixed batch sizes.
    lasting : sessions that are there from start to end.
    most_graphs : how many further graphs are kept open; the least recently used goes.
    failed : told how many batches of a graph in a row have failed.
    """

    def __init__(
        self,
        device: Device,
        lasting: Mapping[str, BoundSession],
        *,
        most_graphs: int,
        failed: Callable[[int], None],
    ) -> None:
        self._device = device
        self._failed = failed
        self._lasting = {sha256: Batcher(session, failed) for sha256, session in lasting.items()}
        self._opened: Shelf[str, Batcher] = Shelf(most_graphs)
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    @property
    def batchers(self) -> list[Batcher]:
        return [*self._lasting.values(), *self._opened.values()]

    def listen(self, address: Address) -> None:
        """Answer from now on, in threads of its own.

        Raises
        ------
        OSError
        """
        self._listener = address.listen(BACKLOG)
        threading.Thread(target=self._accept, args=(self._listener,), name="accept", daemon=True).start()

    def close(self) -> None:
        """Stop to answer; batches that run are finished, what waits is not."""
        if self._listener is not None:
            _shut(self._listener)
            self._listener.close()
        for batcher in self.batchers:
            batcher.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            _shut(connection)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed
            asker = _asker(connection)
            if asker is None or len(self._connections) >= MAX_CONNECTIONS:
                connection.close()
                continue
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection, asker), daemon=True).start()

    def _serve(self, connection: socket.socket, asker: int) -> None:
        graphs: list[Batcher] = []
        try:
            while True:
                self._answer(connection, read_header(connection), graphs, asker)
        except ClosedError:
            pass
        except FrameError as error:
            logger.warning("a connection is closed: %s", error)
        except OSError as error:
            logger.debug("a connection is closed: %s", error)
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _answer(self, connection: socket.socket, header: Header, graphs: list[Batcher], asker: int) -> None:
        if header.kind is Kind.RUN:
            self._run(connection, header, graphs, asker)
        elif header.kind is Kind.OPEN:
            self._open(connection, header, graphs)
        elif header.kind is Kind.STATE and not header.length:
            write_text(connection, Header(Kind.TOLD), json.dumps(self._state()).encode())
        else:
            raise FrameError(f"{header.kind.name} with {header.length} bytes is not a question")

    def _open(self, connection: socket.socket, header: Header, graphs: list[Batcher]) -> None:
        graph = _graph(read_text(connection, header))
        try:
            batcher = self._lasting.get(graph.sha256) or self._opened.get(
                graph.sha256, lambda: self._opening(graph)
            )
        except (DeviceError, OSError) as error:
            _fail(connection, Failure.DEVICE, str(error))
            return
        graphs.append(batcher)
        session = batcher.session
        told = {
            "provider": session.provider,
            "width": session.width,
            "most_images": min(MAX_IMAGES, session.buckets.largest),
        }
        write_text(connection, Header(Kind.OPENED, graph=len(graphs) - 1), json.dumps(told).encode())

    def _opening(self, graph: Graph) -> Batcher:
        if sha256_of(graph.path) != graph.sha256:
            raise DeviceError(f"{graph.path} was altered since it was verified")
        session = self._device.open(graph)
        if not isinstance(session, BoundSession):
            raise TypeError(f"expected a session with fixed batch sizes, found {type(session).__name__}")
        if np.prod(session.image_shape) > MAX_IMAGE_BYTES:
            raise DeviceError(f"an image of {graph.path.name} has more than {MAX_IMAGE_BYTES} bytes")
        return Batcher(session, self._failed)

    def _run(self, connection: socket.socket, header: Header, graphs: list[Batcher], asker: int) -> None:
        if header.graph >= len(graphs):
            raise FrameError(f"graph {header.graph} was not opened on this connection")
        batcher = graphs[header.graph]
        session = batcher.session
        most = min(MAX_IMAGES, session.buckets.largest)
        if not 1 <= header.count <= most:
            raise FrameError(f"expected 1 to {most} images, found {header.count}")
        shape = (header.count, *session.image_shape)
        if header.length != np.prod(shape):
            raise FrameError(f"expected {np.prod(shape)} bytes of pixels, found {header.length}")
        images = np.empty(shape, np.uint8)
        read_into(connection, images.data.cast("B"))
        within_s = header.deadline_ms / 1000 if header.deadline_ms else None
        answer = batcher.submit(images, asker, within_s=within_s)
        try:
            rows = np.ascontiguousarray(answer.result())
        except LateError:
            _fail(connection, Failure.LATE, "the deadline passed while the images waited for the device")
        except DeviceError as error:
            _fail(connection, Failure.DEVICE, str(error))
        except CancelledError:
            _fail(connection, Failure.DEVICE, "the process of the device is stopping")
        else:
            told = Header(Kind.ROWS, count=len(rows), length=rows.nbytes)
            write(connection, told, rows.data.cast("B"))

    def _state(self) -> dict[str, Any]:
        batchers = self.batchers
        return {
            "pid": os.getpid(),
            "providers": sorted({batcher.session.provider for batcher in batchers}),
            "batch_sizes": list(batchers[0].session.buckets.sizes) if batchers else [],
            "graphs": len(batchers),
            "batches": sum(batcher.batches for batcher in batchers),
            "images": sum(batcher.images for batcher in batchers),
            "waiting": sum(len(batcher.waiting) for batcher in batchers),
        }


def _graph(text: bytes) -> Graph:
    """The graph that a text names.

    Raises
    ------
    FrameError
        It names none.
    """
    try:
        told = json.loads(text)
        names = told["output_names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise FrameError("output_names: expected a list of names")
        return Graph(Path(told["path"]), str(told["sha256"]), str(told["input_name"]), tuple(names))
    except (ValueError, KeyError, TypeError) as error:
        raise FrameError(f"this names no graph: {error!r}") from None


def _asker(connection: socket.socket) -> int | None:
    """The process that connects; None for one of another user, who must not reach the socket anyway."""
    if not hasattr(socket, "SO_PEERCRED"):
        return connection.fileno()
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(found)
    return int(pid) if uid == os.getuid() else None


def _fail(connection: socket.socket, failure: Failure, message: str) -> None:
    write_text(connection, Header(Kind.FAILED, error=failure), message.encode())


def _shut(connection: socket.socket) -> None:
    """Wake the thread that reads from it, or waits for a connection."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already
