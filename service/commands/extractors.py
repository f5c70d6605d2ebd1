"""`headstart extractors`: give extractors to servers that run, list them, take them back."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.commands.terminal import FOLDER, read_settings, told

if TYPE_CHECKING:
    from service.embedding.registry import Registry


@click.group("extractors")
def command() -> None:
    """Extractors that every server on the same database finds without a restart."""


@command.command()
@click.argument("folder", type=FOLDER)
@click.option("--tenant", metavar="NAME", help="The one that may use it. Left out: all.")
def add(folder: Path, tenant: str | None) -> None:
    """Check the extractor in FOLDER and give it to all servers. A second time writes its files anew."""
    with _registry(tenant) as registry:
        row = registry.register(folder, tenant=tenant)
    click.echo(f"{row.name} digest {row.digest[:12]}, {row.manifest['output']['dim']} dimensions")


@command.command("list")
def list_registered() -> None:
    """List the registered extractors: name, digest, dimensions, origin."""
    with _registry() as registry:
        rows = registry.store.extractors.of_all_tenants()
    for row in rows:
        whose = f"  tenant {row.tenant}" if row.tenant else ""
        click.echo(
            f"{row.name}  {row.digest[:12]}  {row.manifest['output']['dim']}  {row.origin.get('kind')}{whose}"
        )


@command.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete a registered extractor with its files and cached embeddings. Refused while a head needs it."""
    with _registry() as registry:
        dropped = registry.remove(name)
    click.echo(f"{name} is removed, with {dropped} cached embeddings")


@command.command()
def prune() -> None:
    """Delete the fine-tuned extractors that no head and no version of a head needs any more."""
    from service.store import ExtractorInUseError

    with _registry() as registry:
        for row in registry.store.extractors.of_all_tenants():
            if row.origin.get("kind") == "finetuned":
                with suppress(ExtractorInUseError):
                    dropped = registry.remove(row.name)
                    click.echo(f"{row.name} is removed, with {dropped} cached embeddings")


@contextmanager
def _registry(tenant: str | None = None) -> "Iterator[Registry]":
    from service.embedding.registry import Registry
    from service.store import DEFAULT_TENANT, Caller, Store

    settings = read_settings()
    with told(), Store.open(settings.resolved_database_url, settings.resolved_blob_url) as store:
        store.migrate()
        yield Registry.of(settings, store.of(Caller(tenant=tenant or DEFAULT_TENANT)))
