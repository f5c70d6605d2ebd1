"""Ingestion: an HTTP request in, a batch of inputs out.

    names    what a label and an id may be
    body     the request body as bounded chunks
    batch    the frozen answer and the one place that counts and limits items
    inline   a string -> bytes: data URI, base64
    document application/json
    parts    multipart/form-data
    archive  zip
    remote   http(s) URLs, fetched; address says which of them may be
    reader   puts the above together
    linger   lets a client that is still uploading read the error

Decodes no image; knows no store, no extractor and no route.
"""

from service.ingest.batch import Batch, Input
from service.ingest.body import read_body
from service.ingest.document import parse_json
from service.ingest.linger import LingeringClose
from service.ingest.names import validate_id, validate_label
from service.ingest.reader import read_batch
from service.ingest.remote import PUBLIC_WEB, RemotePolicy

__all__ = [
    "PUBLIC_WEB",
    "Batch",
    "Input",
    "LingeringClose",
    "RemotePolicy",
    "parse_json",
    "read_batch",
    "read_body",
    "validate_id",
    "validate_label",
]
