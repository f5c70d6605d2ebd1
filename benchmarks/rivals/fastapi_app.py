"""A bare FastAPI service: the body to a thread of its own in each worker, the answer as JSON."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request

from benchmarks.rivals.scoring import scorer


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.score = scorer()
    # One worker for each core, one thread of work in each.
    app.state.pool = ThreadPoolExecutor(1)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    data = await request.body()
    state = request.app.state
    return await asyncio.get_running_loop().run_in_executor(state.pool, state.score, data)
