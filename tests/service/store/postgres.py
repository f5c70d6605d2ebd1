"""A PostgreSQL server of the tests' own: in a temporary folder, on a free loopback port, by a plain user.

Its binaries come from the system (Debian: `apt-get install postgresql`). It touches nothing else.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from tests.service.store.s3 import free_port

USER = "headstart"
PASSWORD = "only-for-tests"
UNPRIVILEGED = ("postgres", "nobody")  # who runs the server where the tests run as root
START_TIMEOUT_S = 60
LOOPBACK = "127.0.0.1"
FORGETFUL = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")


@cache
def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`; None where PostgreSQL is not installed."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    return newest.parent if newest else None


class PostgresServer:
    """A server that can be stopped, killed and started again on the same files and port."""

    def __init__(self, folder: Path, options: Sequence[str], host: str = LOOPBACK) -> None:
        self.host = host
        self.port = free_port()
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}:{PASSWORD}@{self.host}:{self.port}/{database}"

    def create_files(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        _give_away(self._folder, password)
        command = [
            *(
                str(_binary("initdb")),
                "--pgdata",
                str(self._folder / "data"),
                "--username",
                USER,
                "--no-sync",
            ),
            *("--auth", "scram-sha-256", "--pwfile", str(password), "--encoding", "UTF8"),
            *("--locale", "C.UTF-8"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **_as_unprivileged())
        assert done.returncode == 0, done.stderr
        with (self._folder / "data" / "pg_hba.conf").open("a") as allowed:
            allowed.write("host all all samenet scram-sha-256\n")

    def start(self) -> None:
        """Start, also where processes of a killed server still have to notice that it is gone."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._has_started():
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log()[-4000:]}")
            time.sleep(0.05)

    def _has_started(self) -> bool:
        log = (self._folder / "log").open("ab")
        settings = [
            f"listen_addresses={self.host}",
            f"port={self.port}",
            "unix_socket_directories=",
            "max_connections=200",
            "password_encryption=scram-sha-256",
            *self._options,
        ]
        command = [str(_binary("postgres")), "-D", str(self._folder / "data")]
        with log:
            self._process = subprocess.Popen(
                [*command, *(part for setting in settings for part in ("-c", setting))],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                **_as_unprivileged(),
            )
        return self._answers()

    def stop(self) -> None:
        """Shut down and break off what is in progress."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the server's first process; the others notice and end. Its disk has what it had."""
        self._end(signal.SIGKILL)

    def create_database(self, template: str = "template0", encoding: str = "UTF8") -> str:
        """A database of its own; its URL."""
        name = f"test_{next(self._numbers)}"
        locale = "" if encoding == "UTF8" else " LOCALE 'C'"
        self._command(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING '{encoding}'{locale}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        self._command(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def _command(self, statement: str) -> None:
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.wait(START_TIMEOUT_S)

    def _answers(self) -> bool:
        """Wait for the server; False if it has ended instead."""
        engine = create_engine(self.url("postgres"))
        try:
            while self._process is not None and self._process.poll() is None:
                with suppress(OperationalError):
                    engine.connect().close()
                    return True
                time.sleep(0.05)
            return False
        finally:
            engine.dispose()


@contextmanager
def running_postgres(*, durable: bool = False, host: str = LOOPBACK) -> Iterator[PostgresServer]:
    """A server with no database of ours.

    Parameters
    ----------
    host : the address to listen on; its whole network may come in, with the password.
    durable : whether it writes as one in use does; without, it is faster and a power loss would ruin it.
    """
    folder = Path(tempfile.mkdtemp(prefix="headstart-postgres-"))
    server = PostgresServer(folder, () if durable else FORGETFUL, host)
    try:
        server.create_files()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _binary(name: str) -> Path:
    found = binaries()
    assert found is not None, "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    return found / name


def _give_away(*paths: Path) -> None:
    """PostgreSQL refuses to run as root, so its files belong to somebody else there."""
    if os.geteuid() == 0:
        for path in paths:
            shutil.chown(path, _user().pw_uid, _user().pw_gid)


def _as_unprivileged() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    user = _user()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "env": {**os.environ, "HOME": "/"}}


@cache
def _user() -> pwd.struct_passwd:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in UNPRIVILEGED if name in known)
