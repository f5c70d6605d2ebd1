"""Fixed batch sizes give the rows that any batch gives; on the CPU, with the code of a GPU."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.devices import LocalDevice
from service.devices.bound import BoundSession
from service.devices.sessions import CPU, Graph
from service.embedding.extractor import Extractor
from tests.service.images import png
from training.errors import DeviceError

BATCHED = LocalDevice("cpu", batch_sizes=(2, 4), is_batched=True)


@pytest.fixture(scope="module", params=["tiny", "tapped"])
def extractors(request: pytest.FixtureRequest) -> tuple[Extractor, Extractor]:
    """One extractor with any batch, and with fixed ones."""
    folder: Path = request.getfixturevalue(f"{request.param}_folder")
    return Extractor.load(folder), Extractor.load(folder, device=BATCHED)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 11])
def test_a_batch_that_is_filled_up_gives_the_same_rows(
    extractors: tuple[Extractor, Extractor], count: int
) -> None:
    plain, batched = extractors
    images = [plain.decode(png(7 * i)) for i in range(count)]
    found = batched.embed(images)
    assert found.shape == (count, plain.width)
    np.testing.assert_allclose(found, plain.embed(images), rtol=1e-5, atol=1e-5)


def test_rows_are_not_overwritten_by_the_next_batch(extractors: tuple[Extractor, Extractor]) -> None:
    _, batched = extractors
    first = batched.embed([batched.decode(png(1))])
    before = first.copy()
    batched.embed([batched.decode(png(200))])
    np.testing.assert_array_equal(first, before)


def test_what_filled_a_batch_up_is_forgotten(extractors: tuple[Extractor, Extractor]) -> None:
    _, batched = extractors
    image = batched.decode(png(9))
    alone = batched.embed([image])
    batched.embed([batched.decode(png(i)) for i in range(4)])
    np.testing.assert_array_equal(batched.embed([image]), alone)


def test_the_warm_up_has_measured_every_size(tiny_folder: Path) -> None:
    session = Extractor.load(tiny_folder, device=BATCHED).session
    assert isinstance(session, BoundSession)
    assert session.provider == CPU
    assert set(session.times.seconds) == {2, 4}
    assert all(seconds > 0 for seconds in session.times.seconds.values())


def picky_graph(folder: Path) -> Graph:
    """Looks the brightest pixel up in a table of ten rows: a brighter one is an error of onnxruntime."""
    nodes = [
        helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["wide", "axes"], ["brightest"], keepdims=0),
        helper.make_node("Gather", ["table", "brightest"], ["embedding"]),
    ]
    constants = {"axes": np.array([1, 2, 3]), "table": np.arange(20, dtype=np.float32).reshape(10, 2)}
    graph = helper.make_graph(
        nodes,
        "picky",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 2, 2, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "picky.onnx")
    return Graph(folder / "picky.onnx", "", "images", ("embedding",))


def test_a_failure_of_the_runtime_is_a_device_error_and_the_next_batch_runs(tmp_path: Path) -> None:
    session = BATCHED.open(picky_graph(tmp_path))
    with pytest.raises(DeviceError, match="failed on a batch of 2"):
        session.run(np.full((1, 2, 2, 3), 200, np.uint8))
    np.testing.assert_array_equal(session.run(np.full((1, 2, 2, 3), 9, np.uint8)), [[18, 19]])


def test_many_threads_share_a_session(extractors: tuple[Extractor, Extractor]) -> None:
    plain, batched = extractors
    images = [plain.decode(png(i)) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: batched.embed([image])[0], images))
    np.testing.assert_allclose(found, plain.embed(images), rtol=1e-5, atol=1e-5)
