"""What alembic runs to migrate a register; see `nevus.register.register.Register`."""

from alembic import context
from sqlalchemy import text

from nevus.register.tables import metadata

LOCK = 7_405_113
"""Two servers that start at once on PostgreSQL migrate one after the other."""

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
    context.run_migrations()
