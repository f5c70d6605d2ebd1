"""`headstart audit`: who changed what on the servers on a database."""

import json

import click

from service.commands.terminal import opened_store


@click.command("audit")
@click.option("--tenant", metavar="NAME", help="Only events of this tenant.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Newest events to show."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(tenant: str | None, limit: int, as_json: bool) -> None:
    """Show the audit log, newest first: time, tenant, actor, action, target, outcome, request id."""
    from service.routes.audit import describe_event
    from service.store import DEFAULT_TENANT, Caller

    with opened_store() as store:
        log = store.of(Caller(tenant=tenant or DEFAULT_TENANT)).audit
        events = log.list(limit=limit, all_tenants=tenant is None).items
    for event in events:
        if as_json:
            click.echo(json.dumps(describe_event(event)))
            continue
        detail = " ".join(f"{key}={value}" for key, value in event.detail.items())
        request = f" [{event.request_id}]" if event.request_id else ""
        click.echo(
            f"{event.at:%Y-%m-%d %H:%M:%S}  {event.tenant}  {event.actor}  {event.action}"
            f"  {event.target or '-'}  {event.outcome}  {detail}{request}"
        )
