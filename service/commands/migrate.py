"""`headstart migrate`: the tables brought up to date before a server of this version starts."""

import click

from service.commands.terminal import opened_store


@click.command("migrate")
def command() -> None:
    """Bring the database (HEADSTART_DATABASE_URL, or the one in HEADSTART_HOME) to this version's schema.

    Makes the tables where there are none. Servers of an older version are not ready from then on.
    """
    from service.store.schema import newest

    with opened_store():
        click.echo(f"the database is at schema {newest()}")
