"""The history of the tables: Alembic migrations, each with the tables as they were then."""
