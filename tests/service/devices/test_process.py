"""The process of a device over its socket: the rows of the network, whatever others send."""

import json
import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.config import Settings
from service.devices.address import Address
from service.devices.bound import BoundSession
from service.devices.frames import MAX_IMAGES, Header, Kind, read_header, read_text, write, write_text
from service.devices.process import DeviceProcess
from service.devices.remote import (
    DeviceRestartingError,
    RemoteDevice,
    RemoteSession,
    _Connection,
)
from service.devices.sessions import DeviceBusyError
from service.embedding.extractor import Extractor
from service.engine import Engine
from service.errors import ApiError
from service.preparation import prepare
from service.waiting.patience import Patience, set_patience
from tests.service.conftest import tiny_extractor
from tests.service.devices.conftest import BATCHED
from tests.service.images import png
from training.errors import DeviceError

TIMEOUT_S = 10


@pytest.fixture
def session(remote: RemoteDevice, tiny_folder: Path) -> RemoteSession:
    extractor = Extractor.load(tiny_folder, device=remote)
    assert isinstance(extractor.session, RemoteSession)
    return extractor.session


@pytest.fixture
def pixels(tiny_folder: Path) -> np.ndarray:
    extractor = Extractor.load(tiny_folder)
    return np.stack([extractor.decode(png(5 * i)) for i in range(50)])


@pytest.fixture
def expected(tiny_folder: Path, pixels: np.ndarray) -> np.ndarray:
    return Extractor.load(tiny_folder).session.run(pixels)


@pytest.mark.parametrize("count", [1, 3, 8, 9, 50])
def test_rows_are_those_of_the_network(
    session: RemoteSession, pixels: np.ndarray, expected: np.ndarray, count: int
) -> None:
    np.testing.assert_allclose(session.run(pixels[:count]), expected[:count], rtol=1e-5, atol=1e-5)


def test_many_threads_get_each_their_own_rows_out_of_common_batches(
    session: RemoteSession, process: DeviceProcess, pixels: np.ndarray, expected: np.ndarray
) -> None:
    (batcher,) = process.batchers
    slow = batcher.session._run_bound

    def slowed(*arguments: object) -> np.ndarray:
        time.sleep(0.005)  # a device that takes its time, so that others wait meanwhile
        return slow(*arguments)

    batcher.session._run_bound = slowed
    batches, images = batcher.batches, batcher.images
    times = dict.fromkeys(batcher.session.buckets.sizes, 0.005)
    batcher.waiting.policy.times = replace(batcher.waiting.policy.times, seconds=times)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: session.run(pixels[i : i + 1])[0], range(50)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert batcher.images - images == 50
    assert batcher.batches - batches < 25


def test_who_may_connect(tmp_path: Path, process: DeviceProcess) -> None:
    assert stat.S_IMODE(Address.of(tmp_path, 0).path.stat().st_mode) == 0o600


def test_a_socket_that_a_process_left_behind_is_replaced(tmp_path: Path, tiny_folder: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    address = Address.of(tmp_path, 0)
    with address._short() as path:
        left.bind(path)
    left.close()
    with pytest.raises(ConnectionRefusedError):
        address.connect(1)
    listener = address.listen(1)
    address.connect(1).close()
    listener.close()


def test_a_folder_may_be_deep(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    listener = Address.of(deep, 0).listen(1)
    Address.of(deep, 0).connect(1).close()
    listener.close()


def raw(tmp_path: Path) -> socket.socket:
    return Address.of(tmp_path, 0).connect(TIMEOUT_S)


def opened(tmp_path: Path, session: RemoteSession) -> socket.socket:
    """A connection on which the graph of a session is open."""
    return _Connection(Address.of(tmp_path, 0), session.graph)._socket


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


BAD_FRAMES: dict[str, Callable[[], tuple[Header, bytes]]] = {
    "an answer": lambda: (Header(Kind.ROWS, count=1, length=4), b"abcd"),
    "another graph": lambda: (Header(Kind.RUN, graph=1, count=1, length=192), bytes(192)),
    "no image": lambda: (Header(Kind.RUN, count=0), b""),
    "too many images": lambda: (Header(Kind.RUN, count=MAX_IMAGES + 1, length=192 * 17), b""),
    "too few bytes": lambda: (Header(Kind.RUN, count=2, length=192), bytes(192)),
    "2**64 bytes": lambda: (Header(Kind.RUN, count=1, length=2**64 - 1), b"x"),
    "a long name": lambda: (Header(Kind.OPEN, length=1 << 20), b"x"),
    "no graph": lambda: (Header(Kind.OPEN, length=2), b"[]"),
    "names of another kind": lambda: (Header(Kind.OPEN, length=22), b'{"output_names": [1]} '),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_closes_its_connection_and_no_other(
    tmp_path: Path, session: RemoteSession, pixels: np.ndarray, expected: np.ndarray, name: str
) -> None:
    header, body = BAD_FRAMES[name]()
    with opened(tmp_path, session) as bad:
        bad.sendall(header.pack() + body)
        assert is_closed(bad)
    np.testing.assert_allclose(session.run(pixels[:3]), expected[:3], rtol=1e-5, atol=1e-5)


@given(data=st.binary(min_size=1, max_size=200))
@hypothesis_settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_noise_harms_nobody(tmp_path: Path, session: RemoteSession, pixels: np.ndarray, data: bytes) -> None:
    with raw(tmp_path) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert is_closed(connection)
    assert session.run(pixels[:1]).shape == (1, 16)


def test_a_worker_that_dies_in_the_middle_of_a_frame_harms_nobody(
    tmp_path: Path, process: DeviceProcess, session: RemoteSession, pixels: np.ndarray
) -> None:
    (batcher,) = process.batchers
    connection = opened(tmp_path, session)
    connection.sendall(Header(Kind.RUN, count=4, length=4 * 192).pack() + bytes(100))
    assert session.run(pixels[:8]).shape == (8, 16)
    images = batcher.images
    connection.close()
    assert session.run(pixels[:1]).shape == (1, 16)
    assert batcher.images == images + 1


def test_who_does_not_read_the_answer_harms_nobody(
    tmp_path: Path, session: RemoteSession, pixels: np.ndarray
) -> None:
    deaf = opened(tmp_path, session)
    for _ in range(20):
        write(deaf, Header(Kind.RUN, count=8, length=8 * 192), pixels[:8].data.cast("B"))
    assert session.run(pixels[:8]).shape == (8, 16)
    deaf.close()
    assert session.run(pixels[:8]).shape == (8, 16)


def test_another_graph_is_opened_when_it_is_asked_for(
    remote: RemoteDevice, second_folder: Path, tapped_folder: Path, pixels: np.ndarray
) -> None:
    for folder in (second_folder, tapped_folder):
        plain, there = Extractor.load(folder), Extractor.load(folder, device=remote)
        np.testing.assert_allclose(
            there.session.run(pixels[:5]), plain.session.run(pixels[:5]), rtol=1e-5, atol=1e-5
        )
        there.close()


def test_a_graph_that_was_altered_is_not_opened(
    remote: RemoteDevice, second_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(second_folder, tmp_path / "second"))
    graph = replace(Extractor.load(second_folder).session.graph, path=folder / "model.onnx")
    with graph.path.open("ab") as model:
        model.write(b"\0")
    with pytest.raises(DeviceError, match="altered"):
        remote.open(graph)
    with pytest.raises(DeviceError, match="No such file"):
        remote.open(replace(graph, path=tmp_path / "nothing"))


def test_a_deadline_travels_with_the_images(
    process: DeviceProcess, session: RemoteSession, pixels: np.ndarray
) -> None:
    (batcher,) = process.batchers
    gate = threading.Event()
    run = batcher.session._run_bound
    batcher.session._run_bound = lambda *arguments: (gate.wait(TIMEOUT_S), run(*arguments))[1]
    with ThreadPoolExecutor(2) as pool:
        patient = pool.submit(session.run, pixels[:1])
        while batcher.running_since is None:
            time.sleep(0.001)
        hasty = pool.submit(session.run, pixels[:1], within_s=0.05)
        time.sleep(0.1)
        gate.set()
        assert patient.result(TIMEOUT_S).shape == (1, 16)
        with pytest.raises(DeviceBusyError):
            hasty.result(TIMEOUT_S)


def test_a_batch_that_fails_is_told_to_those_in_it(
    process: DeviceProcess, session: RemoteSession, pixels: np.ndarray
) -> None:
    (batcher,) = process.batchers
    run = batcher.session._run_bound

    def broken(*arguments: object) -> np.ndarray:
        raise DeviceError("out of memory")

    batcher.session._run_bound = broken
    with pytest.raises(DeviceError, match="out of memory"):
        session.run(pixels[:1])
    batcher.session._run_bound = run
    assert session.run(pixels[:1]).shape == (1, 16)


def test_a_process_that_has_ended_is_told_at_once(
    process: DeviceProcess, remote: RemoteDevice, session: RemoteSession, pixels: np.ndarray
) -> None:
    session.run(pixels[:1])
    process.close()
    start = time.monotonic()
    with pytest.raises(DeviceRestartingError):
        session.run(pixels[:1])
    with pytest.raises(DeviceRestartingError):
        remote.states()
    assert time.monotonic() - start < 1


def test_another_process_takes_over(
    process: DeviceProcess, tiny_folder: Path, tmp_path: Path, pixels: np.ndarray
) -> None:
    gone = Address.of(tmp_path, 1)
    gone.listen(1).close()
    device = RemoteDevice.of(tmp_path)
    assert device is not None
    assert len(device.addresses) == 2
    extractor = Extractor.load(tiny_folder, device=device)
    assert extractor.session.run(pixels[:20]).shape == (20, 16)
    extractor.close()


def test_the_state_tells_what_was_done(
    remote: RemoteDevice, session: RemoteSession, pixels: np.ndarray
) -> None:
    (before,) = remote.states()
    session.run(pixels[:8])
    (after,) = remote.states()
    assert after["pid"] == os.getpid()
    assert after["providers"] == ["CPUExecutionProvider"]
    assert after["batch_sizes"] == [1, 2, 4, 8]
    assert (after["images"] - before["images"], after["waiting"]) == (8, 0)
    assert remote.kind == "cpu"


def test_a_graph_that_nobody_uses_any_more_ends_its_thread(
    remote: RemoteDevice, second_folder: Path, tapped_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    folders = [second_folder, tapped_folder, tiny_extractor(tmp_path / "third", "third", seed=9)]
    for folder in folders:
        Extractor.load(folder, device=remote).close()
    deadline = time.monotonic() + TIMEOUT_S
    while len([thread for thread in threading.enumerate() if thread.name == "batches"]) > 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_open_frame_by_hand(tmp_path: Path, process: DeviceProcess, tiny_folder: Path) -> None:
    """The protocol as its documentation has it, without the client."""
    graph = Extractor.load(tiny_folder).session.graph
    told = {"path": str(graph.path), "sha256": graph.sha256, "input_name": "images"}
    with raw(tmp_path) as connection:
        write_text(connection, Header(Kind.OPEN), json.dumps(told | {"output_names": ["embedding"]}).encode())
        header = read_header(connection)
        assert header.kind is Kind.OPENED
        assert json.loads(read_text(connection, header))["width"] == 16
        write(connection, Header(Kind.RUN, header.graph, 1, length=192), bytes(192))
        header = read_header(connection)
        assert (header.kind, header.count, header.length) == (Kind.ROWS, 1, 64)


def test_an_engine_embeds_on_the_device_of_another_process(
    process: DeviceProcess, remote: RemoteDevice, settings: Settings
) -> None:
    prepare(settings, remote)
    engine = Engine.start(settings, remote)
    inputs = [png(i) for i in range(30)]
    there = engine.embedders.default.embed(inputs)
    engine.close()
    plain = Engine.start(settings)
    here = plain.embedders.default.embed(inputs)
    plain.close()
    np.testing.assert_allclose(there.matrix(range(30)), here.matrix(range(30)), rtol=1e-5, atol=1e-5)
    assert process.batchers[0].images >= 30


def test_a_request_whose_time_is_up_while_it_waits_for_the_device_is_told_so(
    process: DeviceProcess, remote: RemoteDevice, settings: Settings
) -> None:
    prepare(settings, remote)
    engine = Engine.start(settings, remote)
    (batcher,) = process.batchers
    gate = threading.Event()
    run = batcher.session._run_bound
    batcher.session._run_bound = lambda *arguments: (gate.wait(TIMEOUT_S), run(*arguments))[1]
    embedder = engine.embedders.default

    def hurried() -> None:
        set_patience(Patience(0.2))
        embedder.embed([png(2)])

    with ThreadPoolExecutor(2) as pool:
        patient = pool.submit(embedder.embed, [png(1)])
        while batcher.running_since is None:
            time.sleep(0.001)
        hasty = pool.submit(hurried)
        time.sleep(0.3)
        gate.set()
        with pytest.raises(ApiError) as error:
            hasty.result(TIMEOUT_S)
        assert error.value.code == "deadline_exceeded"
        assert len(patient.result(TIMEOUT_S).computed) == 1
    engine.close()


def test_two_devices_share_the_load(
    process: DeviceProcess, tiny_folder: Path, tmp_path: Path, pixels: np.ndarray, expected: np.ndarray
) -> None:
    session = Extractor.load(tiny_folder, device=BATCHED).session
    assert isinstance(session, BoundSession)
    other = DeviceProcess(
        BATCHED, {session.graph.sha256: session}, most_graphs=1, failed=lambda in_a_row: None
    )
    other.listen(Address.of(tmp_path, 1))
    device = RemoteDevice.of(tmp_path)
    assert device is not None
    extractor = Extractor.load(tiny_folder, device=device)
    gates = [each.batchers[0] for each in (process, other)]
    both = threading.Barrier(2, timeout=TIMEOUT_S)  # no device answers before the other one is asked, too

    def held(run: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        return lambda *arguments: (both.wait(), run(*arguments))[1]

    for batcher in gates:
        batcher.session._run_bound = held(batcher.session._run_bound)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda i: extractor.session.run(pixels[i : i + 1])[0], range(2)))
    np.testing.assert_allclose(found, expected[:2], rtol=1e-5, atol=1e-5)
    extractor.close()
    other.close()
