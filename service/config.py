"""One frozen `Settings`, read once from HEADSTART_* and passed in.

Knows every setting and its bounds. A bad value names its variable and what was expected.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PREFIX = "HEADSTART_"
MIB = 1024 * 1024


class SettingsError(ValueError):
    """A HEADSTART_* variable has a value that cannot be used."""


def _setting(default: T, parse: Callable[[str], T], about: str) -> T:
    return field(default=default, metadata={"parse": parse, "about": about})


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"a number from {low} to {high}")
        return value

    return parse


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text

    return parse


def _flag(text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError("true or false")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("one or more names, separated by commas")
    return names


def _ascending(low: int, high: int) -> Callable[[str], tuple[int, ...]]:
    expected = f"ascending whole numbers from {low} to {high}, separated by commas"

    def parse(text: str) -> tuple[int, ...]:
        try:
            values = tuple(int(value) for value in text.split(","))
        except ValueError:
            values = ()
        if not values or list(values) != sorted(set(values)) or not low <= values[0] <= values[-1] <= high:
            raise ValueError(expected)
        return values

    return parse


def _text(text: str) -> str:
    return text


def _address(text: str) -> str:
    try:
        return str(ip_address("127.0.0.1" if text == "localhost" else text))
    except ValueError:
        raise ValueError("an IP address, such as 127.0.0.1 or 0.0.0.0, or localhost") from None


def _path(text: str) -> Path:
    if not text:
        raise ValueError("a folder")
    return Path(text).expanduser()


@dataclass(frozen=True)
class Settings:
    """Every setting, with its default. `Settings.from_env()` reads HEADSTART_<FIELD NAME>."""

    host: str = _setting("127.0.0.1", _address, "address to listen on")
    port: int = _setting(3000, _integer(1, 65535), "port to listen on")
    home: Path = _setting(Path(".headstart"), _path, "folder of the database, the blobs and the extractors")
    database_url: str = _setting("", _text, "SQLAlchemy URL; empty: SQLite under the home folder")
    blob_url: str = _setting(
        "",
        _text,
        "where blobs are: a folder or an fsspec URL such as `s3://bucket/prefix`; empty: HOME/blobs",
    )
    keep_inputs: bool = _setting(
        True, _flag, "whether heads keep the original bytes of their examples, where a PUT does not say"
    )
    extractors: tuple[str, ...] = _setting(
        ("efficientnet-lite0",),
        _names,
        "extractors to load, by name under HOME/extractors or by path; the first is the default",
    )
    registered_extractors: int = _setting(
        4,
        _integer(1, 1024),
        "extractors of the registry kept loaded, each process; the least recently used goes",
    )
    device: str = _setting(
        "cpu",
        _choice("cpu", "cuda", "tensorrt", "auto"),
        "where the extractors run; auto: on a GPU if there is one",
    )
    precision: str = _setting(
        "auto",
        _choice("auto", "fp32", "int8", "fp16"),
        "of the extractors; auto: int8 on a CPU, fp16 on a GPU, where it was made and passed its gate",
    )
    extractor_process: str = _setting(
        "auto",
        _choice("auto", "always", "never"),
        "whether a process of its own owns each device, for all API processes; auto: on a GPU",
    )
    batch_sizes: tuple[int, ...] = _setting(
        (1, 2, 4, 8, 16, 32, 64),
        _ascending(1, 1024),
        "sizes of batches on a GPU or in such a process; a smaller batch is filled up",
    )
    gpu_memory_bytes: int = _setting(
        0, _integer(0, 1 << 50), "most memory of a GPU for each loaded extractor; 0: what it takes"
    )
    cuda_graphs: bool = _setting(
        True, _flag, "whether batches become CUDA graphs where the warm-up finds them faster"
    )
    workers: int = _setting(0, _integer(0, 1024), "API processes; 0: one for each core")
    threads: int = _setting(
        0, _integer(0, 1024), "inputs that a process decodes and embeds at once; 0: one for each core"
    )
    max_body_bytes: int = _setting(
        128 * MIB, _integer(1024, 1 << 40), "largest request body, and largest unpacked archive"
    )
    max_head_archive_bytes: int = _setting(
        4096 * MIB, _integer(1024, 1 << 50), "largest head with its examples that is imported as one file"
    )
    max_input_bytes: int = _setting(32 * MIB, _integer(1024, 1 << 32), "largest single input")
    max_pixels: int = _setting(64_000_000, _integer(4096, 1 << 32), "most pixels of one image")
    max_inputs: int = _setting(
        10_000, _integer(1, 10_000_000), "most inputs of one request, each label of an input counted"
    )
    memory_cache_bytes: int = _setting(
        32 * MIB, _integer(0, 1 << 40), "embeddings in memory, each extractor of a process"
    )
    store_cache_bytes: int = _setting(
        2048 * MIB, _integer(0, 1 << 50), "embeddings kept in the database beyond those of support sets"
    )
    head_cache_bytes: int = _setting(128 * MIB, _integer(0, 1 << 40), "head versions in memory, each process")
    stack_cache_bytes: int = _setting(
        128 * MIB, _integer(0, 1 << 40), "heads that are asked together, in memory, each process"
    )
    max_heads: int = _setting(1000, _integer(1, 1_000_000), "most heads of one request")
    allow_anonymous: bool = _setting(
        False, _flag, "let everybody in, from everywhere, as long as no API key was ever made"
    )
    metrics_need_key: bool = _setting(False, _flag, "whether `/metrics` asks for a key of the default tenant")
    audit_days: int = _setting(
        400, _integer(0, 36500), "days that the audit log goes back, seen to at each start; 0: for ever"
    )
    idempotency_hours: int = _setting(
        24, _integer(1, 8760), "hours for which a request with an `Idempotency-Key` is answered as before"
    )
    fetch_urls: bool = _setting(False, _flag, "fetch inputs that are given as http(s) URLs")
    fetch_timeout_s: float = _setting(10.0, _number(0.1, 600), "time allowed to fetch one URL, in seconds")
    max_in_progress: int = _setting(
        128,
        _integer(1, 4096),
        "requests with inputs that a process has in progress at once; more get 429 and `Retry-After`",
    )
    request_timeout_s: float = _setting(
        3600.0, _number(0.1, 86_400), "time that the inputs of a request may take to be embedded, in seconds"
    )
    shutdown_timeout_s: int = _setting(
        20, _integer(1, 3600), "time that requests in progress have to end after SIGTERM, in seconds"
    )
    drain_s: float = _setting(
        0.0,
        _number(0, 600),
        "time after SIGTERM in which all is still answered but `/readyz`, which is 503, in seconds",
    )
    job_lease_s: float = _setting(
        60.0, _number(1, 3600), "time after which the job of a silent worker is taken over, in seconds"
    )
    job_attempts: int = _setting(3, _integer(1, 100), "how often a job is begun before it has failed")
    log_level: str = _setting("info", _choice("debug", "info", "warning", "error"), "how much is logged")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the HEADSTART_* variables.

        Raises
        ------
        SettingsError
            A value cannot be used, or a HEADSTART_* variable is not known.
        """
        environ = os.environ if environ is None else environ
        known = {PREFIX + item.name.upper(): item for item in fields(cls)}
        values: dict[str, Any] = {}
        for variable, text in environ.items():
            if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
                continue
            if variable not in known:
                raise SettingsError(f"{variable} is not a setting; known are {', '.join(sorted(known))}")
            item = known[variable]
            try:
                values[item.name] = item.metadata["parse"](text.strip())
            except ValueError as error:
                raise SettingsError(f"{variable}={text!r}: expected {error}") from None
        return cls(**values)

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home.absolute() / 'headstart.db'}"

    @property
    def resolved_blob_url(self) -> str:
        return self.blob_url or str(self.home.absolute() / "blobs")

    @property
    def core_count(self) -> int:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def worker_count(self) -> int:
        return self.workers or self.core_count

    @property
    def thread_count(self) -> int:
        return self.threads or self.core_count

    def extractor_folder(self, name: str) -> Path:
        """Where an extractor lives: HOME/extractors/NAME, or the path itself if one was given."""
        return Path(name) if os.sep in name else self.home / "extractors" / name


# Read by the tests and benchmarks, not by the service.
OTHER_VARIABLES = frozenset({PREFIX + "DATA"})
