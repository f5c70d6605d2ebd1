"""What advice says that training takes is what training does by default."""

import pytest

from training.advise import plans
from training.finetune import FinetuneOptions, recipe


def test_epochs_are_those_of_fine_tuning() -> None:
    assert {strategy: recipe.LOOKS[strategy] for strategy in plans.LOOKS} == plans.LOOKS
    assert (recipe.FEWEST_EPOCHS, recipe.MOST_EPOCHS) == (plans.FEWEST_EPOCHS, plans.MOST_EPOCHS)
    assert recipe.FEW_INPUTS == plans.FEW_INPUTS
    assert FinetuneOptions().held_out == plans.HELD_OUT


@pytest.mark.parametrize(
    ("minutes", "spoken"), [(0.2, "a minute"), (14.4, "14 minutes"), (89, "89 minutes"), (150, "2 hours")]
)
def test_times_are_told_roughly(minutes: float, spoken: str) -> None:
    assert plans.spoken_minutes(minutes) == spoken
