"""The section of the guide that the benchmark of serving writes, and nothing beside it."""

from pathlib import Path

import pytest

from benchmarks.load import Round
from benchmarks.rivals import FASTAPI
from benchmarks.rivals import FASTAPI_WITH_OURS as WITH_OURS
from benchmarks.serving_table import (
    BARS,
    BEGIN,
    CACHED,
    END,
    OURS,
    RAW,
    RAW_ONE,
    Measured,
    add_ratios,
    markdown,
    text,
    write_guide,
)

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "performance.md"


def measured(images: int) -> Measured:
    """One round of everything: the raw limit at 100 images a second, the server at `images`."""
    found = Measured()
    for name, connections, count in (
        (OURS, 8, images),
        (RAW, 0, 100),
        (OURS, 64, images),
        ("FastAPI", 8, 50),
        ("FastAPI", 64, 40),
        (WITH_OURS.name, 8, 90),
        (WITH_OURS.name, 64, 90),
        (OURS, 1, images),
        (RAW_ONE, 0, 100),
        (CACHED, 8, 12 * images),
    ):
        found.add(name, connections, Round(count, 1.0, 0.75, 0.25, 0.5, 1e3 / count, 2e3 / count))
    return found


def test_a_bar_is_cleared_or_missed_by_the_ratio_of_one_round() -> None:
    for images, verdict in ((95, "ok  "), (60, "MISS")):
        found = measured(images)
        add_ratios(found, [FASTAPI, WITH_OURS], (8, 64))
        assert found.ratios["ratio_served_to_raw_fp32_8"] == images / 100
        assert found.ratios["ratio_to_best_rival"] == images / 50
        assert found.ratios["ratio_to_fastapi_our_decoder"] == images / 90
        assert f"{verdict} {BARS['ratio_served_to_raw_fp32_8'].meaning}" in text(found)


def test_only_what_is_between_the_marks_is_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    found = measured(95)
    add_ratios(found, [FASTAPI, WITH_OURS], (8, 64))
    for _ in range(2):
        write_guide(page, markdown(found, "Measured."))
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        written, _, after = rest.partition(END)
        assert (before, after) == ("before\n", "\nafter\n")
        assert "old" not in written
        assert written.count("| Headstart | 8 | 95.0 |") == 1


def test_a_page_without_marks_stays_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n", encoding="utf-8")
    with pytest.raises(ValueError, match="expected the marks"):
        write_guide(page, "tables")
    assert page.read_text(encoding="utf-8") == "before\n"


def test_the_guide_has_the_marks_and_verdicts_on_known_bars() -> None:
    written = GUIDE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert "python -m benchmarks.serving" in written
    table = written.partition("| what | measured | bar | |")[2].splitlines()[2:]
    meanings = [line.split(" | ")[0].removeprefix("| ") for line in table if line.startswith("|")]
    assert len(meanings) >= 9
    assert set(meanings) <= {bar.meaning for bar in BARS.values()}
