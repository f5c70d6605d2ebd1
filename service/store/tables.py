"""The tables, as SQLAlchemy Core. Knows neither how they are written nor how they came to be.

Every statement of the store is built from these. A change here needs a migration; a test compares the two.

- A head's id is never given twice, so that what workers remember under (head id, number) stays true.
- An example refers to its embedding by a foreign key: no pruning and no race can take away
  the embedding of an example, because the database refuses it.
- A head's name is unique within its tenant. Jobs, examples and versions belong to the tenant of their head;
  an extractor without a tenant is for all. An embedding is of one tenant: see `embeddings.space`, which
  `extractor_digest` of `embeddings` and `examples` holds.
- Nothing but keys is indexed by a text that a client chose, save the name of a head and the labels of an
  input. A single-label head has one row for each input, which `commit` sees to.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)

DIGEST_LENGTH = 64  # sha256 in hexadecimal
ID_LENGTH = 32  # a UUID in hexadecimal
TASK_LENGTH = 16
BLOB_KEY_LENGTH = 255
KIND_LENGTH = 16
STATE_LENGTH = 16
WORKER_LENGTH = 255
KEY_ID_LENGTH = 16
SCOPE_LENGTH = 16
ACTOR_LENGTH = 300
ACTION_LENGTH = 64
REQUEST_ID_LENGTH = 128
IDEMPOTENCY_KEY_LENGTH = 255

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, in UTC in the database and in UTC when it comes back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite counts rows by itself only for a column called INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")
Digest = String(DIGEST_LENGTH)
BlobKey = String(BLOB_KEY_LENGTH)
# Names and labels are ordered by code point everywhere, so that a page means the same on every server.
ClientText = Text().with_variant(Text(collation="C"), "postgresql")

tenants = Table(
    "tenants",
    metadata,
    Column("name", ClientText, primary_key=True),
    Column("max_heads", BigInteger),
    Column("max_examples", BigInteger),
    Column("max_bytes", BigInteger),
    Column("created_at", UtcDateTime, nullable=False),
)

# Of a key only what cannot be turned back into it. `tokens` and `refilled_at` (seconds since 1970) are the
# bucket of its rate limit.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(KEY_ID_LENGTH), primary_key=True),
    Column("tenant", ClientText, ForeignKey("tenants.name"), nullable=False),
    Column("scope", String(SCOPE_LENGTH), nullable=False),
    Column("secret_sha256", Digest, nullable=False),
    Column("note", Text),
    Column("rate_per_s", Float),
    Column("burst", Integer),
    Column("tokens", Float),
    Column("refilled_at", Float(53)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("seq", RowId, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("tenant", ClientText, nullable=False),
    Column("actor", String(ACTOR_LENGTH), nullable=False),
    Column("request_id", String(REQUEST_ID_LENGTH)),
    Column("action", String(ACTION_LENGTH), nullable=False),
    Column("target", Text),
    Column("outcome", String(ACTION_LENGTH), nullable=False),
    Column("detail", JSON, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_audit_events_tenant_seq", audit_events.c.tenant, audit_events.c.seq)
Index("ix_audit_events_at", audit_events.c.at)

heads = Table(
    "heads",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("tenant", ClientText, ForeignKey("tenants.name"), nullable=False, server_default="default"),
    Column("name", ClientText, nullable=False),
    Column("extractor_name", Text, nullable=False),
    Column("extractor_digest", Digest, nullable=False),
    Column("task", String(TASK_LENGTH), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("published_version", Integer),
    Column("last_version", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("keep_inputs", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("tenant", "name"),
    sqlite_autoincrement=True,
)

embeddings = Table(
    "embeddings",
    metadata,
    Column("extractor_digest", Digest, primary_key=True),
    Column("sha256", Digest, primary_key=True),
    Column("size_bytes", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("vector", LargeBinary, nullable=False),  # last: SQLite then reads the rest without it
)
# Answers "how many bytes" and "which are the oldest" without touching the vectors.
Index("ix_embeddings_age", embeddings.c.created_at, embeddings.c.size_bytes)

examples = Table(
    "examples",
    metadata,
    Column("seq", RowId, primary_key=True, autoincrement=True),
    Column("id", String(ID_LENGTH), nullable=False, unique=True),
    Column("head_id", RowId, ForeignKey("heads.id", ondelete="CASCADE"), nullable=False),
    Column("extractor_digest", Digest, nullable=False),
    Column("sha256", Digest, nullable=False),
    Column("label", ClientText, nullable=False),
    Column("source_id", Text),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("head_id", "sha256", "label"),
    ForeignKeyConstraint(
        ["extractor_digest", "sha256"], ["embeddings.extractor_digest", "embeddings.sha256"]
    ),
    sqlite_autoincrement=True,
)
Index("ix_examples_head_id_seq", examples.c.head_id, examples.c.seq)
Index("ix_examples_embedding", examples.c.extractor_digest, examples.c.sha256)

kept_inputs = Table(
    "kept_inputs",
    metadata,
    Column("head_id", RowId, ForeignKey("heads.id", ondelete="CASCADE"), primary_key=True),
    Column("sha256", Digest, primary_key=True),
    Column("blob", BlobKey, nullable=False, unique=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

# Blobs that no row names any more, to be deleted after the commit that says so.
doomed_blobs = Table(
    "doomed_blobs",
    metadata,
    Column("key", BlobKey, primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("head_id", RowId, ForeignKey("heads.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("extractor_name", Text, nullable=False),
    Column("extractor_digest", Digest, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("parent_version", Integer),
    Column("examples_total", Integer, nullable=False),
    Column("classes", JSON, nullable=False),
    Column("options", JSON, nullable=False),
    Column("report", JSON, nullable=False),
    Column("warnings", JSON, nullable=False),
)

head_files = Table(
    "head_files",
    metadata,
    Column("head_id", RowId, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("sha256", Digest, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    ForeignKeyConstraint(["head_id", "number"], ["versions.head_id", "versions.number"], ondelete="CASCADE"),
)

extractors = Table(
    "extractors",
    metadata,
    Column("digest", Digest, primary_key=True),
    Column("name", ClientText, nullable=False, unique=True),
    Column("manifest", JSON, nullable=False),
    Column("origin", JSON, nullable=False),
    Column("blobs", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("tenant", ClientText, ForeignKey("tenants.name")),
)

jobs = Table(
    "jobs",
    metadata,
    Column("seq", RowId, primary_key=True, autoincrement=True),
    Column("id", String(ID_LENGTH), nullable=False, unique=True),
    Column("head_id", RowId, ForeignKey("heads.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(KIND_LENGTH), nullable=False),
    Column("state", String(STATE_LENGTH), nullable=False),
    Column("options", JSON, nullable=False),
    Column("fraction", Float, nullable=False),
    Column("stage", Text),
    Column("epoch", Integer),
    Column("epochs", Integer),
    Column("attempts", Integer, nullable=False),
    Column("worker", String(WORKER_LENGTH)),
    Column("lease_expires_at", UtcDateTime),
    Column("cancel_requested", Boolean, nullable=False),
    Column("result", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("last_event", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    sqlite_autoincrement=True,
)
Index("ix_jobs_state_seq", jobs.c.state, jobs.c.seq)
Index("ix_jobs_head_id_seq", jobs.c.head_id, jobs.c.seq)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", String(ID_LENGTH), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(KIND_LENGTH), nullable=False),
    Column("data", JSON, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(WORKER_LENGTH), primary_key=True),
    Column("seen_at", UtcDateTime, nullable=False),
)

# `body` and what is beside it are of the answer; `detail` tells what was done where no answer was kept.
idempotent_requests = Table(
    "idempotent_requests",
    metadata,
    Column("tenant", ClientText, ForeignKey("tenants.name"), primary_key=True),
    Column("key", String(IDEMPOTENCY_KEY_LENGTH), primary_key=True),
    Column("fingerprint", Digest, nullable=False),
    Column("token", String(ID_LENGTH), nullable=False),
    Column("state", String(STATE_LENGTH), nullable=False),
    Column("lease_until", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("status", Integer),
    Column("headers", JSON(none_as_null=True)),
    Column("detail", JSON(none_as_null=True)),
    Column("body", LargeBinary),
)
Index("ix_idempotent_requests_expires_at", idempotent_requests.c.expires_at)
