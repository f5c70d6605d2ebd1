"""BentoML's smallest service, a worker for each core: what any service on BentoML starts from."""

import os

import bentoml


@bentoml.service(workers=len(os.sched_getaffinity(0)))
class Hello:
    """A name in, a greeting out."""

    @bentoml.api  # type: ignore[untyped-decorator]
    def hello(self, name: str) -> str:
        return f"hello {name}"
