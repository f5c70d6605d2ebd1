"""A head archive with one of its files changed, and put together again so that the change is reached.

Knows the layout of the archive and of a head file; knows no reader.
"""

import hashlib
import io
import json
import random
import struct
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from service.exchange.head_archive.contents import EMBEDDINGS, EXAMPLES, HEAD, INPUTS, MANIFEST
from tests.fuzz.repairs import LENGTH_BYTES, repair_head_file

METADATA = "__metadata__"
END = bytes(2 * tarfile.BLOCKSIZE)
# What is no value that the writer would write, or the last that it could.
NUMBERS = [
    *(0, 1, -1, 0.5, 1e308, 1e-308, float("inf"), float("nan"), -0.0),
    *(2**31 - 1, 2**31, 2**53, 2**53 + 1, 2**63, 10**400),
]
ODD: list[Any] = [
    *(*NUMBERS, None, True, False, [], {}, [[]], {"": 0}),
    *("", " ", "\0", "\ud800", "e\u0301", "__none__", "__x", "x" * 300, "../x", "0" * 64),
    *("auto", "embedding", "l2", "multi_label", "single_label"),
]
# How often each file is changed; of the inputs there are several.
WEIGHTS = {MANIFEST: 6, HEAD: 6, EXAMPLES: 4, EMBEDDINGS: 2}
# What a file raises that an earlier mutation has spoilt.
UNREADABLE = (KeyError, TypeError, ValueError, RecursionError, struct.error)
Mutate = Callable[[bytes], bytes]
Files = dict[str, bytes]


def mutate_head_archive(data: bytes, mutate: Mutate, seed: int) -> bytes:
    """Change the archive in a place or two; what is no archive is changed as it is."""
    rng = random.Random(seed)
    try:
        files = unpack(data)
    except (tarfile.TarError, ValueError, OverflowError, OSError):
        return mutate(data)
    if not files:
        return mutate(data)
    weights = [WEIGHTS.get(name, 1) for name in files]
    for name in dict.fromkeys(rng.choices(list(files), weights, k=rng.choice((1, 1, 2)))):
        files = _follow(files, name, _changed(name, files[name], mutate, rng), rng)
    if rng.random() < 0.07:
        files = _rearranged(files, rng)
    return pack(_sealed(files, rng))


def unpack(data: bytes) -> Files:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        found = {member.name: archive.extractfile(member) for member in archive if member.isreg()}
        return {name: stream.read() for name, stream in found.items() if stream}


def pack(files: Files) -> bytes:
    """As a tar file without the padding of its end, which would be most of it."""
    blocks = []
    for name, data in files.items():
        member = tarfile.TarInfo(name)
        member.size = len(data)
        with suppress(ValueError):  # a name that has no place in a header
            blocks += [member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape"), data]
            blocks.append(bytes(-len(data) % tarfile.BLOCKSIZE))
    return b"".join([*blocks, END])


def _changed(name: str, data: bytes, mutate: Mutate, rng: random.Random) -> bytes:
    """The bytes of a file, changed as bytes or, where there is JSON in it, in one of its values."""
    if name not in (MANIFEST, HEAD, EXAMPLES) or rng.random() < 0.3:
        return mutate(data)
    try:
        if name == MANIFEST:
            return _dumped(_odd(json.loads(data), rng))
        if name == HEAD:
            return _changed_head(data, mutate, rng)
        lines = data.splitlines(keepends=True)
        place = rng.randrange(len(lines))
        if rng.random() < 0.2:
            lines.insert(rng.randrange(len(lines)), lines.pop(place) * rng.choice((0, 1, 2)))
        else:
            lines[place] = _dumped(_odd(json.loads(lines[place]), rng)) + b"\n"
        return b"".join(lines)
    except UNREADABLE:
        return mutate(data)


def _changed_head(data: bytes, mutate: Mutate, rng: random.Random) -> bytes:
    """A head file with another value in its header or in the document in that, or with other numbers."""
    end = LENGTH_BYTES + struct.unpack_from("<Q", data.ljust(LENGTH_BYTES))[0]
    header, arrays = json.loads(data[LENGTH_BYTES:end]), data[end:]
    kind = rng.random()
    if kind < 0.25:
        arrays = mutate(arrays)[: len(arrays)].ljust(len(arrays), b"\0")
    elif kind < 0.4 or not isinstance(header, dict) or not isinstance(header.get(METADATA), dict):
        header = _odd(header, rng)
    else:
        key = rng.choice(list(header[METADATA]) or [""])
        header[METADATA][key] = _dumped(_odd(json.loads(header[METADATA].get(key, "0")), rng)).decode()
    text = _dumped(header)
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + arrays


def _odd(value: Any, rng: random.Random) -> Any:
    """The value with one place in it changed."""
    places = list(_places(value))
    if not places or rng.random() < 0.03:
        return rng.choice([*ODD, [value], {"a": value}, [value] * 3])
    inside, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.06:
        del inside[key]
    elif kind < 0.12 and isinstance(inside, dict):
        inside[rng.choice(["", "\ud800", "seed", "layers", "\0"])] = rng.choice([*ODD, inside[key]])
    elif kind < 0.16 and isinstance(inside, list):
        inside.append(inside[key])
    else:
        alike = NUMBERS if isinstance(inside[key], int | float) and rng.random() < 0.6 else ODD
        inside[key] = rng.choice(alike)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every object and list in a value, with each of its keys."""
    left = [value]
    for inside in left:
        keys = (
            list(inside)
            if isinstance(inside, dict)
            else range(len(inside))
            if isinstance(inside, list)
            else ()
        )
        for key in keys:
            yield inside, key
            left.append(inside[key])


def _follow(files: Files, name: str, data: bytes, rng: random.Random) -> Files:
    """The files with one changed. An input is named after what it is, and so do its examples, mostly."""
    if not name.startswith(INPUTS) or rng.random() < 0.1:
        return files | {name: data}
    digest, was = hashlib.sha256(data).hexdigest(), name.removeprefix(INPUTS)
    lines = []
    for line in files.get(EXAMPLES, b"").splitlines(keepends=True):
        with suppress(*UNREADABLE):
            example = json.loads(line)
            if isinstance(example, dict) and example.get("sha256") == was:
                line = _dumped(example | {"sha256": digest, "size_bytes": len(data)}) + b"\n"
        lines.append(line)
    moved = {(INPUTS + digest if other == name else other): each for other, each in files.items()}
    return moved | {INPUTS + digest: data, EXAMPLES: b"".join(lines)}


def _rearranged(files: Files, rng: random.Random) -> Files:
    """A file less, or under another name, or all in another order."""
    names = list(files)
    kind, name = rng.randrange(3), rng.choice(names)
    if kind == 0:
        rng.shuffle(names)
        return {each: files[each] for each in names}
    other = rng.choice(["", "../x", INPUTS, INPUTS + "0" * 64, "x" * 99, *names])
    return {
        (other if kind == 1 and each == name else each): files[each]
        for each in names
        if kind == 1 or each != name
    }


def _sealed(files: Files, rng: random.Random) -> Files:
    """Lengths, digests and counts are those of what is there, mostly."""
    if HEAD in files:
        files = files | {HEAD: repair_head_file(files[HEAD])}
    try:
        manifest = json.loads(files[MANIFEST])
        for name in (HEAD, EXAMPLES, EMBEDDINGS):
            if rng.random() < 0.98:
                data = files[name]
                manifest["files"][name] = {
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size_bytes": len(data),
                }
        if rng.random() < 0.9:
            manifest["examples"] = files[EXAMPLES].count(b"\n")
            manifest["inputs"] = sum(name.startswith(INPUTS) for name in files)
        return files | {MANIFEST: _dumped(manifest)}
    except UNREADABLE:
        return files


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()
