"""Kept inputs: which heads keep the bytes of their examples, where they are, and which are to be deleted.

A head that was there before keeps nothing, as its owner was told, until a PUT says otherwise.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Digest = sa.String(64)
BlobKey = sa.String(255)
Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    # Not in a batch: that would write the table anew, on SQLite without its AUTOINCREMENT.
    op.add_column("heads", sa.Column("keep_inputs", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "kept_inputs",
        sa.Column("head_id", RowId, nullable=False),
        sa.Column("sha256", Digest, nullable=False),
        sa.Column("blob", BlobKey, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("head_id", "sha256", name="pk_kept_inputs"),
        sa.UniqueConstraint("blob", name="uq_kept_inputs_blob"),
        sa.ForeignKeyConstraint(["head_id"], ["heads.id"], name="fk_kept_inputs_heads", ondelete="CASCADE"),
    )
    op.create_table(
        "doomed_blobs",
        sa.Column("key", BlobKey, nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_doomed_blobs"),
    )
