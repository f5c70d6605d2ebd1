"""A database file that is removed or replaced, what is said of it, and orphans of a crash."""

import os
import shutil
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.errors import api_error
from service.store import (
    BlobStore,
    DatabaseUrlError,
    SchemaError,
    Store,
    StoreCorruptedError,
    StoreUnavailableError,
)
from tests.service.api.conftest import Teach, app_engine, check, client, teach
from tests.service.store.databases import CHOSEN, SQLITE
from tests.service.store.postgres import PostgresServer
from tests.service.store.test_store import blob_url, change, url

__all__ = ["app_engine", "client", "teach"]


def move_away(folder: Path) -> list[tuple[Path, Path]]:
    (folder / "away").mkdir()
    moves = [(path, folder / "away" / path.name) for path in folder.glob("headstart.db*")]
    for path, away in moves:
        path.rename(away)
    return moves


@pytest.mark.skipif(CHOSEN != SQLITE, reason="of the file of a SQLite database")
def test_a_server_whose_database_was_removed_is_not_ready_and_recovers(
    client: TestClient, teach: Teach, tmp_path: Path
) -> None:
    teach("pets")
    assert client.get("/readyz").status_code == 200
    moves = move_away(tmp_path / "home")
    error = check(client.get("/readyz"), 503, "store_unavailable")
    assert str(tmp_path) not in error["message"]
    # Acknowledged into a file without a name, it would be lost.
    check(client.post("/v1/heads/pets/train"), 503, "store_unavailable")
    check(client.delete("/v1/heads/pets"), 503, "store_unavailable")
    assert not (tmp_path / "home" / "headstart.db").exists()
    for path, away in moves:
        away.rename(path)
    assert client.get("/readyz").status_code == 200
    assert client.post("/v1/heads/pets/train").json()["version"] == 2


def test_another_file_in_its_place_is_used_from_the_next_write_or_look_on(tmp_path: Path) -> None:
    with Store.open(url(tmp_path), blob_url(tmp_path)) as store:
        store.migrate()
        store.heads.commit(change("old", 1))
        (tmp_path / "other").mkdir()
        with Store.open(url(tmp_path / "other"), blob_url(tmp_path)) as other:
            other.migrate()
            other.heads.commit(change("restored", 1))
        for name in ("headstart.db-wal", "headstart.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        shutil.move(tmp_path / "other" / "headstart.db", tmp_path / "headstart.db")
        store.check()
        assert [row.head.name for row in store.heads.list().items] == ["restored"]
        store.heads.commit(change("new", 2))
    with Store.open(url(tmp_path), blob_url(tmp_path)) as again:
        assert [row.head.name for row in again.heads.list().items] == ["new", "restored"]


def test_what_clients_read_names_no_place_and_the_log_does(tmp_path: Path) -> None:
    database = tmp_path / "headstart.db"
    database.write_bytes(b"no database, but long enough to be taken for one" * 100)
    with (
        Store.open(url(tmp_path), blob_url(tmp_path)) as store,
        pytest.raises(StoreCorruptedError) as damaged,
    ):
        store.check()
    with (
        Store.open(url(tmp_path / "empty"), blob_url(tmp_path)) as store,
        pytest.raises(SchemaError) as empty,
    ):
        store.heads.list()
    (tmp_path / "blobs").write_bytes(b"")
    with pytest.raises(StoreUnavailableError) as blobs:
        BlobStore.open(str(tmp_path / "blobs")).put("inputs/a", b"")
    for caught in (damaged, empty, blobs):
        assert str(tmp_path) in str(caught.value)
        shown = api_error(caught.value)
        assert shown.status == 503
        assert str(tmp_path) not in shown.message


ORPHAN = """
import sys, time
from pathlib import Path
from service.store import Store
from tests.service.store.postgres import PostgresServer
from tests.service.store.test_store import blob_url, url
store = Store.open(url(Path(sys.argv[1])), blob_url(Path(sys.argv[1])))
store.inputs.write(b"of a request that is at work")
print("written", flush=True)
time.sleep(600)
"""


def test_orphans_of_a_killed_process_go_at_the_next_start_and_not_before(tmp_path: Path) -> None:
    with Store.open(url(tmp_path), blob_url(tmp_path)) as store:
        store.migrate()
    writer = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    with Store.open(url(tmp_path), blob_url(tmp_path)) as store:
        assert store.inputs.tidy() == 0
        assert len(list(store.blobs.entries("inputs"))) == 1
        writer.kill()
        writer.wait()
        writer.stdout.close()
        assert store.inputs.tidy() == 1
        assert list(store.blobs.entries("inputs")) == []


def test_the_lock_of_writers_is_one_file_however_many_callers(tmp_path: Path) -> None:
    with Store.open(url(tmp_path), blob_url(tmp_path)) as store:
        store.migrate()
        store.inputs.write(b"first")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            store.of(store.caller).inputs.write(b"more")
        assert len(os.listdir("/proc/self/fd")) <= before + 1
        # This process is at work itself.
        assert store.inputs.tidy() == 0
        assert store.inputs.tidy(timedelta(0)) == 51


@pytest.mark.skipif(CHOSEN == SQLITE, reason="of PostgreSQL")
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_postgresql_in_another_encoding_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path, encoding: str
) -> None:
    postgres: PostgresServer = request.getfixturevalue("postgres")
    address = postgres.create_database(encoding=encoding)
    with (
        Store.open(address, str(tmp_path)) as store,
        pytest.raises(DatabaseUrlError, match=f"must be in UTF8, and is in {encoding}"),
    ):
        store.migrate()


def test_a_postgresql_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/d?connect_timeout=2"
        with Store.open(address, str(tmp_path)) as store, pytest.raises(StoreUnavailableError):
            store.check()
