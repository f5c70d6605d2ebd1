"""What a request costs behind one, two and three replicas.

All share the cores of one machine, so that throughput cannot grow with replicas here. Processor time per
request says whether it could: on machines of their own, replicas that cost no more each are as many times
as fast.
"""

import http.client
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.main_job import images_of
from benchmarks.processes import processor_seconds, settle
from benchmarks.server import free_port
from tests.replicas.balancer import balanced
from tests.replicas.conftest import SIZE, Cluster, Replica
from tests.replicas.load import HEAD

REQUESTS = int(os.environ.get("REPLICAS_REQUESTS", "120"))
CLIENTS = 4
ROUNDS = (1, 2, 3, 3, 2, 1)
BOUND = 1.25  # of the cost behind one; the rounds of one kind differ by some percent themselves


@pytest.fixture(scope="module")
def photographs(data_root: Path) -> list[bytes]:
    return [path.read_bytes() for path in images_of(data_root / "cats_dogs")["cat"][:40]]


def predict(url: str, photographs: Sequence[bytes], first: int) -> None:
    """Photographs that no cache has seen, by some clients, each with its connection."""
    host, _, port = url.removeprefix("http://").partition(":")

    def ask(client: int) -> None:
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        for number in range(client, REQUESTS, CLIENTS):
            body = photographs[number % len(photographs)] + str(first + number).encode()
            connection.request("POST", f"/v1/heads/{HEAD}/predict", body)
            response = connection.getresponse()
            response.read()
            assert response.status == 200
        connection.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, range(CLIENTS)))


def used(replicas: Sequence[Replica]) -> list[float]:
    """Processor time of each so far, once it has nothing left to do, in seconds."""
    for replica in replicas:
        settle(replica.pid)
    return [processor_seconds(replica.pid) for replica in replicas]


def test_a_request_costs_as_much_behind_three_replicas_as_behind_one(
    cluster: Cluster, photographs: list[bytes], tmp_path: Path
) -> None:
    firsts = itertools.count(0, REQUESTS)
    taken_s = dict.fromkeys(range(1, SIZE + 1), 0.0)
    shares: list[float] = []
    for place, size in enumerate([0, *ROUNDS]):  # the first one warms up
        replicas = cluster.replicas[: size or SIZE]
        address = f"{cluster.network.address}:{free_port()}"
        with balanced(tmp_path / f"{place}", address, [replica.address for replica in replicas]) as balancer:
            before = used(replicas)
            predict(balancer.url, photographs, next(firsts))
            taken = [after - was for after, was in zip(used(replicas), before, strict=True)]
        if size:
            taken_s[size] += sum(taken)
        if size == SIZE:
            shares += [part / sum(taken) for part in taken]
    cost_ms = {size: 1000 * total / (REQUESTS * ROUNDS.count(size)) for size, total in taken_s.items()}
    print(
        f"\n{REQUESTS} new photographs a round, processor time of the replicas per request: "
        + ", ".join(f"{cost:.1f} ms behind {size}" for size, cost in cost_ms.items())
        + f"; of three, the busiest did {max(shares):.0%}, the idlest {min(shares):.0%}"
    )
    assert max(cost_ms.values()) <= BOUND * cost_ms[1], cost_ms
