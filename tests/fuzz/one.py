"""One target under atheris, in the process that calls it. Knows libFuzzer's options; knows no format."""

import sys
import tempfile
import time
from pathlib import Path

import atheris

from tests.fuzz.targets import Target

SCRATCH = "scratch"  # what a target keeps while it runs
TIMEOUT_S = 20
MEMORY_MIB = 1024
OF_ITS_KIND_OF_TEN = 7


def fuzz(target: Target, runs: int, seed: int, folder: Path) -> None:
    """Run a target and end this process: with 0 after all runs, otherwise at the first find.

    A find is an input that raises what is not documented, takes too long, or needs too much memory.

    Parameters
    ----------
    folder : gets the corpus, from which the next run goes on, the finds, the slowest input, and `SCRATCH`.
    """
    corpus, seeds, finds = (folder / kind for kind in ("corpus", "seeds", "finds"))
    for each in (corpus, seeds, finds, folder / SCRATCH):
        each.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(folder / SCRATCH)
    for index, data in enumerate(target.seeds() if callable(target.seeds) else target.seeds):
        (seeds / str(index)).write_bytes(data)
    tokens = folder / "tokens"
    tokens.write_text("".join(f'"{_escaped(token)}"\n' for token in target.tokens))
    slowest = 0.0

    def run(data: bytes) -> None:
        nonlocal slowest
        start = time.perf_counter()
        target.run(data)
        seconds = time.perf_counter() - start
        if seconds > slowest:
            slowest = seconds
            (folder / "slowest").write_bytes(data)
            (folder / "slowest_ms").write_text(f"{seconds * 1e3:.1f}")

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        def mutated(part: bytes) -> bytes:
            changed: bytes = atheris.Mutate(part, max_size)
            return changed

        if target.mutate is None or seed % 10 >= OF_ITS_KIND_OF_TEN:
            return mutated(data)
        return target.mutate(data, mutated, seed)[:max_size]

    limits = [f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MIB}", f"-max_len={target.max_bytes}"]
    told = [f"-runs={runs}", f"-seed={seed}", f"-artifact_prefix={finds}/", "-print_final_stats=1"]
    arguments = [sys.argv[0], *limits, *told, f"-dict={tokens}", str(corpus), str(seeds)]
    atheris.Setup(arguments, run, custom_mutator=mutate)
    atheris.Fuzz()


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)
