"""The shelf: what is asked for by many at once is opened once, and there is room for so many."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.shelf import Shelf


def test_a_value_is_opened_once_while_others_wait_for_it() -> None:
    shelf: Shelf[str, object] = Shelf(2)
    opened: list[object] = []
    everyone = threading.Barrier(8)

    def opening() -> object:
        opened.append(object())
        return opened[-1]

    def ask() -> object:
        everyone.wait()
        return shelf.get("a", opening)

    with ThreadPoolExecutor(8) as pool:
        found = [future.result() for future in [pool.submit(ask) for _ in range(8)]]
    assert len(opened) == 1
    assert all(value is opened[0] for value in found)


def test_another_value_is_not_waited_for() -> None:
    shelf: Shelf[str, str] = Shelf(2)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(10)
        return "slow"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(shelf.get, "a", slow)
        begun.wait(10)
        assert shelf.get("b", lambda: "fast") == "fast"
        assert shelf.peek("a") is None
        go_on.set()
        assert waiting.result() == "slow"


def test_the_least_recently_used_goes() -> None:
    shelf: Shelf[str, str] = Shelf(2)
    for key in "ab":
        shelf.get(key, key.upper)
    assert shelf.peek("a") == "A"
    shelf.get("c", lambda: "C")
    assert (shelf.peek("a"), shelf.peek("b"), shelf.values()) == ("A", None, ["C", "A"])
    shelf.drop("a")
    shelf.drop("a")
    assert shelf.values() == ["C"]


def test_a_failure_is_told_to_all_and_not_kept() -> None:
    shelf: Shelf[str, str] = Shelf(1)

    def fail() -> str:
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        shelf.get("a", fail)
    assert shelf.get("a", lambda: "A") == "A"
