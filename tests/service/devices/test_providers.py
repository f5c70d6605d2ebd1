"""What is decided about a GPU without one: options, refusals, and whose process owns what."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from service.config import Settings
from service.devices.providers import (
    CUDA,
    GpuOptions,
    cuda_options,
    gpu_count,
    tensorrt_options,
)
from service.devices.sessions import CPU, Graph
from service.devices.settings import device_of, processes_of, without_process
from service.embedding.extractor import Extractor
from training.errors import DeviceError

GRAPH = Graph(Path("model.onnx"), "a" * 64, "images", ("embedding",))
SETTINGS = Settings()


def test_a_memory_ceiling_bounds_the_arena_and_leaves_out_what_it_does_not_bound() -> None:
    free, bounded = cuda_options(GpuOptions()), cuda_options(GpuOptions(memory_bytes=1 << 30))
    assert "gpu_mem_limit" not in free
    assert bounded["gpu_mem_limit"] == str(1 << 30)
    assert (free["cudnn_conv_algo_search"], bounded["cudnn_conv_algo_search"]) == ("EXHAUSTIVE", "HEURISTIC")


def test_fp32_stays_fp32() -> None:
    assert cuda_options(GpuOptions())["use_tf32"] == "0"
    assert tensorrt_options(GRAPH, GpuOptions(), (8, 8, 3), (1, 4))["trt_fp16_enable"] == "0"


def test_tensorrt_is_told_all_shapes_and_keeps_what_it_builds_apart_by_graph(tmp_path: Path) -> None:
    options = tensorrt_options(GRAPH, GpuOptions(engines=tmp_path), (224, 224, 3), (1, 8, 64))
    assert options["trt_profile_min_shapes"] == "images:1x224x224x3"
    assert options["trt_profile_max_shapes"] == "images:64x224x224x3"
    other = replace(GRAPH, sha256="b" * 64)
    elsewhere = tensorrt_options(other, GpuOptions(engines=tmp_path), (224, 224, 3), (1, 8, 64))
    assert options["trt_engine_cache_path"] != elsewhere["trt_engine_cache_path"]
    assert Path(options["trt_engine_cache_path"]).is_relative_to(tmp_path)


@pytest.mark.no_gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_that_is_not_there_is_refused_and_the_way_out_is_told(tiny_folder: Path, device: str) -> None:
    with pytest.raises(DeviceError, match="HEADSTART_DEVICE=cpu"):
        Extractor.load(tiny_folder, device=device)
    with pytest.raises(DeviceError, match="NVIDIA driver"):
        processes_of(replace(SETTINGS, device=device))


@pytest.mark.no_gpu
def test_auto_says_that_it_runs_on_the_cpu(tiny_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "headstart.devices"):
        assert Extractor.load(tiny_folder, device="auto").provider == CPU
    assert "running on the CPU" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "headstart.devices"):
        assert processes_of(replace(SETTINGS, device="auto")) == []
    assert "running on the CPU" in caplog.text


@pytest.mark.no_gpu
def test_auto_is_decided_once_for_all_processes() -> None:
    auto = replace(SETTINGS, device="auto")
    assert device_of(auto).kind == "cpu"
    assert without_process(auto).device == "cpu"
    assert without_process(replace(auto, extractor_process="never")).device == "auto"


def test_a_cpu_has_a_process_of_its_own_only_if_that_is_asked_for(tmp_path: Path) -> None:
    assert processes_of(SETTINGS) == []
    assert processes_of(replace(SETTINGS, device="auto", extractor_process="never")) == []
    asked = replace(SETTINGS, extractor_process="always", home=tmp_path, cuda_graphs=False)
    (own,) = processes_of(asked)
    read = Settings.from_env(own)
    assert (read.home, read.cuda_graphs, read.extractor_process) == (tmp_path, False, "always")


@pytest.mark.gpu
def test_each_gpu_has_a_process_that_sees_no_other() -> None:
    environments = processes_of(replace(SETTINGS, device="auto"), environ={})
    assert [own["CUDA_VISIBLE_DEVICES"] for own in environments] == [str(i) for i in range(gpu_count())]
    assert {own["HEADSTART_DEVICE"] for own in environments} == {"cuda"}


def test_names_of_providers_are_those_of_onnxruntime() -> None:
    from training.runtime import onnxruntime

    known = onnxruntime.get_all_providers()
    assert {CPU, CUDA, "TensorrtExecutionProvider"} <= set(known)
