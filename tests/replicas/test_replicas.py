"""What clients of several replicas notice when one is restarted, killed or cut off, or the database is.

Run by `make test-replicas`, which prints the figures of docs/guide/scaling.md.
"""

import os
import signal
import time
from contextlib import ExitStack

import pytest

from benchmarks.processes import tree
from tests.replicas.conftest import Cluster, Replica
from tests.replicas.load import Load

RESTARTS = int(os.environ.get("REPLICAS_RESTARTS", "1"))  # of each replica
SOME = 40
RECOVERY_S = 20.0
DOWN_S = 2.0


def await_readiness(replica: Replica, status: int) -> float:
    """How long it took, in seconds."""
    start = time.monotonic()
    while replica.readiness() != status:
        assert time.monotonic() < start + RECOVERY_S
        time.sleep(0.05)
    return time.monotonic() - start


def test_a_rolling_restart_loses_no_request(cluster: Cluster) -> None:
    before = cluster.examples()
    with Load(cluster.balancer.url) as load:
        load.answer_some(SOME)
        for _ in range(RESTARTS):
            for replica in cluster.replicas:
                replica.stop()
                load.answer_some(SOME // 3)
                replica.launch()
                replica.wait_until_ready()
                load.answer_some(SOME)
    print(
        f"\nrolling restart: {RESTARTS * len(cluster.replicas)} restarts under load, {load.requests}"
        f" requests, {load.failed().total()} failed, {load.added} of them changes"
    )
    assert not load.failed(), load.failed()
    assert cluster.examples() == before + load.added


def test_a_killed_replica_is_noticed_by_none_who_only_ask(cluster: Cluster) -> None:
    before = cluster.examples()
    killed = cluster.replicas[0]
    with Load(cluster.balancer.url, first=100_000) as load:
        load.answer_some(SOME)
        for pid in tree(killed.pid):
            os.kill(pid, signal.SIGKILL)
        assert killed.server is not None
        killed.server.process.wait()
        load.answer_some(SOME)
        killed.launch()
        killed.wait_until_ready()
        load.answer_some(SOME)
    lost = load.failed("add")
    print(
        f"\nkill -9 of one of {len(cluster.replicas)}: {load.requests} requests,"
        f" {load.failed().total()} failed; of {load.added} changes {lost.total()} were refused and sent"
        f" again: {dict(lost)}"
    )
    assert load.failed() == lost, load.failed()
    assert cluster.examples() == before + load.added


def test_all_go_on_by_themselves_after_the_database_was_away(cluster: Cluster) -> None:
    before = cluster.examples()
    with Load(cluster.balancer.url, first=200_000) as load:
        load.answer_some(SOME)
        cluster.postgres.kill()
        time.sleep(DOWN_S)
        assert [replica.readiness() for replica in cluster.replicas] == [503] * len(cluster.replicas)
        cluster.postgres.start()
        longest_s = max(await_readiness(replica, 200) for replica in cluster.replicas)
        load.answer_some(SOME)
    print(
        f"\ndatabase killed, {DOWN_S} s away: {load.requests} requests, failed meanwhile"
        f" {dict(load.failed())}; all ready at most {longest_s:.1f} s after it was back"
    )
    assert {outcome for _, outcome in load.failed()} <= {"503", "409"}, load.failed()
    assert cluster.examples() == before + load.added


def test_a_replica_that_loses_the_database_is_left_out_until_it_finds_it_again(cluster: Cluster) -> None:
    if not cluster.network.is_isolated:
        pytest.skip("no network namespaces here: NOT TESTED")
    before = cluster.examples()
    cut = cluster.replicas[1]
    database = cluster.network.database_address
    addresses = [replica.address for replica in cluster.replicas]
    with ExitStack() as stack:
        stack.enter_context(cluster.balancer.watching(addresses))
        load = stack.enter_context(Load(cluster.balancer.url, first=300_000))
        load.answer_some(SOME)
        cut.host.cut_off(database)
        start = time.monotonic()
        while not any(line.endswith(" down;") for line in cluster.balancer.replicas):
            assert time.monotonic() < start + RECOVERY_S
            time.sleep(0.1)
        left_out_s = time.monotonic() - start
        load.answer_some(SOME)
        cut.host.heal(database)
        recovered_s = await_readiness(cut, 200)
        while any(line.endswith(" down;") for line in cluster.balancer.replicas):
            assert time.monotonic() < start + 3 * RECOVERY_S
            time.sleep(0.1)
        load.answer_some(SOME)
    print(
        f"\none replica cut off from the database: left out after {left_out_s:.1f} s, ready"
        f" {recovered_s:.1f} s after it was healed; {load.requests} requests, failed {dict(load.failed())}"
    )
    assert not load.failed("predict"), load.failed()
    assert {outcome for _, outcome in load.failed()} <= {"503", "409"}, load.failed()
    assert cluster.examples() == before + load.added
