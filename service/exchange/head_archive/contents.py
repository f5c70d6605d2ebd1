"""What a head archive is: a tar file, not compressed, with these files in this order and no others.

    manifest.json      what the head is, and sha256 and size of the next three
    head.safetensors   the head file of the version
    examples.ndjson    a line for each example, in their order: label, sha256 and size of the input, its id
    embeddings.f32     rows of the extractor, little-endian float32, (inputs, width), in that order
    inputs/SHA256      the bytes of each kept input

Knows no store. Believes nothing of what it reads.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import ApiError
from service.ingest import validate_id, validate_label
from service.store import MULTI_LABEL, SINGLE_LABEL, NewExample, Task
from training.errors import SupportSetError
from training.heads import FitOptions

FORMAT = "headstart-head"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
HEAD = "head.safetensors"
EXAMPLES = "examples.ndjson"
EMBEDDINGS = "embeddings.f32"
INPUTS = "inputs/"
HASHED = (HEAD, EXAMPLES, EMBEDDINGS)

MOST_EXAMPLES = 200_000  # their labels and keys are in memory all at once
MOST_MANIFEST_BYTES = 1 << 20
MOST_LINE_BYTES = 16 * 1024  # of an example: a label of 256 characters and an id of 512, in JSON
MOST_MESSAGE_CHARS = 400
MOST_COUNT = 2**31 - 1
MOST_BYTES = 2**53
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class File:
    """A file of the archive as it was written."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class About:
    """The manifest.

    Attributes
    ----------
    width : of a row of the extractor: an embedding and its taps.
    version, trained_on : number of the version where it was made, and how many examples it was trained on.
    fit : the options that it was trained with.
    examples, inputs : how many there are; of the inputs those that are kept.
    files : those of `HASHED`.
    """

    head: str
    task: Task
    keep_inputs: bool
    extractor: str
    digest: str
    width: int
    version: int
    trained_on: int
    fit: Mapping[str, Any]
    examples: int
    inputs: int
    files: Mapping[str, File]
    library_version: str

    def as_json(self) -> bytes:
        document = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "library_version": self.library_version,
            "head": self.head,
            "task": self.task,
            "keep_inputs": self.keep_inputs,
            "extractor": {"name": self.extractor, "digest": self.digest, "width": self.width},
            "version": {"number": self.version, "examples": self.trained_on, "fit": dict(self.fit)},
            "examples": self.examples,
            "inputs": self.inputs,
            "files": {
                name: {"sha256": file.sha256, "size_bytes": file.size_bytes}
                for name, file in self.files.items()
            },
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def read(cls, data: bytes) -> "About":
        """A manifest from its bytes.

        Raises
        ------
        ApiError
            422 `invalid_head_archive`.
        """
        try:
            document = json.loads(data)
            if document["format"] != FORMAT or document["format_version"] != FORMAT_VERSION:
                raise ValueError(f"expected {FORMAT} {FORMAT_VERSION}")
            extractor, version, files = document["extractor"], document["version"], document["files"]
            task = _one_of(document["task"], (SINGLE_LABEL, MULTI_LABEL))
            return cls(
                head=_text(document["head"]),
                task=MULTI_LABEL if task == MULTI_LABEL else SINGLE_LABEL,
                keep_inputs=_one_of(document["keep_inputs"], (False, True)),
                extractor=_text(extractor["name"]),
                digest=_sha256(extractor["digest"]),
                width=_count(extractor["width"]),
                version=_count(version["number"]),
                trained_on=_count(version["examples"]),
                fit=FitOptions(**{**version["fit"], "task": task}).as_dict(),
                examples=_count(document["examples"]),
                inputs=_count(document["inputs"]),
                files={
                    name: File(_sha256(files[name]["sha256"]), _count(files[name]["size_bytes"], MOST_BYTES))
                    for name in HASHED
                },
                library_version=_text(document["library_version"]),
            )
        except (KeyError, TypeError, ValueError, RecursionError, SupportSetError) as error:
            raise refused(f"{MANIFEST}: {error!r}") from error


def example_line(label: str, sha256: str, size_bytes: int, source_id: str | None) -> bytes:
    """One line of `examples.ndjson`."""
    example = {"label": label, "sha256": sha256, "size_bytes": size_bytes, "id": source_id}
    return json.dumps(example, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def read_example(line: bytes) -> NewExample:
    """One example from its line.

    Raises
    ------
    ApiError
        422: `invalid_head_archive`, or what is wrong with its label or id.
    """
    try:
        found = json.loads(line)
        label, source_id = _text(found["label"]), found["id"]
        size_bytes = _count(found["size_bytes"], MOST_BYTES)
        example = NewExample(label, _sha256(found["sha256"]), size_bytes, source_id)
        if source_id is not None:
            validate_id(_text(source_id))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise refused(f"{EXAMPLES}: {error!r}") from error
    if validate_label(label, "label") != label:
        raise refused(f"{EXAMPLES}: expected labels in Unicode form NFC, found {label!r}")
    return example


def refused(message: str) -> ApiError:
    text = f"not a head archive that can be used: {message}"
    return ApiError(422, "invalid_head_archive", text[:MOST_MESSAGE_CHARS])


def too_many() -> ApiError:
    message = f"a head archive can have {MOST_EXAMPLES} examples: use `headstart backup` for a larger head"
    return ApiError(413, "archive_too_large", message)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r:.80}")
    return value


def _sha256(value: Any) -> str:
    if not SHA256.fullmatch(_text(value)):
        raise ValueError(f"expected a sha256, found {value!r:.80}")
    return str(value)


def _count(value: Any, most: int = MOST_COUNT) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise TypeError(f"expected a whole number, found {value!r:.80}")
    return value


def _one_of(value: Any, choices: tuple[Any, ...]) -> Any:
    if type(value) is not type(choices[0]) or value not in choices:
        raise ValueError(f"expected one of {choices}, found {value!r:.80}")
    return value
