"""`headstart tenants`: who shares the servers on a database without seeing each other's heads."""

from collections.abc import Callable
from typing import Any

import click

from service.commands.terminal import aligned, opened_store

AMOUNT = click.IntRange(0, 2**62)
COLUMNS = ("tenant", "heads", "examples", "bytes")


@click.group("tenants")
def command() -> None:
    """Tenants: each has heads, jobs, cached embeddings and keys of its own. `default` is always there."""


def _limits(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, about in (
        ("bytes", "Bytes of kept inputs and head files, at most."),
        ("examples", "Examples of all its heads, at most."),
        ("heads", "Heads, at most."),
    ):
        option = click.option(f"--max-{name}", name, type=AMOUNT, help=f"{about} Left out: no limit.")
        function = option(function)
    return function


@command.command()
@click.argument("name")
@_limits
def create(name: str, heads: int | None, examples: int | None, bytes: int | None) -> None:
    """Make a tenant."""
    from service.store import Limits

    with opened_store() as store:
        store.tenants.create(name, Limits(heads, examples, bytes))
    click.echo(f"{name} is made")


@command.command()
@click.argument("name")
@_limits
def limit(name: str, heads: int | None, examples: int | None, bytes: int | None) -> None:
    """Give a tenant these limits instead of those that it had. What it has stays."""
    from service.store import Limits

    with opened_store() as store:
        store.tenants.limit(name, Limits(heads, examples, bytes))
    click.echo(f"{name} has new limits")


@command.command("list")
def list_tenants() -> None:
    """List all tenants, with what each has and may have."""
    with opened_store() as store:
        rows = store.tenants.list()
    cells = [
        (
            row.name,
            _of(row.usage.heads, row.limits.heads),
            _of(row.usage.examples, row.limits.examples),
            _of(row.usage.bytes, row.limits.bytes),
        )
        for row in rows
    ]
    click.echo(aligned([COLUMNS, *cells]))


def _of(used: int, limit: int | None) -> str:
    return str(used) if limit is None else f"{used} of {limit}"
