"""On a GPU: the rows of the CPU, whatever the batch; a ceiling that holds; and batches that pay."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.config import Settings
from service.devices import LocalDevice
from service.devices.bound import BoundSession
from service.devices.providers import CUDA, TENSORRT, GpuOptions
from service.devices.remote import RemoteDevice
from service.devices.settings import processes_of
from service.devices.supervisor import Supervisor
from service.embedding.extractor import Extractor
from tests.service.images import png
from training.errors import DeviceError
from training.golden import rows_error

pytestmark = pytest.mark.gpu

SIZES = (1, 4, 16, 32)
# Rounding of float32 in another order; wrong pixels show above 0.1.
PARITY = 1e-3
CEILING_BYTES = 2 << 30
TOO_SMALL_BYTES = 1 << 20


@pytest.fixture(scope="module")
def cpu(lite0_folder: Path) -> Extractor:
    return Extractor.load(lite0_folder)


@pytest.fixture(scope="module")
def pixels(cpu: Extractor) -> np.ndarray:
    return np.stack([cpu.decode(png(i, 64)) for i in range(37)])


@pytest.fixture(scope="module")
def expected(cpu: Extractor, pixels: np.ndarray) -> np.ndarray:
    return cpu.session.run(pixels)


def cuda(**changes: object) -> LocalDevice:
    return LocalDevice("cuda", replace(GpuOptions(), **changes), SIZES, is_batched=True)


@pytest.fixture(scope="module", params=[False, True], ids=["usual", "captured"])
def session(request: pytest.FixtureRequest, lite0_folder: Path) -> Iterator[BoundSession]:
    extractor = Extractor.load(lite0_folder, device=cuda(is_captured=request.param))
    assert isinstance(extractor.session, BoundSession)
    yield extractor.session
    extractor.close()


@pytest.mark.parametrize("count", [1, 2, 4, 5, 16, 31, 32, 37])
def test_rows_are_those_of_the_cpu(
    session: BoundSession, cpu: Extractor, pixels: np.ndarray, expected: np.ndarray, count: int
) -> None:
    assert session.provider == CUDA
    assert rows_error(session.run(pixels[:count]), expected[:count], cpu.layer_dims) < PARITY


def test_rows_stay_the_same_when_a_captured_batch_runs_again(
    session: BoundSession, pixels: np.ndarray
) -> None:
    first = session.run(pixels[:16])
    session.run(pixels[16:32])
    np.testing.assert_array_equal(session.run(pixels[:16]), first)


def test_batches_pay(session: BoundSession, pixels: np.ndarray) -> None:
    def images_per_s(size: int) -> float:
        batch = np.ascontiguousarray(pixels[:size])
        start, runs = time.perf_counter(), 50
        for _ in range(runs):
            session.start(batch, size).result()
        return size * runs / (time.perf_counter() - start)

    assert images_per_s(32) > 3 * images_per_s(1)


def test_a_ceiling_that_is_large_enough_changes_no_row(
    lite0_folder: Path, cpu: Extractor, pixels: np.ndarray, expected: np.ndarray
) -> None:
    extractor = Extractor.load(lite0_folder, device=cuda(memory_bytes=CEILING_BYTES))
    assert rows_error(extractor.session.run(pixels), expected, cpu.layer_dims) < PARITY
    extractor.close()


def test_a_ceiling_that_is_too_small_is_refused(lite0_folder: Path) -> None:
    with pytest.raises(DeviceError):
        Extractor.load(lite0_folder, device=cuda(memory_bytes=TOO_SMALL_BYTES))


def test_tensorrt_gives_the_rows_of_the_cpu_and_keeps_its_engine(
    lite0_folder: Path, cpu: Extractor, pixels: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    device = LocalDevice("tensorrt", GpuOptions(engines=tmp_path), SIZES)
    try:
        extractor = Extractor.load(lite0_folder, device=device)
    except DeviceError as error:
        pytest.skip(f"no TensorRT: {error}")
    assert extractor.provider == TENSORRT
    assert rows_error(extractor.session.run(pixels), expected, cpu.layer_dims) < PARITY
    assert list(tmp_path.rglob("*.engine"))
    extractor.close()


def test_a_process_owns_each_gpu(
    lite0_folder: Path, cpu: Extractor, pixels: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    environments = processes_of(Settings(device="cuda", home=tmp_path, batch_sizes=SIZES))
    supervisor = Supervisor(tmp_path / "devices", environments, [lite0_folder])
    supervisor.start()
    try:
        device = RemoteDevice.of(supervisor.folder)
        assert device is not None
        assert len(device.states()) == len(environments)
        assert device.kind == "gpu"
        extractor = Extractor.load(lite0_folder, device=device)
        assert rows_error(extractor.session.run(pixels), expected, cpu.layer_dims) < PARITY
        extractor.close()
    finally:
        supervisor.close()
