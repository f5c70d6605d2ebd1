"""Options name the key that is wrong."""

import json
from typing import Any

import pytest

from training.errors import FinetuneError
from training.finetune import STRATEGIES, FinetuneOptions

BAD: list[tuple[str, Any]] = [
    ("strategy", "everything"),
    ("strategy", None),
    ("keep", ""),
    ("keep", 3),
    ("epochs", -1),
    ("epochs", 1001),
    ("epochs", 1.5),
    ("epochs", True),
    ("learning_rate", -1e-3),
    ("learning_rate", 2.0),
    ("learning_rate", float("nan")),
    ("learning_rate", "fast"),
    ("learning_rate", 10**400),
    ("batch_size", 1),
    ("batch_size", 10**9),
    ("augment", "yes"),
    ("held_out", 0.0),
    ("held_out", 0.9),
    ("patience", 0),
    ("seed", -1),
    ("seed", 2**32),
    ("device", "tpu"),
    ("speed", 3),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_a_bad_value_is_named(key: str, value: Any) -> None:
    with pytest.raises(FinetuneError, match=f"^{key}: "):
        FinetuneOptions.from_dict({key: value})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_options_survive_json(strategy: str) -> None:
    options = FinetuneOptions.from_dict({"strategy": strategy, "epochs": 3, "augment": False})
    assert FinetuneOptions.from_dict(json.loads(json.dumps(options.as_dict()))) == options


def test_only_last_blocks_keeps_stages() -> None:
    assert FinetuneOptions(keep="stage3").keep == "stage3"
    with pytest.raises(FinetuneError, match=r"^keep: only last-blocks"):
        FinetuneOptions(strategy="full", keep="stage3")
