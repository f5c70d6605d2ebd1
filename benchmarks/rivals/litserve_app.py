"""LitServe: an inference worker and an API process for each core; the body travels as bytes."""

import os
import sys
from typing import Annotated, Any

import litserve
from fastapi import Body

from benchmarks.rivals.scoring import scorer


class Photographs(litserve.LitAPI):  # type: ignore[misc]
    """Raw bytes in, JSON out."""

    def setup(self, device: str) -> None:
        self.score = scorer()

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> bytes:
        return request

    def predict(self, x: bytes) -> dict[str, Any]:
        return self.score(x)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    workers = len(os.sched_getaffinity(0))
    server = litserve.LitServer(
        Photographs(api_path="/predict"),
        accelerator="cpu",
        devices=1,
        workers_per_device=workers,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=workers,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
