"""`headstart forget`: an input out of every head, cache and page of the database."""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.commands.terminal import opened_store, read_settings
from training.manifest import FILES

if TYPE_CHECKING:
    from service.store import Store

SHA256 = re.compile(r"[0-9a-f]{64}")


@click.command("forget")
@click.argument("what", metavar="SHA256|FILE")
@click.option("--retrain", is_flag=True, help="Train a new version, without it, of every head that had it.")
@click.option("--delete-versions", is_flag=True, help="Delete the versions that may have learned from it.")
def command(what: str, retrain: bool, delete_versions: bool) -> None:
    """Delete an input, by its sha256 or as a FILE, from all heads of all tenants, with every embedding of it.

    Then the SQLite file is written anew, for which writers wait. An input that was deleted before is scrubbed
    as well. Jobs that train on it are cancelled. Versions that learned from it stay unless told otherwise.
    """
    key = what if SHA256.fullmatch(what) else _digest(Path(what))
    with opened_store() as store:
        forgotten = store.forget(key)
        click.echo(f"{forgotten.embeddings} embeddings and {forgotten.answers} kept answers are deleted")
        for head in forgotten.heads:
            numbers = ", ".join(map(str, head.versions)) or "none"
            click.echo(f"{head.tenant}/{head.head}: {head.examples} examples; versions since: {numbers}")
        _end_jobs(store, [(head.tenant, head.head) for head in forgotten.heads])
        if retrain:
            _retrain([(head.tenant, head.head) for head in forgotten.heads])
        if delete_versions:
            for head in forgotten.heads:
                store.delete_versions(head)
                click.echo(f"{head.tenant}/{head.head}: these versions are deleted")
        for row in store.extractors.of_all_tenants():
            if _has_seen(store.blobs.get, row.blobs, row.manifest, key):
                click.echo(f"extractor {row.name} was trained on it and stays, as do the heads on it")
        store.scrub()


def _end_jobs(store: "Store", heads: list[tuple[str, str]]) -> None:
    """Cancel what trains on the input, and delete the folders of jobs that have ended.

    That of a job which a worker holds goes once the worker has let go of it.
    """
    from service.jobs.folders import remove_ended
    from service.store import Caller
    from service.store.records import UNFINISHED

    for tenant, name in heads:
        jobs = store.of(Caller(tenant)).jobs
        for state in UNFINISHED:
            for job in jobs.list(head=name, state=state).items:
                jobs.cancel(job.id)
                click.echo(f"{tenant}/{name}: job {job.id} is cancelled: it may have learned from it")
    remove_ended(store, read_settings().home.absolute() / "jobs")


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise click.BadParameter(f"expected a sha256 or a file: {error}", param_hint="SHA256|FILE") from error


def _has_seen(read: Callable[[str], bytes], blobs: str, manifest: Mapping[str, Any], sha256: str) -> bool:
    """Whether a fine-tuned extractor says that it was trained on the input."""
    return FILES.tuned in manifest["files"] and sha256.encode() in read(f"{blobs}/{FILES.tuned}")


def _retrain(heads: list[tuple[str, str]]) -> None:
    from service.engine import Engine
    from service.errors import ApiError
    from service.learning.train_options import TrainOptions
    from service.store import Caller
    from training.errors import HeadstartError

    engine = Engine.start(read_settings())
    try:
        for tenant, name in heads:
            try:
                taught = engine.of(Caller(tenant=tenant)).learner.train(name, TrainOptions(said=frozenset()))
                click.echo(f"{tenant}/{name}: version {taught.version} is trained without it")
            except (ApiError, HeadstartError) as error:
                click.echo(f"{tenant}/{name}: not trained anew: {error}", err=True)
    finally:
        engine.close()
