"""Advice in plain words: a summary, the reasons with their figures, what is in doubt. Decides nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training.advise.measures import Measures
from training.advise.plans import LITTLE_ROOM, Plan, layers_plan, room, spoken_minutes
from training.heads.options import AUTO

FEWEST_OF_A_CLASS, ENOUGH_OF_A_CLASS = 5, 20


@dataclass(frozen=True)
class Warned:
    """What advice cannot rely on: a stable code, and words."""

    code: str
    message: str


def summarise(scenario: int | None, plans: Sequence[Plan], measures: Measures, enough: bool) -> str:
    """The case, and the first of the plans with what to expect of it."""
    size, best = measures.size, plans[0]
    if not enough and size.level == "small":
        return _too_little(scenario, measures)
    case = (
        f"{size.level.capitalize()}, and its likeness to what the network was trained on is unknown"
        if scenario is None
        else f"Scenario {scenario}: {size.level}, and {_likeness(measures)} what the network was trained on"
    )
    text = f"{case}. Recommended: {best.what}.{_expectation(plans)}"
    left = room(measures)
    if scenario in (2, 3) and left is not None and left < LITTLE_ROOM:
        text += " Heads are right so often already that training the network could hardly gain anything."
    return text


def _too_little(scenario: int | None, measures: Measures) -> str:
    size = measures.size
    why = (
        "the answers of a head to examples it had not seen are not better than guesses beyond doubt"
        if measures.embedding.held_out
        else "no class has a second example to check with"
    )
    todo = (
        f"add examples, at least {FEWEST_OF_A_CLASS} of each class, better {ENOUGH_OF_A_CLASS}"
        if size.median < ENOUGH_OF_A_CLASS
        else "look at the labels, and whether the images show the difference at all"
    )
    if measures.tuned_on and not measures.embedding.held_out:
        why = "the extractor was trained on those that a head could be checked with"
        todo = "add examples that the extractor has not seen"
    guess = "" if scenario is None else f" As far as can be told, it is scenario {scenario}."
    return (
        f"Too little to judge any strategy by: {size.examples} examples of {size.classes} classes, and "
        f"{why}. Keep the head on the frozen extractor and {todo}; then ask again.{guess}"
    )


def _expectation(plans: Sequence[Plan]) -> str:
    best, gain, cost = plans[0], plans[0].gain, plans[0].cost
    if best.strategy == "layers":
        usual = " Elsewhere it gave 1 to 5 points." if best.layers != AUTO else ""
        return f" It changes what the embedding alone gives {_spoken(best)}.{usual}"
    if best.strategy == "head" or gain.low is None or gain.high is None:
        return ""
    time = "" if cost.minutes is None else f", about {spoken_minutes(cost.minutes)} on one core"
    text = (
        f" That takes up to {cost.epochs} epochs over the images{time}; on other data it gave "
        f"{100 * gain.low:.0f} to {100 * gain.high:.0f} points, and need not help here."
    )
    quick = next((plan for plan in plans if plan.strategy == "layers"), None)
    if quick is not None:
        text += f" At no cost, {quick.what} changes what the embedding alone gives {_spoken(quick)}."
    return text


def _likeness(measures: Measures) -> str:
    sure = measures.similarity.is_sure
    if measures.similarity.level == "high":
        return "like" if sure else "probably like"
    return "unlike" if sure else "probably unlike"


def _spoken(plan: Plan) -> str:
    gain = plan.gain
    if gain.estimate is None or gain.low is None or gain.high is None:
        return ""
    doubt = "" if gain.low > 0 or gain.high < 0 else ", which is within the noise"
    return (
        f"by {100 * gain.estimate:+.1f} points of cross-validated accuracy "
        f"({100 * gain.low:+.1f} to {100 * gain.high:+.1f}){doubt}"
    )


def reasons(measures: Measures) -> Iterator[str]:
    """The figures behind advice, a sentence each."""
    size, similarity, head = measures.size, measures.similarity, measures.embedding
    counted = f"{size.least}" if size.least == size.most else f"{size.least} to {size.most}"
    yield (
        f"{size.examples} examples of {size.classes} classes, {counted} of a class, for {size.dimensions} "
        f"dimensions: {size.level}."
    )
    if similarity.distance is not None:
        yield (
            f"The early layers are {similarity.distance:.2f} deviations from what they are on the source "
            f"(95 %: {similarity.low:.2f} to {similarity.high:.2f}): photographs measured .10 to .17, blood "
            "cells and skin lesions .40 to .42."
        )
    if similarity.opinion is not None:
        opinion = similarity.opinion
        yield (
            f"The network's own classifier gives its first class {opinion.max_probability:.2f} (median), and "
            f"its entropy is {opinion.entropy_share:.2f} of the largest."
        )
    if head.accuracy is not None and head.balanced is not None:
        yield (
            f"A head on the embedding is right in {100 * head.accuracy:.1f} % of {head.held_out} held-out "
            f"examples ({100 * (head.low or 0):.1f} to {100 * (head.high or 0):.1f} %), "
            f"{100 * head.balanced:.1f} % with every class alike; guesses are in {100 * head.chance:.1f} %."
        )
    if len(measures.chosen.layers) > 1:
        names, spoken = ", ".join(measures.chosen.layers), _spoken(layers_plan(measures, every=False))
        yield f"The layers that `auto` takes ({names}) change that {spoken}."
    if measures.every.layers not in (measures.embedding.layers, measures.chosen.layers):
        spoken = _spoken(layers_plan(measures, every=True))
        if spoken:
            yield f"All layers together change that {spoken}."
    if measures.forecast is not None:
        each, accuracy = measures.forecast["examples_per_class"], measures.forecast["accuracy"]
        yield f"With twice as many examples ({each:.0f} of a class) it would be about {100 * accuracy:.1f} %."


def warnings(measures: Measures, enough: bool, examined: int) -> Iterator[Warned]:
    """What is in doubt, worst first; `examined`: examples that figures were taken from."""
    size, similarity, head = measures.size, measures.similarity, measures.embedding
    if measures.tuned_on:
        yield Warned(
            "tuned_on_these_examples",
            f"The extractor was trained on {measures.tuned_on} of {examined} examples. How good heads and "
            f"layers are is told by others alone, {head.held_out} of which could be held out.",
        )
    if not head.held_out:
        yield Warned("not_validated", "No example could be held out: how good a head is cannot be told.")
    elif not enough:
        yield Warned(
            "not_above_chance",
            "Held-out answers are not better than guesses beyond doubt. If there are more than a few of each "
            "class, look at the labels: the checks of a head list those that are probably wrong.",
        )
    few = [label for label, count in size.counts.items() if count < FEWEST_OF_A_CLASS]
    if few:
        yield Warned(
            "few_examples",
            f"{len(few)} of {size.classes} classes have fewer than {FEWEST_OF_A_CLASS} examples: the "
            "accuracy of heads, and what one gains over another, is a rough guess.",
        )
    if similarity.level is None:
        yield Warned(
            "similarity_unknown",
            "The extractor came with neither a classifier nor statistics of its source: whether the images "
            "are like those it learned from cannot be told, and so not which scenario this is.",
        )
    elif similarity.distance is None:
        yield Warned(
            "no_source_statistics",
            "The extractor has no statistics of its source, so the similarity rests on the answers of its "
            "classifier alone: a weaker verdict.",
        )
    if similarity.level is not None and not similarity.is_sure:
        yield Warned(
            "similarity_unsure",
            f"The images are neither clearly like nor clearly unlike the source (confidence "
            f"{similarity.confidence:.2f}): compare the recommendation with its alternatives.",
        )
    if examined < size.examples:
        yield Warned(
            "sampled",
            f"Figures other than the counts are of {examined} examples, in the proportions of all.",
        )
