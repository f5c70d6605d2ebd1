"""`headstart extractors`: give extractors to servers that run, list them, take them back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.commands.terminal import FOLDER, read_settings, told

if TYPE_CHECKING:
    from service.registry import Registry


@click.group("extractors")
def command() -> None:
    """Extractors that every server on the same database finds without a restart."""


@command.command()
@click.argument("folder", type=FOLDER)
def add(folder: Path) -> None:
    """Check the extractor in FOLDER and give it to all servers. A second time writes its files anew."""
    with _registry() as registry:
        row = registry.register(folder)
    click.echo(f"{row.name} digest {row.digest[:12]}, {row.manifest['output']['dim']} dimensions")


@command.command("list")
def list_registered() -> None:
    """List the registered extractors: name, digest, dimensions, origin."""
    with _registry() as registry:
        rows = registry.store.extractors.list()
    for row in rows:
        click.echo(
            f"{row.name}  {row.digest[:12]}  {row.manifest['output']['dim']}  {row.origin.get('kind')}"
        )


@command.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete a registered extractor with its files and cached embeddings. Refused while a head needs it."""
    with _registry() as registry:
        dropped = registry.remove(name)
    click.echo(f"{name} is removed, with {dropped} cached embeddings")


@contextmanager
def _registry() -> "Iterator[Registry]":
    from service.registry import Registry
    from service.store import Store

    settings = read_settings()
    with told(), Store.open(settings.resolved_database_url, settings.resolved_blob_url) as store:
        store.migrate()
        yield Registry.of(settings, store)
