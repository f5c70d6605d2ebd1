"""Tenants, API keys and the audit log. What was there belongs to the tenant `default`."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ClientText = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Digest = sa.String(64)
Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_tenants()
    create_api_keys()
    create_audit_events()
    give_heads_a_tenant()
    give_extractors_a_tenant()


def create_tenants() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("name", ClientText, nullable=False),
        sa.Column("max_heads", sa.BigInteger()),
        sa.Column("max_examples", sa.BigInteger()),
        sa.Column("max_bytes", sa.BigInteger()),
        sa.Column("created_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_tenants"),
    )
    op.bulk_insert(tenants, [{"name": "default", "created_at": datetime.now(UTC)}])


def create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("tenant", ClientText, nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("secret_sha256", Digest, nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("rate_per_s", sa.Float()),
        sa.Column("burst", sa.Integer()),
        sa.Column("tokens", sa.Float()),
        sa.Column("refilled_at", sa.Float(53)),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("expires_at", Time),
        sa.Column("revoked_at", Time),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_api_keys_tenants"),
    )


def create_audit_events() -> None:
    op.create_table(
        "audit_events",
        sa.Column("seq", RowId, autoincrement=True, nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("tenant", ClientText, nullable=False),
        sa.Column("actor", sa.String(300), nullable=False),
        sa.Column("request_id", sa.String(128)),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.Text()),
        sa.Column("outcome", sa.String(64), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_events_tenant_seq", "audit_events", ["tenant", "seq"])
    op.create_index("ix_audit_events_at", "audit_events", ["at"])


def give_heads_a_tenant() -> None:
    """A name is unique within its tenant.

    SQLite writes the table anew for that; the largest id that was ever given must survive it.
    """
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    given = sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'heads'")
    largest = connection.execute(given).scalar_one_or_none() if is_sqlite else None
    with op.batch_alter_table("heads", table_kwargs={"sqlite_autoincrement": True}) as heads:
        heads.add_column(sa.Column("tenant", ClientText, nullable=False, server_default="default"))
        heads.drop_constraint("uq_heads_name", type_="unique")
        heads.create_unique_constraint("uq_heads_tenant_name", ["tenant", "name"])
        heads.create_foreign_key("fk_heads_tenants", "tenants", ["tenant"], ["name"])
    if largest is not None:
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'heads'"))
        again = sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('heads', :largest)")
        connection.execute(again, {"largest": largest})


def give_extractors_a_tenant() -> None:
    """Those that are there stay for all."""
    with op.batch_alter_table("extractors") as extractors:
        extractors.add_column(sa.Column("tenant", ClientText))
        extractors.create_foreign_key("fk_extractors_tenants", "tenants", ["tenant"], ["name"])
