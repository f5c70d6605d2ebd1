"""One target under atheris, in the process that calls it. Knows libFuzzer's options; knows no format."""

import sys
import time
from pathlib import Path

import atheris

from tests.fuzz.targets import Target

TIMEOUT_S = 20
MEMORY_MIB = 1024
REPAIRED_OF_TEN = 7


def fuzz(target: Target, runs: int, seed: int, folder: Path) -> None:
    """Run a target and end this process: with 0 after all runs, otherwise at the first find.

    A find is an input that raises what is not documented, takes too long, or needs too much memory.

    Parameters
    ----------
    folder : gets the corpus, from which the next run goes on, the finds, and the slowest input.
    """
    corpus, seeds, finds = (folder / kind for kind in ("corpus", "seeds", "finds"))
    for each in (corpus, seeds, finds):
        each.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(target.seeds):
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
        mutated: bytes = atheris.Mutate(data, max_size)
        repaired = target.repair is not None and seed % 10 < REPAIRED_OF_TEN
        return target.repair(mutated)[:max_size] if repaired and target.repair else mutated

    limits = [f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MIB}", f"-max_len={target.max_bytes}"]
    told = [f"-runs={runs}", f"-seed={seed}", f"-artifact_prefix={finds}/", "-print_final_stats=1"]
    arguments = [sys.argv[0], *limits, *told, f"-dict={tokens}", str(corpus), str(seeds)]
    atheris.Setup(arguments, run, custom_mutator=mutate)
    atheris.Fuzz()


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)
