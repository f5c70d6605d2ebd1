"""What it means for a head that its extractor was fine-tuned on the head's own examples: figures too high.

Held-out answers are honest only if nothing before them has seen the example; a tuned extractor has.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from training.heads import Head

WARNING = {
    "code": "tuned_on_these_examples",
    "message": "The extractor was fine-tuned on examples of this head, so the accuracy reported here is too"
    " high. Trust the version that the fine-tuning made, or evaluate on inputs that it has not seen.",
}


def is_tuned_on(origin: Mapping[str, Any] | None, name: str) -> bool:
    """Whether an extractor of this origin was fine-tuned on examples of the head of this name."""
    return origin is not None and origin.get("head") == name


def warned(head: Head, origin: Mapping[str, Any] | None, name: str) -> Head:
    """The head, fitted as the one of this name, with the warning in its report if it is due."""
    if not is_tuned_on(origin, name):
        return head
    return replace(head, report=replace(head.report, warnings=(WARNING, *head.report.warnings)))
