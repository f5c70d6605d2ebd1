"""Head versions as files to take away: as stored, as an ONNX model, or in one model with their extractor.

Knows no HTTP beyond the documented errors.
"""

import threading
from dataclasses import dataclass, field
from typing import Literal

from service.embedding.embedders import Embedders
from service.prediction.predictor import Predictor
from service.store import Store
from training.heads import load_head

Format = Literal["head", "onnx", "fused"]
SUFFIXES: dict[Format, str] = {"head": ".safetensors", "onnx": ".onnx", "fused": "-fused.onnx"}
# Holds the extractor in memory a few times over, so one at a time.
FUSING = threading.Lock()


@dataclass(frozen=True)
class Exported:
    """A file and what to call it."""

    data: bytes = field(repr=False)
    filename: str


class Exporter:
    """Exports published or named head versions."""

    def __init__(self, store: Store, embedders: Embedders, predictor: Predictor) -> None:
        self._store = store
        self._embedders = embedders
        self._predictor = predictor

    def export(self, name: str, *, form: Format, version: int | None) -> Exported:
        """A head version as a file; the same version always gives the same bytes.

        Parameters
        ----------
        form : "head": the head file, byte for byte as it is stored; "onnx": from embeddings to answers;
            "fused": from pixels to answers.
        version : number of a version; None for the published one.

        Raises
        ------
        HeadNotFoundError, VersionNotFoundError
            There is no such head or version, or none is published.
        ApiError, ExtractorMismatchError, ExportError
            409, only for "fused": the extractor is not loaded, its folder was altered since, or its model
            cannot be joined to a head.
        """
        head_id, number = self._predictor.locate(name, version)
        data = self._store.versions.file(head_id, number)
        if form != "head":
            data = self._onnx(data, name, number, fused=form == "fused")
        return Exported(data, f"{name}-v{number}{SUFFIXES[form]}")

    def _onnx(self, data: bytes, name: str, number: int, *, fused: bool) -> bytes:
        # Here, so that a server that is never asked for an export does not load onnx.
        from training.head_export import fused_onnx, head_onnx

        head = load_head(data)
        if not fused:
            return head_onnx(head, name=name, version=number)
        extractor = self._embedders.with_digest(head.extractor_digest).extractor
        with FUSING:
            return fused_onnx(
                extractor.model(),
                extractor.manifest,
                head,
                name=name,
                version=number,
                extractor_digest=extractor.digest,
            )
