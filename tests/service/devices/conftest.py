"""Whether this machine has a GPU, and devices that processes of their own own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.devices.address import Address
from service.devices.bound import BoundSession
from service.devices.local import LocalDevice
from service.devices.process import DeviceProcess
from service.devices.providers import gpu_count
from service.devices.remote import RemoteDevice
from service.embedding.extractor import Extractor
from training.errors import DeviceError

BATCHED = LocalDevice("cpu", batch_sizes=(1, 2, 4, 8), is_batched=True)


def why_no_gpu() -> str:
    """Empty where there is one."""
    try:
        gpu_count()
    except DeviceError as error:
        return str(error)
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_no_gpu()
    for item in items:
        if reason and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=f"no GPU: {reason}"))
        if not reason and item.get_closest_marker("no_gpu"):
            item.add_marker(pytest.mark.skip(reason="this machine has a GPU"))


@pytest.fixture
def process(tiny_folder: Path, tmp_path: Path) -> Iterator[DeviceProcess]:
    """The process of a device, here in threads; it answers on the socket 0 of `tmp_path`."""
    session = Extractor.load(tiny_folder, device=BATCHED).session
    assert isinstance(session, BoundSession)
    process = DeviceProcess(
        BATCHED, {session.graph.sha256: session}, most_graphs=2, failed=lambda in_a_row: None
    )
    process.listen(Address.of(tmp_path, 0))
    yield process
    process.close()


@pytest.fixture
def remote(process: DeviceProcess, tmp_path: Path) -> RemoteDevice:
    """That device, as API processes see it."""
    device = RemoteDevice.of(tmp_path)
    assert device is not None
    return device
