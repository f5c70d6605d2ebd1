"""The queue: equal turns, deadlines, and when a batch is given out."""

import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest

from service.devices.buckets import Buckets, BucketTimes
from service.devices.policy import BatchPolicy
from service.devices.waiting import LateError, Request, Waiting

SIZES = Buckets((1, 2, 4, 8))


def queue(fixed_s: float = 0.004) -> Waiting:
    return Waiting(BatchPolicy(BucketTimes(SIZES, {size: fixed_s + 0.0001 * size for size in SIZES.sizes})))


def request(asker: int, count: int = 1, expires_at: float | None = None) -> Request:
    return Request(np.zeros((count, 2, 2, 3), np.uint8), asker, expires_at)


def test_a_large_batch_leaves_a_place_to_everybody() -> None:
    waiting = queue()
    greedy = [request(1) for _ in range(100)]
    modest = [request(2), request(3)]
    for item in (*greedy, *modest):
        waiting.put(item)
    first = waiting.next_batch()
    assert set(map(id, modest)) <= set(map(id, first))
    assert len(first) == 8


def test_within_one_asker_the_first_comes_first() -> None:
    waiting = queue()
    items = [request(1) for _ in range(12)]
    for item in items:
        waiting.put(item)
    assert list(map(id, waiting.next_batch() + waiting.next_batch())) == list(map(id, items))


def test_a_request_is_not_parted() -> None:
    waiting = queue()
    for count in (6, 3):
        waiting.put(request(1, count))
    assert [len(item) for item in waiting.next_batch()] == [6]
    assert [len(item) for item in waiting.next_batch()] == [3]


def test_a_deadline_that_has_passed_is_told_and_nothing_is_run() -> None:
    waiting = queue()
    late, punctual = request(1, expires_at=time.monotonic() - 1), request(1)
    waiting.put(late)
    waiting.put(punctual)
    assert [id(item) for item in waiting.next_batch()] == [id(punctual)]
    with pytest.raises(LateError):
        late.answer.result(0)


def test_while_the_device_is_busy_only_a_full_batch_is_given_out() -> None:
    waiting = queue()
    waiting.set_busy(True)
    waiting.put(request(1, 3))
    given: list[list[Request]] = []
    thread = threading.Thread(target=lambda: given.append(waiting.next_batch()))
    thread.start()
    thread.join(0.1)
    assert not given
    waiting.put(request(2, 5))
    thread.join(5)
    assert [len(item) for item in given[0]] == [3, 5]


def test_a_batch_that_is_not_full_is_given_out_when_the_device_is_free() -> None:
    waiting = queue()
    waiting.set_busy(True)
    waiting.put(request(1, 3))
    given: list[list[Request]] = []
    thread = threading.Thread(target=lambda: given.append(waiting.next_batch()))
    thread.start()
    waiting.set_busy(False)
    thread.join(5)
    assert [len(item) for item in given[0]] == [3]


def test_the_end_cancels_what_waits_and_what_comes() -> None:
    waiting = queue()
    before, after = request(1), request(1)
    waiting.put(before)
    waiting.close()
    waiting.put(after)
    assert waiting.next_batch() == []
    for item in (before, after):
        with pytest.raises(CancelledError):
            item.answer.result(0)
