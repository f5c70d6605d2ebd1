"""Brief work is shared: who is ready together works together, and nobody waits in vain."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from service.errors import ApiError
from service.waiting import gathering as module
from service.waiting.gathering import Gathering
from service.waiting.patience import ENDLESS, Patience
from service.waiting.turns import Turns


class Sharer(threading.Thread):
    """Shares two steps, each of which writes a line down; `error` is what came of it."""

    def __init__(
        self, gathering: Gathering, name: str, lines: list[str], patience: Patience = ENDLESS
    ) -> None:
        super().__init__(name=name)
        self.gathering, self.lines, self.patience = gathering, lines, patience
        self.error: BaseException | None = None
        self.work: Callable[[], object] = lambda: None

    def run(self) -> None:
        try:
            with self.gathering.presence():
                self.gathering.share((self.first, self.second), self.patience)
        except BaseException as error:  # noqa: BLE001
            self.error = error

    def first(self) -> None:
        self.work()
        self.lines.append(f"{self.name}1")

    def second(self) -> None:
        self.lines.append(f"{self.name}2")


def new(turns: int, most: int) -> tuple[Gathering, list[str]]:
    return Gathering(Turns(turns), most), []


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.001)


@contextmanager
def gathered(gathering: Gathering, sharers: list[Sharer]) -> Iterator[None]:
    """Threads that became ready one after the other while somebody else had the turn."""
    with gathering.turns.turn(ENDLESS):
        for count, sharer in enumerate(sharers, start=1):
            sharer.start()
            wait_until(lambda count=count: gathering.ready == count)  # type: ignore[misc]
        yield
    for sharer in sharers:
        sharer.join()


def test_who_is_ready_shares_a_turn_step_by_step() -> None:
    gathering, lines = new(1, 4)
    with gathered(gathering, [Sharer(gathering, name, lines) for name in "abc"]):
        pass
    assert lines == ["a1", "b1", "c1", "a2", "b2", "c2"]


def test_no_more_than_there_may_be_share_a_turn() -> None:
    gathering, lines = new(1, 2)
    with gathered(gathering, [Sharer(gathering, name, lines) for name in "abcde"]):
        pass
    assert lines == ["a1", "b1", "a2", "b2", "c1", "d1", "c2", "d2", "e1", "e2"]


def test_an_error_is_for_its_own_thread() -> None:
    gathering, lines = new(1, 4)
    sharers = [Sharer(gathering, name, lines) for name in "abc"]

    def fail() -> None:
        raise ValueError("b is bad")

    sharers[1].work = fail
    with gathered(gathering, sharers):
        pass
    assert lines == ["a1", "c1", "a2", "c2"]
    assert [str(sharer.error) for sharer in sharers] == ["None", "b is bad", "None"]


@pytest.mark.parametrize("impatient", [0, 1, 2])
def test_who_waits_no_more_leaves_the_others_as_they_are(impatient: int) -> None:
    gathering, lines = new(1, 4)
    sharers = [
        Sharer(gathering, name, lines, Patience(0.2) if place == impatient else ENDLESS)
        for place, name in enumerate("abc")
    ]
    with gathered(gathering, sharers):
        sharers[impatient].join()
        assert not lines
    error = sharers[impatient].error
    assert isinstance(error, ApiError)
    assert error.code == "deadline_exceeded"
    left = [name for place, name in enumerate("abc") if place != impatient]
    assert lines == [f"{name}{step}" for step in "12" for name in left]
    assert gathering.turns.waiting == gathering.ready == 0


def test_who_is_alone_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_GRACE_S", 60.0)
    gathering, lines = new(1, 4)
    sharer = Sharer(gathering, "a", lines)
    sharer.start()
    sharer.join(30)
    assert lines == ["a1", "a2"]


def test_who_is_about_to_be_ready_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_GRACE_S", 60.0)
    gathering, lines = new(1, 4)
    with gathering.presence():
        sharer = Sharer(gathering, "a", lines)
        sharer.start()
        wait_until(lambda: gathering.ready == 1)
        gathering.share((lambda: lines.append("b1"), lambda: lines.append("b2")), ENDLESS)
    sharer.join()
    assert lines == ["a1", "b1", "a2", "b2"]


def test_who_leaves_without_being_ready_is_waited_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_GRACE_S", 60.0)
    gathering, lines = new(1, 4)
    with gathering.presence():
        sharer = Sharer(gathering, "a", lines)
        sharer.start()
        wait_until(lambda: gathering.ready == 1)
        assert not lines
    sharer.join(30)
    assert lines == ["a1", "a2"]


def test_who_takes_long_to_be_ready_is_not_waited_for() -> None:
    gathering, lines = new(1, 4)
    with gathering.presence():
        sharer = Sharer(gathering, "a", lines)
        sharer.start()
        sharer.join(30)
    assert lines == ["a1", "a2"]


def require_two_at_once(gathering: Gathering) -> None:
    met, lines = threading.Barrier(2), list[str]()
    sharers = [Sharer(gathering, name, lines) for name in "xy"]
    for sharer in sharers:
        sharer.work = lambda: met.wait(10)
    sharers[0].start()
    wait_until(lambda: gathering.turns.in_use == 1)
    sharers[1].start()
    for sharer in sharers:
        sharer.join(30)
    assert sorted(lines) == ["x1", "x2", "y1", "y2"]


def test_two_turns_are_used_at_once() -> None:
    require_two_at_once(new(2, 4)[0])


def test_who_leads_already_is_not_called_to_lead_again() -> None:
    gathering, lines = new(2, 4)
    sharers = [Sharer(gathering, name, lines) for name in "abc"]
    with gathering.turns.turn(ENDLESS), gathered(gathering, sharers):
        pass
    assert len(lines) == 6
    require_two_at_once(gathering)  # a leader that nobody is would keep one of them waiting


def test_many_threads_each_get_their_own() -> None:
    gathering, total = Gathering(Turns(2), 3), [0] * 12

    def work(place: int) -> None:
        for _ in range(50):
            found: list[int] = []
            with gathering.presence():
                gathering.share((lambda: found.append(place), lambda: found.append(-place)), ENDLESS)  # noqa: B023
            assert found == [place, -place]
            total[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert total == [50] * 12
    assert gathering.ready == gathering.turns.in_use == 0
    require_two_at_once(gathering)
