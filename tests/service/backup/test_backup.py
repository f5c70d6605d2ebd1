"""A backup holds one moment of a home, byte for byte, and a restore brings back all of it or nothing.

The move to PostgreSQL that docs/guide/backup.md shows is run here.
"""

import io
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from click.testing import CliRunner, Result

from benchmarks.server import ROOT
from service.backup import BackupDamagedError, BackupError, back_up, restore, writing
from service.backup.scratch import PREFIX
from service.cli import main
from service.config import Settings
from service.embedding.registry import Registry
from service.store import (
    HomeInUseError,
    HomeNotEmptyError,
    SchemaError,
    Store,
    StoreUnavailableError,
    schema,
)
from service.store.database import Database
from tests.service.backup.homes import TRAIN, at, require_consistent, started, teach
from tests.service.conftest import batch
from tests.service.images import png
from tests.service.store.postgres import PostgresServer

KILLS = 5


@pytest.fixture
def taught(settings: Settings, second_folder: Path) -> Settings:
    """A home with two heads and a registered extractor."""
    with started(settings) as engine:
        teach(engine, "pets")
        teach(engine, "others", 10, 14, keep=False)
        Registry.of(engine.settings, engine.store).register(second_folder)
    return settings


def opened(settings: Settings) -> Store:
    return Store.open(settings.resolved_database_url, settings.resolved_blob_url)


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_a_home_comes_back_as_it_was(taught: Settings, tmp_path: Path, name: str) -> None:
    written = back_up(taught, tmp_path / name)
    there = at(taught, tmp_path / "there")
    done = restore(there, tmp_path / name)
    assert done.blobs == 12 + 2
    assert written.files == 1 + done.blobs + 3
    with started(taught) as before, started(there) as after:
        assert require_consistent(after.store) == 2
        for head in ("pets", "others"):
            assert after.store.heads.summary(head) == before.store.heads.summary(head)
            question = batch(("?", png(40)))
            answers = [
                engine.predictor.predict(head, question, version=None, threshold=None, skip_bad=False)
                for engine in (before, after)
            ]
            assert (answers[0].prediction.probabilities == answers[1].prediction.probabilities).all()
        assert after.store.extractors.list() == before.store.extractors.list()
        assert after.embedders.named("second").extractor.digest
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_extractors_travel_along_and_old_ones_stay(taught: Settings, tmp_path: Path) -> None:
    back_up(taught, tmp_path / "copy")
    there = at(taught, tmp_path / "there")
    mine = there.home / "extractors" / "tiny"
    assert restore(there, tmp_path / "copy").extractors == ("tiny",)
    with started(replace(there, extractors=("tiny",))) as engine:
        assert require_consistent(engine.store) == 2
    (mine / "manifest.json").write_text("mine")
    assert restore(there, tmp_path / "copy", replace_all=True).extractors == ()
    assert (mine / "manifest.json").read_text() == "mine"


def test_nothing_is_written_over(taught: Settings, tmp_path: Path) -> None:
    back_up(taught, tmp_path / "copy")
    with pytest.raises(BackupError, match="never written over"):
        back_up(taught, tmp_path / "copy")
    with pytest.raises(HomeNotEmptyError, match="--replace"):
        restore(taught, tmp_path / "copy")
    with started(taught) as engine:
        teach(engine, "later", 20, 24)
        with pytest.raises(StoreUnavailableError, match="stop the servers"):
            restore(taught, tmp_path / "copy", replace_all=True)
        assert engine.store.heads.find("later")
    restore(taught, tmp_path / "copy", replace_all=True)
    with started(taught) as engine:
        assert engine.store.heads.find("later") is None
        assert require_consistent(engine.store) == 2
        assert len(list(engine.store.blobs.entries("inputs"))) == 12


def _alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _first(copy: Path, pattern: str) -> Path:
    return sorted(copy.glob(pattern))[0]


DAMAGES = {
    "database": lambda copy: _alter(copy / "headstart.db"),
    "blob": lambda copy: _alter(_first(copy, "blobs/inputs/*/*")),
    "extractor": lambda copy: _alter(_first(copy, "extractors/*/model.onnx")),
    "missing": lambda copy: _first(copy, "blobs/inputs/*/*").unlink(),
    "added": lambda copy: (copy / "blobs" / "more").write_bytes(b"x"),
    "linked": lambda copy: (copy / "blobs" / "more").symlink_to("/etc/hostname"),
    "no manifest": lambda copy: (copy / "manifest.json").unlink(),
    "no json": lambda copy: (copy / "manifest.json").write_bytes(b"[" * 100_000),
}


def test_a_damaged_backup_touches_nothing(taught: Settings, tmp_path: Path) -> None:
    back_up(taught, tmp_path / "copy")
    there = at(taught, tmp_path / "there")
    for name, damage in DAMAGES.items():
        damaged = tmp_path / name
        shutil.copytree(tmp_path / "copy", damaged)
        damage(damaged)
        with pytest.raises(BackupDamagedError):
            restore(there, damaged)
    assert not there.home.exists() or not any(path.is_file() for path in there.home.rglob("*"))


def _manifest(copy: Path, **changed: object) -> None:
    document = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(document | changed))


def test_names_that_lead_elsewhere_are_refused(taught: Settings, tmp_path: Path) -> None:
    back_up(taught, tmp_path / "copy")
    files = json.loads((tmp_path / "copy" / "manifest.json").read_text())["files"]
    entry = {"sha256": "0" * 64, "size_bytes": 0}
    for name in (
        "../x",
        "/etc/x",
        "blobs/../x",
        "blobs/a/../../x",
        "extractors/a/b/c",
        "extractors/../x",
        "x",
    ):
        _manifest(tmp_path / "copy", files=files | {name: entry})
        with pytest.raises(BackupDamagedError, match="damaged"):
            restore(at(taught, tmp_path / "there"), tmp_path / "copy")
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        link = tarfile.TarInfo("blobs")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("manifest.json"), io.BytesIO())
    with pytest.raises(BackupDamagedError, match="no plain file"):
        restore(at(taught, tmp_path / "there"), tmp_path / "evil.tar")


def test_newer_backups_are_refused(taught: Settings, tmp_path: Path) -> None:
    back_up(taught, tmp_path / "copy")
    _manifest(tmp_path / "copy", schema="9999")
    with pytest.raises(SchemaError, match="newer"):
        restore(at(taught, tmp_path / "there"), tmp_path / "copy")
    _manifest(tmp_path / "copy", schema=schema.newest(), format_version=2)
    with pytest.raises(BackupDamagedError, match="newer"):
        restore(at(taught, tmp_path / "there"), tmp_path / "copy")


def test_a_backup_of_an_older_schema_is_migrated(settings: Settings, tmp_path: Path) -> None:
    old = Database(settings.resolved_database_url)
    with old.migrating() as connection:
        command.upgrade(schema._config(connection), "0001")
        connection.exec_driver_sql(
            "INSERT INTO heads (id, name, extractor_name, extractor_digest, task, revision, last_version,"
            " created_at, updated_at) VALUES (7, 'old', 'tiny', 'd', 'single_label', 1, 0,"
            " '2026-01-01 00:00:00', '2026-01-01 00:00:00')"
        )
    old.close()
    back_up(settings, tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "manifest.json").read_text())["schema"] == "0001"
    there = at(settings, tmp_path / "there")
    restore(there, tmp_path / "copy")
    with opened(there) as store:
        store.check()
        assert store.heads.get("old").id == 7


@pytest.mark.parametrize(("rounds", "left"), [(1, 11), (4, 11)])
def test_inputs_that_are_deleted_meanwhile_are_not_named(
    taught: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int, left: int
) -> None:
    """Each time that the rows were copied, an example goes before its blob is read."""
    with started(taught) as engine:
        write = Store.write_copy
        victims = iter(engine.store.examples.list("pets").items)

        def remove_after(store: Store, path: Path) -> str:
            found = write(store, path)
            engine.learner.remove("pets", next(victims).id, train=None)
            return found

        monkeypatch.setattr(Store, "write_copy", remove_after)
        monkeypatch.setattr(writing, "ROUNDS", rounds)
        written = back_up(taught, tmp_path / "copy")
    assert written.inputs_gone == (rounds == 1)  # else the rows were copied anew
    there = at(taught, tmp_path / "there")
    restore(there, tmp_path / "copy")
    with opened(there) as store:
        head = store.heads.get("pets")
        support = store.examples.support_set(head.id)
        readers = store.inputs.of(head.id)
        assert len({read() for read in readers.values()}) == left
        assert len(support) == left + written.inputs_gone


def test_the_commands(taught: Settings, tmp_path: Path, tiny_folder: Path) -> None:
    archive = str(tmp_path / "b.tar")

    def run(home: Path, *arguments: str) -> Result:
        environ = {"HEADSTART_HOME": str(home), "HEADSTART_EXTRACTORS": str(tiny_folder)}
        return CliRunner().invoke(main, arguments, env=environ)

    assert run(taught.home, "backup", archive).exit_code == 0
    assert Path(archive).stat().st_mode & 0o077 == 0
    there = tmp_path / "there"
    assert run(there, "restore", archive).exit_code == 0
    again = run(there, "restore", archive)
    assert again.exit_code == 1
    assert "--replace" in again.output
    assert run(there, "restore", "--replace", archive).exit_code == 0
    with opened(at(taught, there)) as store:
        assert require_consistent(store) == 2


@pytest.mark.long
def test_a_home_moves_to_postgresql_and_back(
    taught: Settings, tmp_path: Path, postgres: PostgresServer
) -> None:
    back_up(taught, tmp_path / "copy")
    there = replace(at(taught, tmp_path / "there"), database_url=postgres.create_database())
    restore(there, tmp_path / "copy")
    with pytest.raises(HomeNotEmptyError):
        restore(there, tmp_path / "copy")
    with started(there) as engine:
        assert require_consistent(engine.store) == 2
        teach(engine, "later", 20, 24)
        with pytest.raises(HomeInUseError):
            restore(there, tmp_path / "copy", replace_all=True)
        assert require_consistent(engine.store) == 3
        written = back_up(there, tmp_path / "again")
    assert written.inputs_gone == 0
    with opened(there) as store, opened(taught) as first:
        assert store.heads.get("pets") == first.heads.get("pets")
        assert store.heads.get("later").id > store.heads.get("others").id
    back = at(taught, tmp_path / "back")
    restore(back, tmp_path / "again")
    with opened(back) as store:
        assert require_consistent(store) == 3
    restore(there, tmp_path / "copy", replace_all=True)
    with opened(there) as store:
        assert require_consistent(store) == 2


@pytest.mark.long
def test_a_backup_under_load_is_of_one_moment(taught: Settings, tmp_path: Path) -> None:
    with started(taught) as engine:
        stop = threading.Event()
        writes = [0, 0, 0]

        def write(who: int) -> None:
            number = 1000 * (who + 1)
            while not stop.is_set():
                number += 1
                teach(engine, f"head{who}", number, number + 2)
                added = engine.learner.add(
                    f"head{who}", batch(("dark", png(256 * number + 90))), train=TRAIN, skip_bad=False
                )
                engine.learner.remove(f"head{who}", added.example_ids[0], train=None)
                if number % 5 == 0:
                    engine.store.heads.delete(f"head{who}")
                writes[who] += 1

        threads = [threading.Thread(target=write, args=(who,)) for who in range(len(writes))]
        for thread in threads:
            thread.start()
        for number in range(8):
            before = sum(writes)
            back_up(taught, tmp_path / f"copy{number}")
            while sum(writes) == before:
                time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
    gone = 0
    for number in range(8):
        there = at(taught, tmp_path / f"there{number}")
        lost = restore(there, tmp_path / f"copy{number}").contents.inputs_gone
        gone += lost
        with opened(there) as store:
            assert require_consistent(store, inputs_gone=lost) >= 2
    print(f"\n8 backups during {sum(writes)} rounds of writes are whole; {gone} inputs went meanwhile")


def _killed(arguments: list[str], home: Path, extractor: Path, after_s: float) -> bool:
    """Whether a command was killed before its end; it may have left something in its home only."""
    temporary = home.with_name("temporary")
    temporary.mkdir(exist_ok=True)
    environ = {
        "HEADSTART_HOME": str(home),
        "HEADSTART_EXTRACTORS": str(extractor),
        "PATH": "/usr/bin:/bin",
        "TMPDIR": str(temporary),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli", *arguments],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    was_killed = process.wait() == -signal.SIGKILL
    assert list(temporary.iterdir()) == []
    return was_killed


def _whole(settings: Settings) -> int:
    """The heads of a home that is whole, 0 for one without any."""
    path = settings.home / "headstart.db"
    if not path.exists():
        return 0
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with opened(settings) as store:
        return require_consistent(store)


@pytest.mark.long
def test_kills_leave_no_half_backup_and_no_half_restore(
    taught: Settings, tmp_path: Path, tiny_folder: Path
) -> None:
    with started(taught) as engine:
        for number in range(6):
            teach(engine, f"more{number}", 100 * number, 100 * number + 15)
    start = time.monotonic()
    back_up(taught, tmp_path / "whole.tar")
    spent_s = time.monotonic() - start
    killed = {"backup": 0, "restore": 0}
    left = {"nothing": 0, "everything": 0}
    started_up_s = 0.35  # importing
    for number in range(KILLS):
        after_s = started_up_s + spent_s * 1.5 * number / KILLS
        target = tmp_path / "killed.tar"
        killed["backup"] += _killed(["backup", str(target)], taught.home, tiny_folder, after_s)
        if target.exists():
            restore(at(taught, tmp_path / f"from{number}"), target)
            target.unlink()
        there = at(taught, tmp_path / f"to{number}")
        arguments = ["restore", str(tmp_path / "whole.tar")]
        killed["restore"] += _killed(arguments, there.home, tiny_folder, after_s)
        heads = _whole(there)
        assert heads in (0, 8)
        left["everything" if heads else "nothing"] += 1
        if not heads:
            restore(there, tmp_path / "whole.tar")
            assert _whole(there) == 8
            assert list(there.home.glob(f"{PREFIX}*")) == []
        shutil.rmtree(there.home)
    back_up(taught, target)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert min(killed.values()) > 0
    print(f"\nkilled: {killed}; a restore left: {left}")
