"""How a plan is carried out: by a REST call for a head, by a command for a folder. Does neither."""

import shlex
from pathlib import Path
from typing import Any

from training.advise import Plan


def rest_step(plan: Plan, head: str) -> dict[str, Any]:
    """The REST call that carries out a plan for a head."""
    if plan.layers is None:
        return _call(f"/v1/heads/{head}/finetune", body={"strategy": plan.strategy})
    return _call(f"/v1/heads/{head}/train", query={"layers": spoken_layers(plan)})


def more_examples(head: str) -> dict[str, Any]:
    """The REST call that adds examples to a head."""
    return _call(f"/v1/heads/{head}/examples")


def shell_step(plan: Plan, folder: Path, extractor: str) -> str:
    """The command that carries out a plan for a folder of images, or the call where no command does."""
    if plan.layers is None:
        output = f"{folder.resolve().name}-tuned"
        options = ["--strategy", plan.strategy, "--extractor", extractor, "--output", output]
        return shlex.join(["headstart", "finetune", str(folder), *options])
    return f"PUT /v1/heads/NAME?layers={spoken_layers(plan)} with these images"


def spoken_layers(plan: Plan) -> str:
    """The layers of a plan for a head, as the parameter `layers` takes them."""
    return plan.layers if isinstance(plan.layers, str) else ",".join(plan.layers or ())


def _call(
    path: str, *, query: dict[str, str] | None = None, body: dict[str, str] | None = None
) -> dict[str, Any]:
    return {"method": "POST", "path": path, "query": query or {}, "body": body}
