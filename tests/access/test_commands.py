"""`headstart keys`, `tenants` and `audit`; and that of a key nothing but its hash can be found afterwards."""

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from service.access.secrets import KEY
from service.cli import main
from service.commands.arguments import moment, rate

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path))

    def call(*arguments: str, status: int = 0) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == status, result.output
        return result

    return call


def test_a_key_is_shown_once_and_only_its_hash_is_kept(run: Run, tmp_path: Path) -> None:
    made = run(
        "keys", "create", "--scope", "predict", "--rate", "10/m", "--expires", "90d", "--note", "camera"
    )
    key = made.stdout.strip()
    found = KEY.fullmatch(key)
    assert found
    listed = run("keys", "list").stdout
    assert found[1] in listed
    for word in ("predict", "default", "0.1667/s, 10 at once", "valid", "camera"):
        assert word in listed
    logged = run("audit", "--json").stdout
    assert json.loads(logged)["target"] == found[1]
    with sqlite3.connect(tmp_path / "headstart.db") as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (listed, logged, made.stderr):
        assert found[2] not in text
    assert found[1].encode() in kept
    assert found[2].encode() not in kept


def test_keys_are_all_different_and_of_256_random_bits(run: Run) -> None:
    keys = [run("keys", "create", "--scope", "train").stdout.strip() for _ in range(5)]
    assert len({key.split("_")[1] for key in keys}) == len({key.split("_", 2)[2] for key in keys}) == 5
    assert {len(key.split("_", 2)[2]) for key in keys} == {43}  # base64 of 32 bytes


def test_a_key_is_revoked_by_its_id(run: Run) -> None:
    key_id = run("keys", "create", "--scope", "admin").stdout.split("_")[1]
    assert "is revoked" in run("keys", "revoke", key_id).stdout
    assert "was revoked before" in run("keys", "revoke", key_id).stdout
    assert "revoked" in run("keys", "list").stdout
    assert "there is no key" in run("keys", "revoke", "0" * 16, status=1).output
    told = [line.split("  ")[3] for line in run("audit").stdout.splitlines()]
    assert told == ["key.revoke", "key.create"]


def test_a_key_is_of_a_tenant_that_is_there(run: Run) -> None:
    assert (
        "headstart tenants create"
        in run("keys", "create", "--scope", "train", "--tenant", "shop", status=1).output
    )
    run("tenants", "create", "shop", "--max-heads", "3")
    run("keys", "create", "--scope", "train", "--tenant", "shop")
    assert "shop" in run("keys", "list").stdout
    rows = {line.split()[0]: line for line in run("tenants", "list").stdout.splitlines()}
    assert "0 of 3" in rows["shop"]
    run("tenants", "limit", "shop", "--max-examples", "9", "--max-bytes", "100")
    changed = {line.split()[0]: line for line in run("tenants", "list").stdout.splitlines()}["shop"]
    assert "of 3" not in changed
    assert "0 of 9" in changed
    assert "already" in run("tenants", "create", "shop", status=1).output
    assert "there is no tenant" in run("tenants", "limit", "nobody", status=1).output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--scope", "root"),
        (),
        ("--scope", "train", "--rate", "fast"),
        ("--scope", "train", "--rate", "0/s"),
        ("--scope", "train", "--expires", "yesterday"),
        ("--scope", "train", "--expires", "2020-01-01"),
        ("--scope", "train", "--note", "a\nb"),
    ],
)
def test_a_bad_argument_makes_no_key(run: Run, arguments: tuple[str, ...]) -> None:
    run("keys", "create", *arguments, status=2)
    assert len(run("keys", "list").stdout.splitlines()) == 1


def test_times_and_rates() -> None:
    now = datetime.now(UTC)
    assert abs(moment("90d") - now - timedelta(days=90)) < timedelta(minutes=1)
    assert moment("2999-01-31") == datetime(2999, 1, 31, tzinfo=UTC)
    assert moment("2999-01-31T10:00+02:00") == datetime(2999, 1, 31, 8, tzinfo=UTC)
    assert (rate("600/m"), rate("1/d")) == ((10.0, 600), (1 / 86400, 1))
    for text in ("", "10", "10/y", "-1/s", "1.5/s", " 1/s"):
        with pytest.raises(click.BadParameter):
            rate(text)
