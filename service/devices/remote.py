"""A device that another process owns, as API processes use it: images there, rows back.

One connection for each request under way; all of one process have one turn there. A request that meets a
process which has just ended asks another device, if there is one, and else is refused at once: the parent is
starting the process again. Knows the frames; knows no network and no HTTP.
"""

import json
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any, Literal

import numpy as np

from service.devices.address import Address
from service.devices.frames import (
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
from service.devices.sessions import CPU, DeviceBusyError, Graph, Pixels, Rows
from training.errors import DeviceError

# Longer than the process of a device lives with a batch that does not end.
ANSWER_TIMEOUT_S = 120.0
MAX_DEADLINE_MS = 2**32 - 1
STATE_TIMEOUT_S = 5.0
# The first opening of a graph may build a TensorRT engine.
OPEN_TIMEOUT_S = 1800.0
# Of a batch, so many are decoded, then sent: a frame costs its process more than an image in it.
IMAGES_AT_ONCE = 4


class DeviceRestartingError(DeviceError):
    """The process of the device has ended; another one is being started."""

    code = "device_restarting"


@dataclass(frozen=True)
class RemoteDevice:
    """All devices of a server, each owned by a process.

    Parameters
    ----------
    addresses : of the processes.
    """

    addresses: tuple[Address, ...]

    @classmethod
    def of(cls, folder: Path) -> "RemoteDevice | None":
        """Those whose sockets are in a folder; None if there are none."""
        addresses = Address.all(folder)
        return cls(addresses) if addresses else None

    @property
    def kind(self) -> Literal["cpu", "gpu"]:
        """What is fast on it.

        Raises
        ------
        DeviceError
            No process answers.
        """
        return "cpu" if all(state["providers"] == [CPU] for state in self.states()) else "gpu"

    def open(self, graph: Graph) -> "RemoteSession":
        return RemoteSession(self.addresses, graph)

    def states(self) -> list[dict[str, Any]]:
        """What each process says of itself, for those that answer.

        Raises
        ------
        DeviceError
            None does.
        """
        states = []
        for address in self.addresses:
            try:
                with address.connect(STATE_TIMEOUT_S) as connection:
                    write(connection, Header(Kind.STATE))
                    states.append(json.loads(read_text(connection, _expect(connection, Kind.TOLD))))
            except (OSError, FrameError, ClosedError):
                continue
        if not states:
            raise DeviceRestartingError("no process of a device answers; it is being started again")
        return states


class RemoteSession:
    """A graph that other processes run.

    Parameters
    ----------
    addresses : of the processes, which all run the same graphs.

    Raises
    ------
    DeviceError
        None of them can open the graph.
    """

    batch_size = IMAGES_AT_ONCE

    def __init__(self, addresses: Sequence[Address], graph: Graph) -> None:
        self.graph = graph
        self._lines = [_Line(address, graph) for address in addresses]
        self._lock = threading.Lock()
        self._end = weakref.finalize(self, _close_all, self._lines)
        first = self._first()
        self.provider, self._most_images = first.provider, first.most_images

    def run(self, images: Pixels, *, within_s: float = float("inf")) -> Rows:
        """As of `Session`.

        Raises
        ------
        DeviceRestartingError
            The process has ended and is being started again.
        DeviceBusyError
            `within_s` has passed.
        DeviceError
        """
        most = self._most_images
        parts = [images[start : start + most] for start in range(0, len(images), most)]
        found = [self._run(np.ascontiguousarray(part), within_s) for part in parts]
        return np.concatenate(found) if len(found) > 1 else found[0]

    def close(self) -> None:
        self._end()

    def _run(self, images: Pixels, within_s: float) -> Rows:
        left = list(self._lines)
        while left:
            line = self._least_busy(left)
            left.remove(line)
            try:
                return line.run(images, within_s)
            except (OSError, FrameError, ClosedError):
                continue  # the next device, if there is one
            finally:
                with self._lock:
                    line.under_way -= 1
        raise DeviceRestartingError("the process of the device has ended; it is being started again")

    def _least_busy(self, lines: Sequence["_Line"]) -> "_Line":
        """Choose a line, and count what is to be under way on it."""
        with self._lock:
            line = min(lines, key=lambda line: line.under_way)
            line.under_way += 1
            return line

    def _first(self) -> "_Connection":
        """A connection to the first process that answers."""
        for line in self._lines:
            try:
                return line.kept()
            except (OSError, FrameError, ClosedError):
                continue
        raise DeviceRestartingError("no process of a device answers; it is being started again")


class _Connection:
    """A connection on which one graph is open."""

    def __init__(self, address: Address, graph: Graph) -> None:
        self._socket: socket = address.connect(OPEN_TIMEOUT_S)
        try:
            text = json.dumps(
                {
                    "path": str(graph.path),
                    "sha256": graph.sha256,
                    "input_name": graph.input_name,
                    "output_names": graph.output_names,
                }
            )
            write_text(self._socket, Header(Kind.OPEN), text.encode())
            header = _expect(self._socket, Kind.OPENED)
            told = json.loads(read_text(self._socket, header))
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self._graph = header.graph
        self._width = int(told["width"])
        self.provider = str(told["provider"])
        self.most_images = int(told["most_images"])

    def run(self, images: Pixels, within_s: float) -> Rows:
        deadline_ms = min(MAX_DEADLINE_MS, max(1, round(within_s * 1000))) if within_s < float("inf") else 0
        header = Header(Kind.RUN, self._graph, len(images), deadline_ms, images.nbytes)
        write(self._socket, header, images.data.cast("B"))
        header = _expect(self._socket, Kind.ROWS)
        rows = np.empty((len(images), self._width), np.float32)
        if header.length != rows.nbytes:
            raise FrameError(f"expected {rows.nbytes} bytes of rows, found {header.length}")
        read_into(self._socket, rows.data.cast("B"))
        return rows

    def close(self) -> None:
        self._socket.close()


class _Line:
    """The connections to one process: as many as there are requests under way."""

    def __init__(self, address: Address, graph: Graph) -> None:
        self._address = address
        self._graph = graph
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._is_closed = False
        self.under_way = 0

    def kept(self) -> _Connection:
        """A new connection, kept for the next request."""
        connection = _Connection(self._address, self._graph)
        self._keep(connection)
        return connection

    def run(self, images: Pixels, within_s: float) -> Rows:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                return self._kept(connection, images, within_s)
            except (OSError, FrameError, ClosedError):
                self.forget()  # they are of a process that has ended; its successor may be there
        return self._kept(_Connection(self._address, self._graph), images, within_s)

    def _kept(self, connection: _Connection, images: Pixels, within_s: float) -> Rows:
        """Run, and keep the connection for the next request unless it is broken."""
        try:
            rows = connection.run(images, within_s)
        except DeviceError:
            self._keep(connection)
            raise
        except TimeoutError as error:
            connection.close()
            raise DeviceRestartingError(f"the device gave no answer in {ANSWER_TIMEOUT_S:g} s") from error
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return rows

    def _keep(self, connection: _Connection) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(connection)
                return
        connection.close()

    def forget(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def close(self) -> None:
        self._is_closed = True  # before: what is under way closes its own
        self.forget()


def _close_all(lines: Sequence[_Line]) -> None:
    for line in lines:
        line.close()


def _expect(connection: socket, kind: Kind) -> Header:
    """The header of an answer.

    Raises
    ------
    DeviceError
        The process says why there is none.
    FrameError, ClosedError, OSError
    """
    header = read_header(connection)
    if header.kind is Kind.FAILED:
        message = read_text(connection, header).decode(errors="replace")
        raise (DeviceBusyError if header.error == Failure.LATE else DeviceError)(message)
    if header.kind is not kind:
        raise FrameError(f"expected {kind.name}, found {header.kind.name}")
    return header
