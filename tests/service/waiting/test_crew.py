"""A crew does all that it was given, in order where it is one thread, and ends when it is told to."""

import threading

from service.waiting.crew import Crew


def test_all_work_is_done_before_it_ends() -> None:
    done: list[int] = []
    crew = Crew(1, "one")
    for number in range(100):
        crew.submit(lambda number=number: done.append(number))
    crew.close()
    assert done == list(range(100))


def test_as_many_work_at_once_as_there_are_threads() -> None:
    met = threading.Barrier(4)
    names: set[str] = set()

    def work() -> None:
        met.wait(30)
        names.add(threading.current_thread().name)

    crew = Crew(3, "three")
    for _ in range(3):
        crew.submit(work)
    met.wait(30)
    crew.close()
    assert names == {"three_0", "three_1", "three_2"}
