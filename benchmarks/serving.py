"""The speed of the service: against the raw limit of the machine, and against other servers, in one run.

The raw limit is what processes reach that only decode and embed, one for each core, with the same decoder and
the same ONNX file. Rounds of it alternate with rounds of the server and of its rivals under wrk, every rival
with the same head, and a ratio is the median over the rounds, so that a machine that is busy with other
things for a while does not decide. What is not measured is stopped meanwhile. Every photograph that is posted
is new to the server: bytes that no other request has follow the end of the JPEG, so that its caches never
answer, and the default settings hold. The rounds of cached photographs post one of them over and over.

`per core` decides, as benchmarks/load.py defines it; `per processor s` is printed beside it. A request that
fails ends the run. Prints a table and the bars, and last one line of JSON; `--guide` writes the tables into
docs/guide/performance.md.

    python -m benchmarks.serving [--rounds 5] [--seconds 3] [--int8] [--guide]
"""

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks import large_photograph, load, many_heads, raw, rivals, serving_table
from benchmarks.embedded import add_arguments
from benchmarks.main_job import images_of, put_head
from benchmarks.precision import make_variant
from benchmarks.processes import (
    awake,
    cores,
    largest_resident_bytes,
    processor_seconds,
    settle,
    signal_tree,
)
from benchmarks.server import EXTRACTOR, ROOT, Server, running
from benchmarks.serving_table import CACHED, INT8, OURS, RAW, RAW_BESIDE_INT8, RAW_ONE, Measured

GUIDE = ROOT / "docs" / "guide" / "performance.md"
CONNECTIONS = (8, 64)
PHOTOGRAPHS_PER_CLASS = 128
SHOTS = 10
HEAD = "pets"
WARM_UP_S = 1
FP32 = {"HEADSTART_PRECISION": "fp32"}  # as the raw limit and the rivals run it
AUTO = {"HEADSTART_PRECISION": "auto"}
HEAD_ROUNDS = 10  # questions of each kind to many heads, for each round of the rest
MEMORY_BAR_BYTES = 350e6
READY_BAR_S = 6.0
DISTANCE_BOUND = 1e-2
TOLERANCE = 0.05  # between the probabilities of the servers for one photograph, decoded in two ways


@dataclass(frozen=True)
class Target:
    """Where a server takes photographs, and its first process."""

    name: str
    url: str
    pid: int


@dataclass(frozen=True)
class Plan:
    """What is measured: an extractor folder, photographs, and for how long."""

    extractor: Path
    data: Path
    seconds: int
    rounds: int
    rivals: Sequence[rivals.Rival]
    heads: int
    int8: bool = False

    def photographs(self) -> list[Path]:
        """Those that are posted, none of them learned from."""
        return [
            path
            for paths in images_of(self.data / "cats_dogs").values()
            for path in paths[SHOTS : SHOTS + PHOTOGRAPHS_PER_CLASS]
        ]


def measure(plan: Plan) -> Measured:
    """Start everything, measure, stop everything."""
    measured = Measured()
    paths = plan.photographs()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        teach(plan, folder)
        add_hello(measured, folder)
        listed = load.list_photographs(paths, folder)
        start = time.perf_counter()
        server = stack.enter_context(running(folder / "home", extractor=plan.extractor, settings=FP32))
        add_start(measured, plan, time.perf_counter() - start, processor_seconds(server.process.pid))
        limit = stack.enter_context(raw.waiting(plan.extractor, paths))
        ours = Target(OURS, f"{server.url}/v1/heads/{HEAD}/predict", server.process.pid)
        others = [stack.enter_context(_rival(rival, plan, folder)) for rival in plan.rivals]
        require_same_answers(ours, others, paths[0])
        with stopped([ours, *others]):
            for target in (ours, *others):
                post(target, listed, 8, WARM_UP_S)
            for _ in range(plan.rounds):
                one_round(measured, plan, limit, listed, ours, others)
        add_memory(measured, server)
    serving_table.add_ratios(measured, plan.rivals, CONNECTIONS)
    add_large_photograph(measured, plan)
    if plan.int8:
        add_int8(measured, plan)
    if plan.heads:
        add_many_heads(measured, plan)
    return measured


def teach(plan: Plan, folder: Path, settings: Mapping[str, str] = FP32) -> None:
    """A home with one head in it, and the file of that head for the rivals."""
    support = [
        (label, path) for label, paths in images_of(plan.data / "cats_dogs").items() for path in paths[:SHOTS]
    ]
    with (
        running(folder / "home", extractor=plan.extractor, settings=settings) as server,
        server.client() as client,
    ):
        put_head(client, HEAD, support)
        exported = client.get(f"/v1/heads/{HEAD}/export").raise_for_status()
        (folder / "head").write_bytes(exported.content)


def one_round(
    measured: Measured, plan: Plan, limit: raw.Raw, listed: Path, ours: Target, others: Sequence[Target]
) -> None:
    """Everything once; the raw limit between the two rounds that are compared with it."""

    def add(target: Target, connections: int) -> None:
        measured.add(target.name, connections, post(target, listed, connections, plan.seconds))

    add(ours, 8)
    measured.add(RAW, 0, limit.run(plan.seconds))
    add(ours, 64)
    for connections in CONNECTIONS:
        for target in others:
            add(target, connections)
    add(ours, 1)
    measured.add(RAW_ONE, 0, limit.run(plan.seconds, processes=1))
    measured.add(CACHED, 8, post(ours, listed, 8, plan.seconds, new=False))


def post(target: Target, listed: Path, connections: int, seconds: int, *, new: bool = True) -> load.Round:
    """One round of a server that is stopped before and after it."""
    with awake(target.pid):
        return load.post(target.pid, target.url, listed, connections=connections, seconds=seconds, new=new)


@contextmanager
def stopped(targets: Sequence[Target]) -> Iterator[None]:
    """All servers stopped for the length of a block, but while they are `awake`."""
    for target in targets:
        settle(target.pid)
        signal_tree(target.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for target in targets:
            signal_tree(target.pid, signal.SIGCONT)


@contextmanager
def _rival(rival: rivals.Rival, plan: Plan, folder: Path) -> Iterator[Target]:
    environ = {
        "RIVAL_EXTRACTOR": str(plan.extractor),
        "RIVAL_HEAD": str(folder / "head"),
        "RIVAL_DECODER": rival.decoder,
    }
    with rivals.running(rival, folder / f"{rival.name}.log", environ) as found:
        yield Target(rival.name, found.url, found.process.pid)


def require_same_answers(ours: Target, others: Sequence[Target], photograph: Path) -> None:
    """Raises RuntimeError if a rival says something else of a photograph: it does other work."""
    data, headers = photograph.read_bytes(), {"Content-Type": "image/jpeg"}
    expected = _posted(ours.url, data, headers)["predictions"][0]["probabilities"]
    for target in others:
        found = _posted(target.url, data, headers)["probabilities"]
        for item in expected:
            if abs(found[item["label"]] - item["probability"]) > TOLERANCE:
                raise RuntimeError(f"{target.name} answers {found}, expected {expected}")


def _posted(url: str, data: bytes, headers: dict[str, str]) -> dict[str, Any]:
    answer = httpx.post(url, content=data, headers=headers, timeout=60, trust_env=False)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def add_start(measured: Measured, plan: Plan, serve_s: float, processor_s: float) -> None:
    """What `make serve` does on a home that is there: an export with nothing to do, then the server."""
    export_s = 0.0
    if plan.extractor == EXTRACTOR:
        start = time.perf_counter()
        command = [sys.executable, "-m", "service.cli", "export", EXTRACTOR.name]
        environ = {**os.environ, "HEADSTART_HOME": str(EXTRACTOR.parent.parent)}
        subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.DEVNULL)
        export_s = time.perf_counter() - start
    measured.ratios["ratio_ready_to_6_s"] = (export_s + serve_s) / READY_BAR_S
    measured.notes.append(
        f"second start: {export_s + serve_s:.1f} s to ready, {export_s:.1f} s of it to see that nothing is"
        f" to be exported; the server took {processor_s:.1f} s of the processor"
    )


def add_hello(measured: Measured, folder: Path) -> None:
    """BentoML's own hello-world beside it."""
    with rivals.running(rivals.HELLO, folder / "hello.log", {}) as hello:
        processor_s = processor_seconds(hello.process.pid)
        megabytes = largest_resident_bytes(hello.process.pid) / 1e6
        measured.notes.append(
            f"BentoML's hello-world: {hello.ready_s:.1f} s to ready, {processor_s:.1f} s of the processor,"
            f" {megabytes:.0f} MB in its largest process"
        )


def add_memory(measured: Measured, server: Server) -> None:
    """Resident memory after all the rounds."""
    resident = largest_resident_bytes(server.process.pid)
    measured.ratios["ratio_worker_memory_to_350_mb"] = resident / MEMORY_BAR_BYTES
    measured.notes.append(f"memory: {resident / 1e6:.0f} MB in the largest worker after all the rounds")


def add_large_photograph(measured: Measured, plan: Plan) -> None:
    """Decoding 12 megapixels."""
    found = large_photograph.measure(plan.extractor, plan.photographs()[0])
    measured.ratios["ratio_12mp_decode"] = found.decode_s / found.plain_s
    measured.ratios["ratio_12mp_distance_to_bound"] = found.distance / DISTANCE_BOUND
    measured.notes.append(
        f"12 megapixels: {found.decode_s * 1e3:.0f} ms to decode and resize, {found.plain_s * 1e3:.0f} ms"
        f" plainly with Pillow; cosine distance of the embeddings {found.distance:.1e}"
    )


def add_int8(measured: Measured, plan: Plan) -> None:
    """The precision that a server chooses by itself where an int8 variant passed its gate, beside fp32."""
    paths = plan.photographs()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        _, variant = make_variant(plan.extractor, plan.data, "int8", folder)
        narrow = replace(plan, extractor=folder / plan.extractor.name)
        teach(narrow, folder, AUTO)
        listed = load.list_photographs(paths, folder)
        server = stack.enter_context(running(folder / "home", extractor=narrow.extractor, settings=AUTO))
        with server.client() as client:
            found = client.get("/v1/extractors").raise_for_status().json()
        if found["extractors"][0]["precision"] != "int8":
            raise RuntimeError(f"int8 was not chosen: {variant.gate}")
        limit = stack.enter_context(raw.waiting(plan.extractor, paths))
        ours = Target(INT8, f"{server.url}/v1/heads/{HEAD}/predict", server.process.pid)
        stack.enter_context(stopped([ours]))
        post(ours, listed, 8, WARM_UP_S)
        for _ in range(plan.rounds):
            for connections in CONNECTIONS:
                measured.add(INT8, connections, post(ours, listed, connections, plan.seconds))
            measured.add(RAW_BESIDE_INT8, 0, limit.run(plan.seconds))
    serving_table.add_int8_ratios(measured, CONNECTIONS)


def add_many_heads(measured: Measured, plan: Plan) -> None:
    """Many heads on one image that is new to the server, in a server of their own."""
    with (
        tempfile.TemporaryDirectory() as home,
        running(Path(home), extractor=plan.extractor, settings=FP32) as server,
    ):
        names = many_heads.import_heads(server, plan.heads)
        medians = many_heads.measure(server, names, plan.rounds * HEAD_ROUNDS)
    one, many = medians["one head, new"], max(medians["all, by pattern, new"], medians["all, by name, new"])
    measured.ratios[f"ratio_{plan.heads}_heads_to_one"] = many / one
    measured.notes.append(
        f"{plan.heads} heads on one new image: {many * 1e3:.1f} ms, one head {one * 1e3:.1f} ms (median, one"
        " connection)"
    )


def heading(plan: Plan) -> str:
    """When, where and how it was measured."""
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"Measured on {today} on {cores()} cores (`python -m benchmarks.serving --rounds {plan.rounds}"
        f" --seconds {plan.seconds}{' --int8' if plan.int8 else ''} --guide`)."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="length of each measurement")
    parser.add_argument("--heads", type=int, default=1000, help="on one image; 0 to leave them out")
    parser.add_argument(
        "--no-rivals", action="store_true", help="measure the service and the raw limit alone"
    )
    parser.add_argument("--int8", action="store_true", help="make an int8 variant and measure it too")
    parser.add_argument(
        "--guide", action="store_true", help=f"write the tables into {GUIDE.relative_to(ROOT)}"
    )
    options = parser.parse_args(arguments)
    load.require_wrk()
    plan = Plan(
        extractor=options.extractor or EXTRACTOR,
        data=options.data,
        seconds=options.seconds,
        rounds=options.rounds,
        rivals=() if options.no_rivals else rivals.RIVALS,
        heads=options.heads,
        int8=options.int8,
    )
    measured = measure(plan)
    print(serving_table.text(measured))
    if options.guide:
        serving_table.write_guide(GUIDE, serving_table.markdown(measured, heading(plan)))
    print(json.dumps({key: round(figure, 4) for key, figure in measured.ratios.items()}))


if __name__ == "__main__":
    # An end from outside unwinds too: no stopped server stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    main()
