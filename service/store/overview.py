"""The published heads of all tenants as figures, for whoever watches the server. Knows no name of a head."""

from sqlalchemy import func, select

from service.store import tables
from service.store.database import Database
from service.store.records import HeadFigures

_heads = tables.heads
_versions = tables.versions

COUNT = select(func.count()).select_from(_heads)
ACCURACIES = (
    select(_versions.c.report["accuracy"].as_float())
    .select_from(_heads)
    .join(
        _versions, (_versions.c.head_id == _heads.c.id) & (_versions.c.number == _heads.c.published_version)
    )
)


class Overview:
    """Figures over all tenants; safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def heads(self) -> HeadFigures:
        """How many heads there are, and how accurate the published versions are.

        Raises
        ------
        StoreUnavailableError
        """
        with self._database.snapshot() as connection:
            count = connection.execute(COUNT).scalar_one()
            found = connection.execute(ACCURACIES).scalars()
            return HeadFigures(count, tuple(sorted(value for value in found if value is not None)))
