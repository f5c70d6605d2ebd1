"""The first tables: heads, their examples and versions, head files, embeddings."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ClientText = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Digest = sa.String(64)
Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_heads()
    create_embeddings()
    create_examples()
    create_versions()


def create_heads() -> None:
    op.create_table(
        "heads",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("name", ClientText, nullable=False),
        sa.Column("extractor_name", sa.Text(), nullable=False),
        sa.Column("extractor_digest", Digest, nullable=False),
        sa.Column("task", sa.String(16), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("published_version", sa.Integer()),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("updated_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_heads"),
        sa.UniqueConstraint("name", name="uq_heads_name"),
        sqlite_autoincrement=True,
    )


def create_embeddings() -> None:
    op.create_table(
        "embeddings",
        sa.Column("extractor_digest", Digest, nullable=False),
        sa.Column("sha256", Digest, nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("extractor_digest", "sha256", name="pk_embeddings"),
    )
    op.create_index("ix_embeddings_age", "embeddings", ["created_at", "size_bytes"])


def create_examples() -> None:
    op.create_table(
        "examples",
        sa.Column("seq", RowId, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("head_id", RowId, nullable=False),
        sa.Column("extractor_digest", Digest, nullable=False),
        sa.Column("sha256", Digest, nullable=False),
        sa.Column("label", ClientText, nullable=False),
        sa.Column("source_id", sa.Text()),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_examples"),
        sa.UniqueConstraint("id", name="uq_examples_id"),
        sa.UniqueConstraint("head_id", "sha256", "label", name="uq_examples_head_id_sha256_label"),
        sa.ForeignKeyConstraint(["head_id"], ["heads.id"], name="fk_examples_heads", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["extractor_digest", "sha256"],
            ["embeddings.extractor_digest", "embeddings.sha256"],
            name="fk_examples_embeddings",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_examples_head_id_seq", "examples", ["head_id", "seq"])
    op.create_index("ix_examples_embedding", "examples", ["extractor_digest", "sha256"])


def create_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("head_id", RowId, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("extractor_name", sa.Text(), nullable=False),
        sa.Column("extractor_digest", Digest, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("parent_version", sa.Integer()),
        sa.Column("examples_total", sa.Integer(), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("head_id", "number", name="pk_versions"),
        sa.ForeignKeyConstraint(["head_id"], ["heads.id"], name="fk_versions_heads", ondelete="CASCADE"),
    )
    op.create_table(
        "head_files",
        sa.Column("head_id", RowId, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sha256", Digest, nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("head_id", "number", name="pk_head_files"),
        sa.ForeignKeyConstraint(
            ["head_id", "number"],
            ["versions.head_id", "versions.number"],
            name="fk_head_files_versions",
            ondelete="CASCADE",
        ),
    )
