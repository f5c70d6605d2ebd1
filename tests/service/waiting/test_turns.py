"""Turns: as many at once as there are, first come, first served, and nobody waits in vain."""

import threading
import time

import pytest

from service.errors import ApiError
from service.waiting.patience import ENDLESS, Patience
from service.waiting.turns import Turns


class Worker(threading.Thread):
    """Takes `count` turns and writes its name down at each; returns from `started` once it waits."""

    def __init__(self, turns: Turns, name: str, count: int, taken: list[str], brief: bool) -> None:
        super().__init__(name=name)
        self.turns, self.count, self.taken, self.brief = turns, count, taken, brief

    def run(self) -> None:
        for _ in range(self.count):
            with self.turns.turn(ENDLESS, brief=self.brief):
                self.taken.append(self.name)


def begin(turns: Turns, name: str, count: int, taken: list[str], *, brief: bool = False) -> Worker:
    waiting = turns.waiting
    worker = Worker(turns, name, count, taken, brief)
    worker.start()
    while turns.waiting == waiting:
        time.sleep(0.001)
    return worker


def test_a_batch_goes_to_the_end_of_the_queue_after_each_chunk() -> None:
    turns, taken = Turns(1), []
    with turns.turn(ENDLESS):
        workers = [begin(turns, name, count, taken) for name, count in (("batch", 5), ("a", 1), ("b", 1))]
    for worker in workers:
        worker.join()
    assert taken == ["batch", "a", "b", "batch", "batch", "batch", "batch"]


def test_no_more_than_there_are_turns_work_at_once() -> None:
    turns, inside, most = Turns(2), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with turns.turn(ENDLESS):
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.001)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_brief_work_has_its_share_and_a_batch_takes_what_is_left() -> None:
    turns, taken = Turns(2, brief_at_once=1), []
    with turns.turn(ENDLESS, brief=True):
        second = begin(turns, "brief", 1, taken, brief=True)
        with turns.turn(ENDLESS):  # a batch goes past work that may not begin yet
            assert turns.waiting == 1
        assert (taken, turns.waiting) == ([], 1)
    second.join()
    assert taken == ["brief"]
    with (
        turns.turn(ENDLESS),
        turns.turn(ENDLESS),
    ):  # a batch has all turns, and brief work waits for one of them
        third = begin(turns, "brief", 1, taken, brief=True)
        assert taken == ["brief"]
    third.join()
    assert taken == ["brief", "brief"]


def test_who_has_waited_long_enough_leaves_the_queue() -> None:
    turns = Turns(1)
    with turns.turn(ENDLESS):
        start = time.monotonic()
        with pytest.raises(ApiError, match=r"within the 0\.05 s") as caught, turns.turn(Patience(0.05)):
            pass
        assert time.monotonic() - start < 1
        assert turns.waiting == 0
    assert (caught.value.status, caught.value.code) == (504, "deadline_exceeded")
    with turns.turn(Patience(0.05)):  # the turn was not lost
        pass


def test_a_turn_of_one_who_is_gone_goes_to_the_next() -> None:
    turns, taken = Turns(1), []
    gone = Patience(60)
    failed = []

    def leave() -> None:
        try:
            with turns.turn(gone):
                taken.append("gone")
        except ApiError as error:
            failed.append(error.code)

    with turns.turn(ENDLESS):
        leaver = threading.Thread(target=leave)
        leaver.start()
        while not turns.waiting:
            time.sleep(0.001)
        stayer = begin(turns, "stays", 1, taken)
        gone.gone = True
    leaver.join()
    stayer.join()
    assert (taken, failed) == (["stays"], ["deadline_exceeded"])
