"""Three servers in namespaces of their own, on one PostgreSQL and one S3, behind nginx."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from benchmarks.server import STOP_TIMEOUT_S, Server, free_port, launch, wait_until_ready
from tests.replicas.balancer import Balancer, balanced
from tests.replicas.load import HEAD
from tests.replicas.network import Host, Network, network_of
from tests.service.api.conftest import photographs
from tests.service.store.postgres import PostgresServer, running_postgres
from tests.service.store.s3 import BUCKET, CREDENTIALS, running_s3

SIZE = 3
PORT = 3000
EXAMPLES_PER_CLASS = 4


@dataclass
class Replica:
    """A server that can be stopped, killed and started again in its place."""

    host: Host
    port: int
    home: Path
    extractor: Path
    settings: dict[str, str]
    server: Server | None = field(default=None, init=False)

    @property
    def address(self) -> str:
        return f"{self.host.address}:{self.port}"

    @property
    def pid(self) -> int:
        assert self.server is not None
        return self.server.process.pid

    def launch(self) -> None:
        place = {"HEADSTART_HOST": self.host.address, "HEADSTART_PORT": str(self.port)}
        self.server = launch(
            self.home, extractor=self.extractor, settings=self.settings | place, prefix=self.host.prefix
        )

    def wait_until_ready(self) -> None:
        assert self.server is not None
        wait_until_ready(self.server)

    def stop(self) -> None:
        """Ask it to finish; it must do so by itself."""
        if self.server is not None:
            self.server.process.send_signal(signal.SIGTERM)
            assert self.server.process.wait(STOP_TIMEOUT_S) == 0
        self.server = None

    def end(self) -> None:
        """Whatever state it is in."""
        if self.server is not None:
            self.server.stop()

    def readiness(self) -> int:
        return httpx.get(f"http://{self.address}/readyz", timeout=30, trust_env=False).status_code


@dataclass(frozen=True)
class Cluster:
    """Everything that a test may break."""

    network: Network
    postgres: PostgresServer
    replicas: list[Replica]
    balancer: Balancer

    def examples(self) -> int:
        """How many the head has, beyond those that it was made of."""
        with self.balancer.client() as client:
            total: int = client.get(f"/v1/heads/{HEAD}").raise_for_status().json()["examples"]
        return total - 2 * EXAMPLES_PER_CLASS


@pytest.fixture(scope="session")
def cluster(lite0_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with (
        network_of(SIZE) as network,
        running_postgres(durable=True, host=network.database_address) as postgres,
        running_s3(network.address) as s3,
    ):
        settings = {
            "HEADSTART_DATABASE_URL": postgres.create_database(),
            "HEADSTART_BLOB_URL": f"s3://{BUCKET}",
            "HEADSTART_WORKERS": "1",
            "HEADSTART_ALLOW_ANONYMOUS": "true",
            "AWS_ENDPOINT_URL": s3,
            **CREDENTIALS,
        }
        replicas = [
            Replica(
                host,
                PORT if network.is_isolated else free_port(),
                folder / f"home{number}",
                lite0_folder,
                settings,
            )
            for number, host in enumerate(network.hosts)
        ]
        try:
            for replica in replicas:
                replica.launch()
            for replica in replicas:
                replica.wait_until_ready()
            addresses = [replica.address for replica in replicas]
            with balanced(folder / "nginx", f"{network.address}:{free_port()}", addresses) as balancer:
                with balancer.client() as client:
                    answer = client.put(f"/v1/heads/{HEAD}", files=photographs(0, EXAMPLES_PER_CLASS))
                    assert answer.status_code == 201, answer.text
                where = "network namespaces" if network.is_isolated else "loopback ports"
                print(f"\n{SIZE} replicas in {where}, on PostgreSQL and S3, behind nginx")
                yield Cluster(network, postgres, replicas, balancer)
        finally:
            with ExitStack() as ends:
                for replica in replicas:
                    ends.callback(replica.end)
