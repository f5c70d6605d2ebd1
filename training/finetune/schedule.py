"""How long each strategy trains, and from which stage on. Knows no tensor: advice tells the cost by it."""

# Training inputs below which so few weights can be learned that only the last stages are trained.
FEW_INPUTS = 100
# Inputs that training looks at in all epochs together, and the bounds of the epochs that makes.
LOOKS = {"last-blocks": 12_000, "full": 8_000, "conservative": 12_000, "scratch": 8_000}
FEWEST_EPOCHS, MOST_EPOCHS = 6, {"last-blocks": 25, "full": 10, "conservative": 15, "scratch": 10}


def epochs_for(strategy: str, train_count: int) -> int:
    """Epochs over so many training inputs, unless the caller says otherwise."""
    wanted = round(LOOKS[strategy] / max(train_count, 1))
    return min(max(wanted, FEWEST_EPOCHS), MOST_EPOCHS[strategy])


def kept_stage(stages: list[str], train_count: int) -> str:
    """The last stage that `last-blocks` keeps: few inputs can move few weights.

    The first stages take most of the time and fit most images.
    """
    few = train_count < FEW_INPUTS
    return stages[max(len(stages) - 2 if few else len(stages) // 2 - 1, 0)]
