import threading

from threadpoolctl import threadpool_info

from tests.training.heads.clouds import clouds
from training.heads import fit_head
from training.heads.threads import MOST, one_thread_for


def _threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_small_fits_take_one_thread_and_large_ones_what_there_is() -> None:
    before = _threads()
    with one_thread_for(200):
        assert _threads() == {1}
    for examples in (2, MOST + 1):
        with one_thread_for(examples):
            assert _threads() == before
    assert _threads() == before


def test_fits_that_overlap_leave_the_threads_as_they_were() -> None:
    before = _threads()
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with one_thread_for(200):
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with one_thread_for(200):
        thread.start()
        assert entered.wait(60)
        assert _threads() == {1}
    leave.set()
    thread.join()
    assert _threads() == before
    with one_thread_for(200):
        assert _threads() == {1}


def test_a_thread_that_fits_in_the_background_takes_one_too() -> None:
    seen: list[set[int]] = []

    def fit() -> None:
        with one_thread_for(200):
            seen.append(_threads())

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert seen == [{1}]


def test_a_large_fit_leaves_the_threads_as_they_were() -> None:
    before = _threads()
    embeddings, labels = clouds(4, MOST // 4 + 1, dim=16, spread=3.0)
    head = fit_head(embeddings, labels, extractor_digest="d")
    assert head.report.examples > MOST
    assert _threads() == before
