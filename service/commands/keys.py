"""`headstart keys`: make API keys, list them, revoke them. Works on the database; no server need run."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from service.commands.arguments import moment, rate
from service.commands.terminal import aligned, opened_store

if TYPE_CHECKING:
    from service.store import KeyRow

MAX_NOTE = 200
COLUMNS = ("id", "tenant", "scope", "rate", "made", "ends", "state", "note")


@click.group("keys")
def command() -> None:
    """API keys: who may call the servers on this database. From the first one on, every call needs one."""


@command.command()
@click.option(
    "--scope",
    type=click.Choice(("predict", "train", "admin")),
    required=True,
    help="predict: ask heads. train: also teach, change, delete and export them. admin: also the audit log.",
)
@click.option(
    "--tenant", default="default", show_default=True, metavar="NAME", help="Whose heads the key is for."
)
@click.option("--expires", type=moment, metavar="TIME", help="90d, 12h, or a date. Left out: never.")
@click.option("--rate", "limit", type=rate, metavar="N/UNIT", help="10/s, 600/m, 5000/d. Left out: no limit.")
@click.option("--note", metavar="TEXT", help="For whom or what it is.")
def create(
    scope: str, tenant: str, expires: datetime | None, limit: tuple[float, int] | None, note: str | None
) -> None:
    """Make a key and print it. It is shown this once: the database only has a hash of it."""
    from service.access.secrets import Secret
    from service.store import NewKey

    if note is not None and (len(note) > MAX_NOTE or not note.isprintable()):
        raise click.BadParameter(f"expected at most {MAX_NOTE} printable characters", param_hint="--note")
    secret = Secret.new()
    rate_per_s, burst = limit or (None, None)
    key = NewKey(secret.id, tenant, scope, secret.digest, note, rate_per_s, burst, expires)
    with opened_store() as store:
        store.keys.add(key)
    click.echo(secret.text)
    click.echo("Keep it: it is not shown again. Send it as `Authorization: Bearer KEY`.", err=True)


@command.command("list")
def list_keys() -> None:
    """List all keys: id, tenant, scope, rate, when made, when it ends, state, note. Never the key itself."""
    with opened_store() as store:
        rows = store.keys.list()
    click.echo(aligned([COLUMNS, *(_cells(row) for row in rows)]))


@command.command()
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """Refuse the key with this ID from now on, on every server. ID is the part after `hs_`."""
    with opened_store() as store:
        changed = store.keys.revoke(key_id)
    click.echo(f"{key_id} is revoked" if changed else f"{key_id} was revoked before")


def _cells(row: "KeyRow") -> tuple[str, ...]:
    now = datetime.now(UTC)
    state = "valid" if row.is_usable(now) else "revoked" if row.revoked_at else "expired"
    return (
        row.id,
        row.tenant,
        row.scope,
        "" if row.rate_per_s is None else f"{row.rate_per_s:.4g}/s, {row.burst} at once",
        f"{row.created_at:%Y-%m-%d}",
        "" if row.expires_at is None else f"{row.expires_at:%Y-%m-%d %H:%M}",
        state,
        row.note or "",
    )
