"""Where the replicas live: a network namespace for each, on a bridge; loopback ports where there can be none.

Knows no server. Needs root and iproute2 for namespaces.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

NOBODY = "02:00:00:00:00:99"  # an Ethernet address that no interface has
_numbers = count()


class CannotIsolateError(RuntimeError):
    """This machine gives no network namespaces."""


@dataclass(frozen=True)
class Host:
    """A place for one server.

    Attributes
    ----------
    address : where it is reached.
    prefix : the command that runs another one there.
    interface : inside; empty on loopback, where nothing can be cut off.
    """

    address: str
    prefix: Sequence[str] = ()
    interface: str = ""

    def cut_off(self, address: str) -> None:
        """Let all packets to an address vanish, without a word to those who send them."""
        _ip(*self._inside(), "neigh", "replace", address, "lladdr", NOBODY, "dev", self.interface)

    def heal(self, address: str) -> None:
        _ip(*self._inside(), "neigh", "del", address, "dev", self.interface)

    def _inside(self) -> tuple[str, str]:
        return "-n", self.prefix[-1]


@dataclass(frozen=True)
class Network:
    """Hosts for replicas, and two addresses of this machine that they reach: of the database, of the rest."""

    is_isolated: bool
    database_address: str
    address: str
    hosts: Sequence[Host]


@contextmanager
def network_of(size: int) -> Iterator[Network]:
    """A network of its own with `size` hosts, or loopback, which says so itself."""
    try:
        made = _Bridged(size)
    except CannotIsolateError as error:
        print(f"\nNO NAMESPACES ({error}): all replicas share the loopback interface, nothing can be cut off")
        yield Network(False, "127.0.0.1", "127.0.0.1", [Host("127.0.0.1")] * size)
        return
    try:
        yield made.network
    finally:
        made.remove()


class _Bridged:
    """A bridge of this machine, and namespaces with a cable to it."""

    def __init__(self, size: int) -> None:
        self.name = f"hs{os.getpid() % 100000}{next(_numbers)}"
        subnet = f"10.213.{os.getpid() % 256}"
        self.network = Network(
            True,
            f"{subnet}.1",
            f"{subnet}.2",
            [
                Host(f"{subnet}.{10 + n}", ("ip", "netns", "exec", f"{self.name}-{n}"), "eth0")
                for n in range(size)
            ],
        )
        try:
            self._make()
        except (OSError, subprocess.CalledProcessError) as error:
            self.remove()
            reason = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
            raise CannotIsolateError(reason) from error

    def _make(self) -> None:
        _ip("link", "add", self.name, "type", "bridge")
        _ip("addr", "add", f"{self.network.database_address}/24", "dev", self.name)
        _ip("addr", "add", f"{self.network.address}/24", "dev", self.name)
        _ip("link", "set", self.name, "up")
        for number, host in enumerate(self.network.hosts):
            namespace, cable = host.prefix[-1], f"{self.name}v{number}"
            _ip("netns", "add", namespace)
            _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("link", "set", cable, "master", self.name, "up")
            _ip("-n", namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", namespace, "link", "set", "eth0", "up")
            _ip("-n", namespace, "link", "set", "lo", "up")

    def remove(self) -> None:
        for host in self.network.hosts:
            _ip("netns", "del", host.prefix[-1], check=False)
        _ip("link", "del", self.name, check=False)


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)
