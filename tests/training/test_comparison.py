"""What a comparison recommends, and the picture of it."""

from dataclasses import replace
from xml.etree import ElementTree as Xml

import pytest

from training.comparison import Candidate, Comparison, recommend
from training.comparison_plot import plot_comparison
from training.image_embedding import Timing
from training.shot_accuracy import ShotAccuracy

SVG = "{http://www.w3.org/2000/svg}"
SHOTS = (1, 5, 20)


def candidate(name: str, time_ms: float, final: float, half: float = 0.03) -> Candidate:
    accuracies = tuple(
        ShotAccuracy(shots, mean, mean - half, min(1.0, mean + half), 5)
        for shots, mean in zip(SHOTS, (final - 0.2, final - 0.1, final), strict=True)
    )
    timing = Timing(40, 2.0, time_ms - 2, time_ms)
    return Candidate(name, "0" * 64, "weights", 1280, 10**7, timing, 0, accuracies)


def comparison(*candidates: Candidate, folder: str = "/home/me/pets") -> Comparison:
    return Comparison(folder, {"cat": 60, "dog": 70}, (), SHOTS, (50,), 5, candidates, ())


def drawn(found: Comparison) -> Xml.Element:
    return Xml.fromstring(plot_comparison(found))


def marked(root: Xml.Element, kind: str) -> list[Xml.Element]:
    return [element for element in root.iter() if element.get("class") == kind]


def texts(root: Xml.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_the_cheapest_within_the_interval_of_the_best_is_recommended() -> None:
    found = comparison(
        candidate("large", 80, 0.95),
        candidate("middle", 20, 0.94),
        candidate("small", 8, 0.925),
        candidate("tiny", 4, 0.9),
    )
    assert (found.best.name, found.cheapest.name) == ("large", "small")
    text = recommend(found)
    assert text.startswith("large is the most accurate on these images: 95.0 % at 20 examples of each class")
    assert "small is the cheapest within that interval: 92.5 %, 8.0 ms an image, 10.0 times faster." in text
    assert text.endswith("Choose small, or large if time does not matter.")


def test_the_best_is_recommended_when_nothing_cheaper_comes_near() -> None:
    text = recommend(comparison(candidate("large", 80, 0.95), candidate("small", 8, 0.9)))
    assert text.endswith("No cheaper one is within that interval: choose large.")


def test_one_network_alone_is_no_winner() -> None:
    assert recommend(comparison(candidate("lone", 8, 0.9))).startswith(
        "lone is the only one measured: 90.0 %"
    )


def test_guessing_is_called_so() -> None:
    text = recommend(comparison(candidate("one", 8, 0.52), candidate("other", 9, 0.51)))
    assert "not told from guessing (50.0 %)" in text
    assert "hoose one" not in text


def test_the_picture_has_a_marker_for_each_network_and_count() -> None:
    found = comparison(candidate("large", 80, 0.95), candidate("small", 8, 0.92))
    root = drawn(found)
    markers = marked(root, "marker")
    assert len(markers) == len(marked(root, "interval")) == 6
    told = [marker.findtext(f"{SVG}title") for marker in markers]
    assert told[2] == "large, 20 examples of each class: 95.0 % (92.0 % to 98.0 %), 80.0 ms"
    assert {"large", "small", "1", "5", "20", "network"} <= set(texts(root))
    assert len({marker.get("fill") for marker in markers}) == 3
    # The better stands higher, the slower further right, within the axes.
    heights = [float(marker.get("cy", "0")) for marker in markers[:3]]
    assert 450 > heights[0] > heights[1] > heights[2] > 60


def test_the_picture_is_told_to_those_who_cannot_see_it_and_needs_nothing_else() -> None:
    found = comparison(candidate("large", 80, 0.95), candidate("small", 8, 0.92), folder="/tmp/cats & <dogs>")
    root = drawn(found)
    assert (root.tag, root.get("role"), root.get("aria-labelledby")) == (f"{SVG}svg", "img", "title desc")
    labels = {root.find(f"{SVG}{tag}").get("id") for tag in ("title", "desc")}
    assert labels == {"title", "desc"}
    assert root.findtext(f"{SVG}title") == "Accuracy against time of an image: cats & <dogs>"
    description = root.findtext(f"{SVG}desc") or ""
    assert recommend(found) in description
    assert "small, 5 examples of each class" in description
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "title", "desc", "rect", "text", "line", "circle", "polygon")
    }
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not [name for name in attributes if "href" in name or name.startswith("on")]


@pytest.mark.parametrize(("slow_ms", "logarithmic"), [(79, False), (81, True)])
def test_the_time_axis_is_logarithmic_where_it_spans_a_decade(slow_ms: float, logarithmic: bool) -> None:
    root = drawn(comparison(candidate("slow", slow_ms, 0.95), candidate("fast", 8, 0.92)))
    time, accuracy = (element.text or "" for element in marked(root, "axis"))
    assert time.startswith("time of an image on this machine, one thread (ms")
    assert ("logarithmic" in time) is logarithmic
    assert "%" in accuracy
    assert ("0" in texts(root)) is not logarithmic
    assert len(set(texts(root)) & {"10", "20", "50", "40", "60", "80"}) >= 3


def test_every_mark_is_on_the_canvas_however_many_networks_there_are() -> None:
    many = comparison(*(candidate(f"net-{n}", 3.0 * 1.4**n, 0.98 - n / 40) for n in range(18)))
    root = drawn(many)
    height = float(root.get("height", "0"))
    assert max(float(element.get("y", "0")) for element in root.iter(f"{SVG}text")) < height
    assert len(marked(root, "marker")) == 54
    assert len(marked(root, "interval")) == 54


def test_perfect_and_hopeless_accuracies_are_drawn() -> None:
    perfect = replace(candidate("p", 5, 1.0), accuracies=(ShotAccuracy(1, 1.0, 0.99, 1.0, 5),))
    hopeless = replace(candidate("h", 5, 0.5), accuracies=(ShotAccuracy(1, 0.0, 0.0, 0.01, 5),))
    for candidates in ((perfect,), (perfect, hopeless)):
        root = drawn(replace(comparison(*candidates), shots=(1,)))
        assert "100" in texts(root)
        assert len(marked(root, "marker")) == len(candidates)
